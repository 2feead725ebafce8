"""Options that choose trials of a study, and the progress bars of their run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from secateur.pipelines.commands.shell import err
from secateur.pipelines.files.shown_text import visible

if TYPE_CHECKING:
    from secateur.pipelines.studies.grid import Trial
    from secateur.pipelines.studies.study import AnyStudy

Again = Annotated[bool, typer.Option("--again", help="Make everything anew, fresh results too.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait where another process makes this study, instead of an error.")]
WithoutSamples = Annotated[
    bool, typer.Option("--without-samples", help="Embed no pictures or texts of samples in the report's page.")
]
Selections = Annotated[
    list[str] | None, typer.Option("--selection", metavar="NAME", help="Only this selection; may be repeated.")
]
Keeps = Annotated[
    list[str] | None, typer.Option("--keep", metavar="BUDGET", help="Only this budget of the study; may be repeated.")
]
Seeds = Annotated[
    list[int] | None, typer.Option("--seed", metavar="N", help="Only this seed of the study; may be repeated.", min=0)
]


class Done(MofNCompleteColumn):
    """Done and total; empty while the total is unknown."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else super().render(task)


class Left(TimeRemainingColumn):
    """The estimated remaining time; empty while the total is unknown."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None or task.finished else Text.assemble(super().render(task), " left")


def begun(stage: str) -> None:
    """Print a line with the time of day and the stage that begins."""
    err.print(Text(f"{time.strftime('%H:%M:%S')} {visible(stage)}"), soft_wrap=True)


@contextmanager
def bars() -> Iterator[Any]:
    """Progress on standard error: the current stage, and a bar with an estimate for countable work.

    Without a terminal, as in a log, a line for each stage when it begins.
    """
    if not err.is_interactive:
        begun("loading libraries")
        from secateur.pipelines.assets.resources import Lines

        yield Lines(begun)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), Done(), TimeElapsedColumn(), Left())
    with Progress(*columns, console=err) as display:
        now = display.add_task("loading libraries", total=None)
        from secateur.pipelines.assets.resources import Bars

        try:
            yield Bars(display, now)
        except BaseException:
            display.update(now, visible=False)  # the error names the stage
            raise
        display.update(now, description="done", total=1, completed=1)


def trials_of(
    study: "AnyStudy", selections: list[str] | None, keeps: list[str] | None, seeds: list[int] | None
) -> "list[Trial]":
    """Trials of the study by the options of a command; raises StudyError that lists the known ones.

    A selection without a budget is among them if it is named, or if no budget is.
    """
    every = list(study.trials)
    options: tuple[tuple[str, list[str] | None, dict[str, None]], ...] = (
        ("selection", selections, dict.fromkeys(trial.name for trial in every)),
        ("keep", keeps, dict.fromkeys(budget for trial in every if (budget := budget_of(trial)))),
        ("seed", [str(seed) for seed in seeds or ()], dict.fromkeys(str(trial.seed) for trial in every)),
    )
    for option, words, known in options:
        for word in words or ():
            reject_unknown(word, list(known), option, study.name)
    trials = [
        trial
        for trial in every
        if (not selections or trial.name in selections)
        and (not keeps or budget_of(trial) in keeps or (not budget_of(trial) and bool(selections)))
        and (not seeds or trial.seed in seeds)
    ]
    if not trials:
        both = f"{' '.join(selections or ())} at {' '.join(keeps or ())}"
        reject_unknown(both, list(study.selection_keys), "trial", study.name)
    return trials


def budget_of(trial: "Trial") -> str:
    """The budget in the study's notation; empty without one."""
    return trial.selection.rpartition("@")[2] if "@" in trial.selection else ""


def reject_unknown(word: str, known: list[str], option: str, study: str) -> None:
    """Raise StudyError with the nearest and all known names for an unknown one."""
    from secateur.pipelines.studies.files import StudyError
    from secateur.pipelines.studies.rejections import did_you_mean

    if word not in known:
        near = did_you_mean(word, known)
        raise StudyError(f"study {study} has no {option} {word!r}; {near}there are: {', '.join(known)} (edit its file)")
