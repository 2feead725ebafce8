"""The command `secateur audit`: leaks, copies, wrong labels and oddities of data, in words, as files, with limits."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.shell import NO, READING, AsJson, bar, caution, out, say, table_of, tell

if TYPE_CHECKING:
    from secateur.pipelines.audits.auditing import Audited, How
    from secateur.pipelines.audits.limits import Limit
    from secateur.pipelines.audits.marking import Precision
    from secateur.pipelines.front_door.audit_data import Given

BESIDE, COLUMNS, FILES = "What training is compared with", "Columns", "Files"
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
    typer.Option(metavar="DATA", help="A benchmark; may be repeated.", rich_help_panel=BESIDE),
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
NoSamples = Annotated[
    bool, typer.Option("--without-samples", help="Write nothing of what rows hold.", rich_help_panel=FILES)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.", rich_help_panel=FILES)]
Near = Annotated[bool, typer.Option("--near/--exact", help="Look for near copies, or for equal rows alone.")]
Seed = Annotated[int, typer.Option(help="Of draws.", min=0)]
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
    near: Near = True,
    seed: Seed = 0,
    page: Page = None,
    findings: Findings = None,
    write: Write = None,
    marks: Marks = None,
    without_samples: NoSamples = False,
    overwrite: Overwrite = False,
    max_leaks: MaxLeaks = None,
    max_duplicates: MaxDuplicates = None,
    max_wrong: MaxWrong = None,
    max_conflicts: MaxConflicts = None,
    as_json: AsJson = False,
) -> None:
    """Look for leaks, copies, wrong labels and oddities of data.

    Test rows, targets and benchmarks are compared with the training rows.
    """
    from secateur.pipelines.audits.auditing import How
    from secateur.pipelines.audits.marking import precisions, read_marks
    from secateur.pipelines.front_door.audit_data import Given
    from secateur.pipelines.studies.draft import Wish

    asked = {
        "leaks": max_leaks, "duplicates": max_duplicates, "wrong_labels": max_wrong, "conflicts": max_conflicts
    }  # fmt: skip
    limits, known = limits_of(asked), None if marks is None else read_marks(marks)
    refuse(page, findings, write, overwrite=overwrite)
    wish = Wish(labels=tuple(label or ()), text=text, image=image, features=tuple(features or ()), task=task)
    given = Given(name, test, target, against or (), wish, group, key, no_label)
    with tempfile.TemporaryDirectory(prefix="secateur-") as place:
        found = look(given, How(near=near, labels=not no_label, seed=seed), Path(place), samples=not without_samples)
        right, strange = ([], 0) if known is None else precisions(found.lines, known)
        over = exceeded_in(found, limits)
        answer = found.content() | {"precision": [one.content() for one in right], "exceeded": over}
        content = marks.read_bytes() if marks else b""
        answer["files"] = written(found, right, page, findings, write, content, over, overwrite=overwrite)
        tell(answer, as_json, lambda: show(found, right, answer["files"]))
    if strange:
        caution(f"{strange:,} marks are of rows that were not drawn to be marked, and do not count")
    for sentence in over:
        caution(sentence)
    if over:
        raise typer.Exit(NO)


def limits_of(asked: dict[str, str | None]) -> "dict[str, Limit]":
    """Limits by name; raises ValueError for one that is none."""
    from secateur.pipelines.audits.limits import Limit

    named = {name: f"--max-{name.replace('_', '-')}" for name in asked}
    return {name: Limit.read(value, named[name]) for name, value in asked.items() if value is not None}


def exceeded_in(found: "Audited", limits: "dict[str, Limit]") -> list[str]:
    """A sentence for each limit that is exceeded."""
    from secateur.pipelines.audits.limits import exceeded

    return exceeded(found, limits)


def refuse(page: Path | None, findings: Path | None, write: Path | None, *, overwrite: bool) -> None:
    """Raise ValueError or FileExistsError, before anything is read, for files that cannot be written."""
    from secateur.pipelines.files.whole_files import refuse_existing
    from secateur.pipelines.pages.audit_folder import refuse_other

    for path in filter(None, (page, findings, write)):
        refuse_existing(path, overwrite=overwrite)
    if findings is not None and findings.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--findings {findings}: findings are written as .csv or .parquet; let the name end so")
    if write is not None:
        refuse_other(write, overwrite=overwrite)


def look(given: "Given", how: "How", folder: Path, *, samples: bool) -> "Audited":
    """Read the data, and audit them."""
    from secateur.pipelines.audits.auditing import audited
    from secateur.pipelines.front_door.audit_data import audit_rows

    with bar(READING):
        rows = audit_rows(given, folder.resolve())
    with bar("comparing rows"):
        return audited(rows, how, samples=samples)


def written(
    found: "Audited",
    right: "list[Precision]",
    page: Path | None,
    findings: Path | None,
    write: Path | None,
    marks: bytes,
    over: list[str],
    *,
    overwrite: bool,
) -> dict[str, str]:
    """Write what was asked for; the paths by what they are."""
    from secateur.pipelines.pages.audit_folder import write_audit, write_page, write_table

    paths: dict[str, str] = {}
    if page is not None:
        write_page(found, page, precisions=right, overwrite=overwrite)
        paths["page"] = str(page)
    if findings is not None:
        write_table(found, findings, overwrite=overwrite)
        paths["findings"] = str(findings)
    if write is not None:
        more = {"exceeded": over}
        paths["folder"] = str(write)
        paths |= write_audit(found, write, precisions=right, more=more, marks=marks, overwrite=overwrite)
    return paths


def show(found: "Audited", right: "list[Precision]", files: dict[str, Any]) -> None:
    """Findings as a table, what they mean, what was guessed, and where files are."""
    lines = [(one["kind"], one["split"], f"{one['count']:,}", one["text"]) for one in found.findings]
    if lines:
        out.print(table_of(("finding", "of", "rows", ""), lines, right=(2,)))
    sizes = ", ".join(f"{count:,} {name}" for name, count in found.sizes.items())
    say(f"{len(lines) or 'no'} finding{'' if len(lines) == 1 else 's'} in {sizes} rows", style="bold")
    for sentence in (*found.meaning, *(one.sentence for one in right)):
        say(sentence)
    if found.unlooked:
        say(f"labels were not looked at: {found.unlooked}")
    for note in found.rows.notes:
        say(note)
    for name, path in files.items():
        say(f"{name}  {path}")
