"""What the commands of the shell share: where they write, how they end, how a study is named.

Standard output holds the answer and nothing else, one JSON object where `--json` asks for it; progress, logs and
errors go to standard error. Nothing heavy is imported here.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from secateur.pipelines.files.shown_text import one_line, visible

if TYPE_CHECKING:
    from secateur.pipelines.studies.choice import Choice
    from secateur.pipelines.studies.files import StudyFile
    from secateur.pipelines.studies.samples import Study
    from secateur.pipelines.studies.study import AnyStudy

FINE: Final = 0
NO: Final = 1
"""The answer is no: a manifest is not sound, two manifests keep different samples."""
MISTAKE: Final = 2
"""What was asked cannot be done; one sentence says why and what to do."""
FAILED: Final = 3
"""Something broke on the way that was nobody's mistake here: a traceback says what."""
INTERRUPTED: Final = 130
STOPPED: Final = 143
"""By SIGTERM, which schedulers of jobs send."""
UNREAD: Final = 141
"""Whoever read the output closed it, as head does: what a shell says of a program that SIGPIPE ended."""

READING: Final = "reading the data"
"""What a command says while it reads files that may be large."""
TIMES: Final = (TimeElapsedColumn(), TimeRemainingColumn())
out, err = Console(), Console(stderr=True)
HEAD, LEAST_NAME = 12, 12
"""Characters of a line in the head of a column of numbers, and of a name at least, in a table."""

Epoch = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Of a selection in training: which epoch, from 0.", show_default=False),
]
ManifestPath = Annotated[
    Path, typer.Argument(metavar="PATH", help="The manifest's folder, or its manifest.json.", show_default=False)
]
StudyName = Annotated[
    str,
    typer.Argument(metavar="STUDY", help="A study's name, or the path of its YAML file.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def tell(answer: dict[str, Any], as_json: bool, show: Callable[[], None]) -> None:
    """Print the answer as one JSON object, or show it to a person."""
    if as_json:
        typer.echo(json.dumps(answer, indent=2, allow_nan=False, default=str))
    else:
        show()


def say(text: object, style: str = "") -> None:
    """A line on standard output as it is: no markup, no folding, so that a path can be copied."""
    out.print(Text(visible(str(text)), style=style), soft_wrap=True)


def say_findings(findings: Iterable[Mapping[str, Any]]) -> None:
    """What is wrong with the data or the scores, the gravest first, ahead of an answer's table."""
    for finding in findings:
        style = "bold red" if finding["kind"].startswith("lost ") else "bold yellow"
        out.print(Text.assemble(("finding: ", style), visible(finding["text"])), soft_wrap=True)


def complain(error: object) -> None:
    """One sentence on standard error."""
    err.print(Text.assemble(("error: ", "bold red"), visible(str(error))), soft_wrap=True)


def caution(text: object) -> None:
    """A sentence on standard error about what was done all the same."""
    err.print(Text.assemble(("warning: ", "bold yellow"), visible(str(text))), soft_wrap=True)


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; give what it yields the number done and the number in all.

    Nothing where no terminal shows it: a bar would leave an empty line in a log.
    """
    if not err.is_interactive:
        yield lambda done, total: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *TIMES)
    with Progress(*columns, console=err, transient=True) as display:
        task = display.add_task(escape(one_line(label)), total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)


def table_of(header: Iterable[str], lines: Iterable[Iterable[object]], *, right: Iterable[int] = ()) -> Table:
    """A table that fits the terminal: names in front and numbers whole, the rest folded where it must be.

    A name is shortened in its middle where it is longer than half of a line, or than what the other cells leave of a
    line that would be folded; heads of numbers are folded to the width of these.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    numeric, cells = set(right), [[one_line(str(cell)) for cell in line] for line in lines]
    heads = [fill(head, HEAD, break_long_words=False) if at in numeric else head for at, head in enumerate(header)]
    others = [max(map(len, [*head.splitlines(), *column])) for head, *column in zip(*[heads, *cells], strict=True)][1:]
    left = out.width - sum(others) - 2 * len(others)
    most = left if LEAST_NAME <= left < out.width // 2 else out.width // 2
    for at, head in enumerate(heads):
        whole = at in numeric or not at
        table.add_column(escape(head), justify="right" if at in numeric else "left", no_wrap=whole, overflow="fold")
    for name, *rest in cells:
        table.add_row(escape(shortened(name, most)), *map(escape, rest))
    return table


def shortened(name: str, most: int) -> str:
    """A name of at most so many characters, its middle left out where it has more."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-((most - 1) // 2) :]}"


def find_study(name: str) -> "tuple[StudyFile, AnyStudy]":
    """The study of that name or at that path, with its file; raises StudyError where there is none or it is broken."""
    from secateur.pipelines.studies.files import find_study as found

    file = found(name)
    assert file.study
    return file, file.study


def find_samples_study(name: str) -> "tuple[StudyFile, Study | Choice]":
    """`find_study`, for commands that need a study of samples; raises StudyError for one of another unit."""
    from secateur.pipelines.studies.choice import Choice
    from secateur.pipelines.studies.files import StudyError
    from secateur.pipelines.studies.samples import Study

    file, study = find_study(name)
    if not isinstance(study, Study | Choice):
        raise StudyError(f"{study.name} is of kind {study.kind!r} and selects no samples: use secateur run {name}")
    return file, study
