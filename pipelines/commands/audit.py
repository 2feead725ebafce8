"""The command `secateur audit`: leaks, copies, wrong labels and oddities of data, in words, as files, with limits."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.audit_files import finished, refuse
from secateur.pipelines.commands.audit_study import audit_of_study
from secateur.pipelines.commands.select import is_data
from secateur.pipelines.commands.select import refuse as refuse_option
from secateur.pipelines.commands.shell import NO, READING, AsJson, bar, complain
from secateur.pipelines.commands.trials import Again, Wait

if TYPE_CHECKING:
    from secateur.pipelines.audits.auditing import Audited, How
    from secateur.pipelines.audits.limits import Limit
    from secateur.pipelines.front_door.audit_data import Given

BESIDE, COLUMNS, FILES = "Benchmark to compare training with", "Columns", "Files"
LIMITS = "Limits: 0, 12 or 1%; exit code 1 where one is exceeded"
What = Annotated[
    str,
    typer.Argument(
        metavar="STUDY|DATA",
        help="A study's name or YAML file; or a CSV, JSON-lines or Parquet file, a folder of them or of pictures.",
        show_default=False,
    ),
]
Test = Annotated[str | None, typer.Option(metavar="DATA", help="Test rows.", rich_help_panel=BESIDE)]
Target = Annotated[str | None, typer.Option(metavar="DATA", help="Examples of a job.", rich_help_panel=BESIDE)]
Against = Annotated[
    list[str] | None,
    typer.Option(metavar="DATA", help="A benchmark, of a study, too; may be repeated.", rich_help_panel=BESIDE),
]
Label = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN", help="Labels; may be repeated.", rich_help_panel=COLUMNS)
]
NoLabel = Annotated[bool, typer.Option("--no-label", help="Look at no labels.", rich_help_panel=COLUMNS)]
Text = Annotated[
    str | None, typer.Option("--text", metavar="COLUMN", help="Texts, or chat messages.", rich_help_panel=COLUMNS)
]
Image = Annotated[str | None, typer.Option(metavar="COLUMN", help="Pictures, or their paths.", rich_help_panel=COLUMNS)]
Features = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN", help="A feature; may be repeated.", rich_help_panel=COLUMNS)
]
Group = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Rows of equal values belong together.", rich_help_panel=COLUMNS)
]
Key = Annotated[str | None, typer.Option("--key", metavar="COLUMN", help="Ids of your own.", rich_help_panel=COLUMNS)]
Task = Annotated[
    str | None,
    typer.Option(metavar="TASK", help="classification, regression or multi_label.", rich_help_panel=COLUMNS),
]
Page = Annotated[Path | None, typer.Option(help="Write the page, which stands alone.", rich_help_panel=FILES)]
Findings = Annotated[
    Path | None, typer.Option(help="Write all rows of the findings, as .csv or .parquet.", rich_help_panel=FILES)
]
Write = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Write a folder with both, and manifests and exports for programs in which people mark samples.",
        rich_help_panel=FILES,
    ),
]
Marks = Annotated[
    Path | None,
    typer.Option(metavar="CSV", help="Marks saved from the page: how many findings are right.", rich_help_panel=FILES),
]
NoSamples = Annotated[bool, typer.Option("--without-samples", help="Write no content of rows.", rich_help_panel=FILES)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.", rich_help_panel=FILES)]
Charset = Annotated[
    str | None, typer.Option(metavar="NAME", help="Encoding of CSV files, such as latin-1.", rich_help_panel=COLUMNS)
]
Near = Annotated[bool, typer.Option("--near/--exact", help="Look for near copies, or for equal rows alone.")]
Seed = Annotated[int, typer.Option(help="Of draws.", min=0)]
Probabilities = Annotated[
    Path | None,
    typer.Option(metavar="NPY", help="Of your own model, one row of classes for each training row: they judge labels."),
]
By = Annotated[
    str | None,
    typer.Option(metavar="cleanlab", help="Rank and count wrong labels by cleanlab instead, of the same predictions."),
]
Embeddings = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WHAT",
        help="Compare by vectors, too: FILE.npy of the training rows and PART=FILE.npy of others, a column, or the "
        "name or folder of a pretrained model.",
    ),
]
MaxLeaks = Annotated[
    str | None,
    typer.Option(metavar="LIMIT", help="Rows outside training that it has.", rich_help_panel=LIMITS),
]
MaxDuplicates = Annotated[
    str | None, typer.Option(metavar="LIMIT", help="Training rows more than needed.", rich_help_panel=LIMITS)
]
MaxWrong = Annotated[
    str | None,
    typer.Option(
        "--max-wrong-labels", metavar="LIMIT", help="Training labels estimated to be wrong.", rich_help_panel=LIMITS
    ),
]
MaxOverlap = Annotated[
    str | None,
    typer.Option(
        metavar="LIMIT",
        help="Benchmark texts that share 13 words in a row with training, or half their words.",
        rich_help_panel=LIMITS,
    ),
]
MaxConflicts = Annotated[
    str | None,
    typer.Option(metavar="LIMIT", help="Training rows of equal input and other labels.", rich_help_panel=LIMITS),
]


def audit(
    name: What,
    test: Test = None,
    target: Target = None,
    against: Against = None,
    label: Label = None,
    no_label: NoLabel = False,
    text: Text = None,
    image: Image = None,
    features: Features = None,
    group: Group = None,
    key: Key = None,
    task: Task = None,
    charset: Charset = None,
    near: Near = True,
    seed: Seed = 0,
    probabilities: Probabilities = None,
    by: By = None,
    embeddings: Embeddings = None,
    page: Page = None,
    findings: Findings = None,
    write: Write = None,
    marks: Marks = None,
    without_samples: NoSamples = False,
    overwrite: Overwrite = False,
    max_leaks: MaxLeaks = None,
    max_overlap: MaxOverlap = None,
    max_duplicates: MaxDuplicates = None,
    max_wrong: MaxWrong = None,
    max_conflicts: MaxConflicts = None,
    again: Again = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Look for leaks, copies, wrong labels and oddities of data.

    Test rows, targets and benchmarks are compared with the training rows. An argument that is a path of data names
    data; any other name, or a YAML file, names a study, whose audit is stored in the home. With --against the rows of a
    study are audited anew beside the benchmarks; files are written only where the options say, and its stored audit is
    not changed.
    """
    limits = limits_of(
        leaks=max_leaks, overlap=max_overlap, duplicates=max_duplicates, wrong_labels=max_wrong, conflicts=max_conflicts
    )
    options = {
        "test": test, "target": target, "against": against, "label": label, "no-label": no_label, "text": text,
        "image": image, "features": features, "group": group, "key": key, "task": task, "charset": charset,
        "exact": not near, "seed": seed, "page": page, "findings": findings, "write": write, "marks": marks,
        "without-samples": without_samples, "overwrite": overwrite, "probabilities": probabilities, "by": by,
        "embeddings": embeddings,
    }  # fmt: skip
    if is_data(name):
        refuse_option(name, "a study", {"--again": again, "--wait": wait})
        over = audit_data(name, limits, as_json=as_json, **{at.replace("-", "_"): one for at, one in options.items()})
    else:
        over = audit_of_study(name, limits, options, again=again, wait=wait, as_json=as_json)
    for sentence in over:
        complain(sentence)
    if over:
        raise typer.Exit(NO)


