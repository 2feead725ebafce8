"""Shared by the commands of the shell: output, exit codes, and the lookup of studies.

Standard output holds only the answer, one JSON object with `--json`; progress, logs and errors go to standard error.
This module makes no slow import.
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
"""A negative answer: a manifest is not sound, two manifests keep different samples."""
MISTAKE: Final = 2
"""An impossible request; one sentence gives the reason and the remedy."""
FAILED: Final = 3
"""A failure that is not the user's mistake; a traceback shows it."""
INTERRUPTED: Final = 130
STOPPED: Final = 143
"""Ended by SIGTERM, which schedulers of jobs send."""
UNREAD: Final = 141
"""The reader of the output, such as head, closed it; a shell reports this code for a program that SIGPIPE ended."""
STAYS: Final = "results stay: the same command again makes the rest"
"""What an interrupted command says that keeps its finished results."""

READING: Final = "reading the data"
"""The stage name while a command reads files that may be large."""
TIMES: Final = (TimeElapsedColumn(), TimeRemainingColumn())
out, err = Console(), Console(stderr=True)
HEAD, LEAST_NAME = 12, 12
"""Least characters of a line in the head of a column of numbers, and of a name, in a table."""

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
    """Print a line on standard output unchanged: no markup, no folding, so that a path can be copied."""
    out.print(Text(visible(str(text)), style=style), soft_wrap=True)


def say_findings(findings: Iterable[Mapping[str, Any]]) -> None:
    """Print findings about the data or the scores, the most severe first, above an answer's table."""
    for finding in findings:
        style = "bold red" if finding["kind"].startswith("lost ") else "bold yellow"
        out.print(Text.assemble(("finding: ", style), visible(finding["text"])), soft_wrap=True)


def complain(error: object) -> None:
    """Print one sentence on standard error."""
    err.print(Text.assemble(("error: ", "bold red"), visible(str(error))), soft_wrap=True)


def caution(text: object) -> None:
    """Print a warning on standard error."""
    err.print(Text.assemble(("warning: ", "bold yellow"), visible(str(text))), soft_wrap=True)


@contextmanager
def resumable(stays: bool = True) -> Iterator[None]:
    """A block, or as a decorator a function, whose finished results stay if a signal ends it, unless `stays` is false.

    Adds STAYS to the notes of the KeyboardInterrupt, which `main` reads.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        if stays:
            error.add_note(STAYS)
        raise


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; yields a function of the number done and the number in all.

    Prints nothing without a terminal: a bar would leave an empty line in a log.
    """
    if not err.is_interactive:
        yield lambda done, total: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *TIMES)
    with Progress(*columns, console=err, transient=True) as display:
        task = display.add_task(escape(one_line(label)), total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)


def table_of(header: Iterable[str], lines: Iterable[Iterable[object]], *, right: Iterable[int] = ()) -> Table:
    """A table that fits the terminal: names first and numbers whole, the other cells folded where necessary.

    A name longer than half of a line, or than the space that the other cells leave in a folded line, loses its middle;
    headers of numbers are folded to the width of the numbers.
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
    """A name of at most so many characters; a longer one loses its middle."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-((most - 1) // 2) :]}"


def find_study(name: str) -> "tuple[StudyFile, AnyStudy]":
    """The study with a name or at a path, with its file; raises StudyError for a missing or broken one."""
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
