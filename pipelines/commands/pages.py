"""The command `open`: the page of a study's report in the browser."""

import webbrowser

from secateur.pipelines.commands.shell import AsJson, StudyName, caution, find_study, say, tell


def open_report(name: StudyName, as_json: AsJson = False) -> None:
    """Open the report of a study's last run in the browser; with --json, only print its path."""
    from secateur.pipelines.storage.home import ASSETS, home
    from secateur.pipelines.storage.store import Store

    file, study = find_study(name)
    folder = Store(home() / ASSETS).find((study.name, "report"))
    if folder is None:
        raise ValueError(f"study {file.name} has no report yet: secateur run {file.name}")
    page = folder / "report.html"
    if not as_json and not webbrowser.open(page.absolute().as_uri()):
        caution("there is no browser here to open it in")
    tell({"study": file.name, "report_file": str(page)}, as_json, lambda: say(str(page)))