def audit_data(name: str, limits: "dict[str, Limit]", *, as_json: bool, **asked: Any) -> list[str]:
    """Audit data, write the requested files, and show the result; returns the limits that it exceeds."""
    from secateur.pipelines.audits.auditing import How
    from secateur.pipelines.audits.marking import read_marks
    from secateur.pipelines.audits.own_predictions import read_predictions
    from secateur.pipelines.audits.suspects import check_judge
    from secateur.pipelines.front_door.audit_data import Given
    from secateur.pipelines.front_door.audit_vectors import asked_vectors
    from secateur.pipelines.studies.draft import Wish

    check_judge(asked["by"])
    marks: Path | None = asked["marks"]
    known = None if marks is None else read_marks(marks)
    paths = {key: asked[key] for key in ("page", "findings", "write")}
    refuse(**paths, inputs=inputs_of(name, asked), marks=marks, overwrite=asked["overwrite"])
    wish = Wish(
        labels=tuple(asked["label"] or ()), text=asked["text"], image=asked["image"],
        features=tuple(asked["features"] or ()), task=asked["task"],
    )  # fmt: skip
    beside = (asked["test"], asked["target"], asked["against"] or ())
    vectors = asked_vectors(asked["embeddings"], near=not asked["exact"])
    given = Given(name, *beside, wish, asked["group"], asked["key"], asked["no_label"], asked["charset"], vectors)
    own = None if asked["probabilities"] is None else read_predictions(asked["probabilities"])
    how = How(near=not asked["exact"], labels=not asked["no_label"], by=asked["by"], seed=asked["seed"], own=own)
    with tempfile.TemporaryDirectory(prefix="secateur-") as place:
        found = look(given, how, limits, Path(place), samples=not asked["without_samples"])
        return finished(found, limits, asked, known, as_json=as_json)


def limits_of(**asked: str | None) -> "dict[str, Limit]":
    """Limits by name; raises ValueError for a text that is not a limit."""
    from secateur.pipelines.audits.limits import Limit, option_of

    return {name: Limit.read(value, option_of(name)) for name, value in asked.items() if value is not None}


def inputs_of(name: str, asked: dict[str, Any]) -> list[Path]:
    """Files and folders that the audit reads, except marks."""
    from secateur.pipelines.front_door.audit_vectors import files_in
    from secateur.pipelines.pages.audit_paths import paths_in

    data = (asked[one] for one in ("test", "target", "probabilities"))
    return paths_in([name, *data, *(asked["against"] or ()), *files_in(asked["embeddings"] or ())])


def look(given: "Given", how: "How", limits: "dict[str, Limit]", folder: Path, *, samples: bool) -> "Audited":
    """Read the data, and audit them; raises ValueError for limits that have nothing to count in them."""
    from secateur.pipelines.audits.auditing import audited
    from secateur.pipelines.audits.limits import refuse_unmet
    from secateur.pipelines.front_door.audit_data import audit_rows

    with bar(READING):
        rows = audit_rows(given, folder.resolve())
        refuse_unmet(limits, rows.names.values(), labelled=rows.targets is not None)
    with bar("comparing rows"):
        return audited(rows, how, samples=samples)
