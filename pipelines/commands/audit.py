"""The command `secateur audit`: leaks, copies, wrong labels and oddities of data, in words, as JSON, with limits."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from secateur.pipelines.commands.shell import NO, READING, AsJson, bar, caution, out, say, table_of, tell

COLUMNS, LIMITS = "Columns", "Limits: exit code 1 where one is exceeded"
What = Annotated[
    str,
    typer.Argument(
        metavar="STUDY|DATA",
        help="A study's name or YAML file; or a CSV, JSON-lines or Parquet file, a folder of them or of pictures.",
        show_default=False,
    ),
]
Test = Annotated[str | None, typer.Option(metavar="DATA", help="Test rows.", show_default=False)]
Target = Annotated[str | None, typer.Option(metavar="DATA", help="Examples of a job.", show_default=False)]
Against = Annotated[
    list[str] | None,
    typer.Option(metavar="DATA", help="A benchmark that training must not hold; may be repeated.", show_default=False),
]
Label = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Labels; may be repeated.", rich_help_panel=COLUMNS, show_default=False),
]
NoLabel = Annotated[bool, typer.Option("--no-label", help="Look at no labels.", rich_help_panel=COLUMNS)]
Text = Annotated[
    str | None, typer.Option("--text", metavar="COLUMN", help="Texts, or chat messages.", rich_help_panel=COLUMNS)
]
Image = Annotated[str | None, typer.Option(metavar="COLUMN", help="Pictures, or their paths.", rich_help_panel=COLUMNS)]
Features = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="A feature; may be repeated.", rich_help_panel=COLUMNS, show_default=False),
]
Group = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Rows of equal values belong together.", rich_help_panel=COLUMNS)
]
Key = Annotated[str | None, typer.Option("--key", metavar="COLUMN", help="Ids of your own.", rich_help_panel=COLUMNS)]
Task = Annotated[
    str | None,
    typer.Option(metavar="TASK", help="classification, regression or multi_label.", rich_help_panel=COLUMNS),
]
MaxLeaks = Annotated[
    str | None,
    typer.Option(metavar="LIMIT", help="Rows outside training that it has: 0, 12, 1%.", rich_help_panel=LIMITS),
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
    max_leaks: MaxLeaks = None,
    max_duplicates: MaxDuplicates = None,
    max_conflicts: MaxConflicts = None,
    max_wrong: MaxWrong = None,
    as_json: AsJson = False,
) -> None:
    """Look for leaks, copies, wrong labels and oddities of data.

    Test rows, targets and benchmarks are compared with the training rows. Exit code 1 says that a limit is exceeded.
    """
    from secateur.pipelines.audits.auditing import audited
    from secateur.pipelines.audits.limits import Limit, exceeded
    from secateur.pipelines.front_door.audit_data import Given, audit_rows
    from secateur.pipelines.studies.draft import Wish

    asked = {"leaks": max_leaks, "duplicates": max_duplicates, "conflicts": max_conflicts, "wrong_labels": max_wrong}
    limits = {
        name: Limit.read(value, f"--max-{name.replace('_', '-')}") for name, value in asked.items() if value is not None
    }
    wish = Wish(labels=tuple(label or ()), text=text, image=image, features=tuple(features or ()), task=task)
    given = Given(name, test, target, against or (), wish, group, key, no_label)
    with tempfile.TemporaryDirectory(prefix="secateur-") as place:
        with bar(READING):
            rows = audit_rows(given, Path(place).resolve())
        with bar("comparing rows"):
            found = audited(rows)
        over = exceeded(found, limits)
        answer = found.content() | {"exceeded": over}
        tell(answer, as_json, lambda: show(found))
    for sentence in over:
        caution(sentence)
    if over:
        raise typer.Exit(NO)


def show(found: Any) -> None:
    """Findings as a table, and what was guessed."""
    lines = [(one["kind"], one["split"], f"{one['count']:,}", one["text"]) for one in found.findings]
    if lines:
        out.print(table_of(("finding", "of", "rows", ""), lines, right=(2,)))
    sizes = ", ".join(f"{count:,} {name}" for name, count in found.sizes.items())
    say(f"{len(lines) or 'no'} finding{'' if len(lines) == 1 else 's'} in {sizes} rows", style="bold")
    for sentence in found.meaning:
        say(sentence)
    if found.unlooked:
        say(f"labels were not looked at: {found.unlooked}")
    for note in found.rows.notes:
        say(note)
