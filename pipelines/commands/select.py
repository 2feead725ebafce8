"""The command `secateur select`: of a study, or of a file of data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from secateur.pipelines.commands import select_data as data
from secateur.pipelines.commands.shell import (
    AsJson,
    find_samples_study,
    out,
    resumable,
    say,
    say_findings,
    table_of,
    tell,
)
from secateur.pipelines.commands.studies import in_words, make, manifest_at
from secateur.pipelines.commands.trials import Again, Seeds, Selections, Wait, trials_of
from secateur.pipelines.files.addresses import is_url
from secateur.pipelines.storage.home import marked_home

What = Annotated[
    str,
    typer.Argument(
        metavar="STUDY|DATA",
        help="A study's name or YAML file, or a CSV, JSON-lines or Parquet file, or a folder of them.",
        show_default=False,
    ),
]
Amounts = Annotated[
    list[str] | None,
    typer.Option(
        "--keep", metavar="BUDGET", help="Of a study one of its budgets; of data 0.3, 5000 or tokens=2000000."
    ),
]


def select(
    context: typer.Context,
    name: What,
    selection: Selections = None,
    keep: Amounts = None,
    seed: Seeds = None,
    again: Again = False,
    wait: Wait = False,
    score: data.Score = None,
    selector: data.SelectorName = None,
    end: data.End = None,
    settings: data.Set = None,
    group: data.Group = None,
    by: data.By = None,
    share: data.Shares = None,
    label: data.Label = None,
    embeddings: data.Embeddings = None,
    target: data.Target = None,
    target_task: data.TargetTask = None,
    text: data.TextColumn = None,
    key: data.Key = None,
    to: data.To = None,
    file: data.Out = None,
    twin: data.Twin = True,
    overwrite: data.Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Choose rows to keep: of a study, as a manifest of each selection, or of a file of data, by a score of its own.

    An argument that is a path of data names data; any other name, or a YAML file, names a study. For data the kept rows
    are written unchanged where the format stays the same, and beside them a random choice of equal size.
    """
    if is_data(name):
        refuse(name, "a study", {"--selection": selection, "--again": again, "--wait": wait})
        asked = {option.name: context.params[option.name] for option in options_in(context, data.DATA) if option.name}
        data.select_data(name, keep, seed, asked, as_json=as_json)
        return
    refuse_said(context, name, data.DATA)
    select_of_study(name, selection, keep, seed, again=again, wait=wait, as_json=as_json)


def is_data(name: str) -> bool:
    """Whether an argument is data: an existing path and no YAML file, unless it is the bare name of a study."""
    from secateur.pipelines.studies.files import own_studies
    from secateur.pipelines.studies.folders import shipped_files

    if is_url(name):
        return True
    if not Path(name).expanduser().exists():
        return bool(Path(name).suffix) and not name.endswith((".yaml", ".yml"))
    if name.endswith((".yaml", ".yml")):
        return False
    return not name.isidentifier() or name not in {*shipped_files(), *(file.name for file in own_studies())}


def options_in(context: typer.Context, panel: str) -> list[Any]:
    """The options of a command in a panel of its help."""
    return [option for option in context.command.params if getattr(option, "rich_help_panel", None) == panel]


def refuse_said(context: typer.Context, name: str, panel: str) -> None:
    """Raise ValueError for an option of data, those of the panel, that the user gave with a study."""
    sources = {option: context.get_parameter_source(option.name or "") for option in options_in(context, panel)}
    said = [option for option, source in sources.items() if source and source.name != "DEFAULT"]
    refuse(name, "a file of data", {(option.secondary_opts or option.opts)[0]: True for option in said})


def refuse(name: str, of: str, options: dict[str, Any]) -> None:
    """Raise ValueError for an option that does not apply to the argument."""
    if unread := [option for option, value in options.items() if value]:
        raise ValueError(f"{unread[0]} is an option of {of}, and {name} is none: leave it out")


@resumable()
def select_of_study(
    name: str,
    selection: list[str] | None,
    keep: list[str] | None,
    seed: list[int] | None,
    *,
    again: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Choose samples of a study, after scoring where necessary, and write a manifest of each selection."""
    from secateur.pipelines.manifests.manifest import Manifest
    from secateur.pipelines.runs.findings import findings_of
    from secateur.pipelines.runs.yardstick import beside_in
    from secateur.pipelines.storage.store import Store

    (file, study), store = find_samples_study(name), Store(marked_home() / "assets")
    trials = trials_of(study, selection, keep, seed)
    whole = len(trials) == len(list(study.trials))
    made = make(file, store, "subsets", None if whole else trials, again=again, wait=wait)
    trials = made.trials
    subsets: list[dict[str, Any]] = []
    for trial in trials:
        path = manifest_at(store, study, trial)
        if path is None:  # an in-training selection keeps other samples in every epoch
            continue
        declared = Manifest.load(Path(path), verify=False).declaration
        shares = [counted.after / counted.before for counted in declared.payload.classes if counted.before]
        subsets.append(
            {"selection": trial.selection, "seed": trial.seed, "kept": declared.count, "of": declared.of}
            | {"least_of_a_class": min(shares), "most_of_a_class": max(shares), "manifest": path}
        )

    findings = findings_of(store, study, known=beside_in(store, study, {}))

    def show() -> None:
        say_findings(findings)
        ends = ("least_of_a_class", "most_of_a_class")
        lines = [
            (*(one[name] for name in ("selection", "seed", "kept", "of")), *(f"{one[name]:.1%}" for name in ends))
            for one in subsets
        ]
        header = ("selection", "seed", "kept", "of", "least of a stratum", "most")
        out.print(table_of(header, lines, right=range(1, 6)))
        say(f"{in_words(made)}; manifests in {store.root / study.name / 'manifest'}/SELECTION/SEED")

    tell({"study": file.name, "findings": findings, "subsets": subsets, **made.counts()}, as_json, show)
