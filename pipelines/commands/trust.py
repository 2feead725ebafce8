"""The command `trust`: folders outside of the working folder whose studies may be loaded, and their code run."""

from pathlib import Path
from typing import Annotated

import typer

from secateur.pipelines.commands.shell import AsJson, say, tell

Folder = Annotated[Path | None, typer.Argument(metavar="FOLDER", help="A folder of studies.", show_default=False)]
Remove = Annotated[bool, typer.Option("--remove", help="Trust it no longer.")]


def trust(folder: Folder = None, remove: Remove = False, as_json: AsJson = False) -> None:
    """Trust a folder of studies outside of the working folder, or list the trusted folders.

    A study may name Python code of yours or of others, and its run executes that code. Studies that ship and studies
    below the working folder need no record.
    """
    from secateur.pipelines.studies.folders import SHIPPED
    from secateur.pipelines.studies.trust import record, recorded
    from secateur.pipelines.studies.trust import trust as record_folder

    if remove and folder is None:
        raise ValueError("--remove needs the folder")
    folders = record_folder(folder, remove=remove) if folder else recorded()
    answer = {
        "shipped": str(SHIPPED),
        "working_folder": str(Path.cwd()),
        "recorded": [str(each) for each in folders],
        "record": str(record()),
    }

    def show() -> None:
        say(f"{answer['shipped']} (studies that ship)")
        say(f"{answer['working_folder']} (the working folder)")
        for each in folders:
            say(f"{each} (recorded{'' if each.is_dir() else '; no such folder now'})")

    tell(answer, as_json, show)
