"""Options that choose trials of a study, and the bars that are shown while they run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from secateur.pipelines.commands.shell import err

if TYPE_CHECKING:
    from secateur.pipelines.studies.grid import Trial
    from secateur.pipelines.studies.samples import Study
    from secateur.pipelines.studies.units import PruningStudy

Again = Annotated[bool, typer.Option("--again", help="Make everything anew, what is fresh included.")]
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
    """How much of how much is done; nothing before that is known."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else super().render(task)


@contextmanager
def bars() -> Iterator[Any]:
    """Progress bars on standard error, gone when the work is done."""
    from secateur.pipelines.assets.resources import Bars

    columns = (TextColumn("{task.description}"), BarColumn(), Done(), TimeElapsedColumn())
    with Progress(*columns, console=err) as display:
        yield Bars(display)


def trials_of(
    study: "Study | PruningStudy", selections: list[str] | None, keeps: list[str] | None, seeds: list[int] | None
) -> "list[Trial]":
    """Trials of the study that are asked for; raises StudyError that names what there is."""
    every = list(study.trials)
    names = {trial.name: None for trial in every}
    budgets = dict.fromkeys(trial.selection.rpartition("@")[2] for trial in every if "@" in trial.selection)
    for asked, known, what in (
        (selections, names, "selection"),
        (keeps, budgets, "keep"),
        ([str(seed) for seed in seeds or ()], {str(trial.seed): None for trial in every}, "seed"),
    ):
        for one in asked or ():
            refuse_unknown(one, list(known), what, study.name)
    found = [
        trial
        for trial in every
        if (not selections or trial.name in selections)
        and (
            not keeps
            or trial.selection.rpartition("@")[2] in keeps
            or ("@" not in trial.selection and bool(selections))
        )
        and (not seeds or trial.seed in seeds)
    ]
    if not found:
        refuse_unknown(
            f"{' '.join(selections or ())} at {' '.join(keeps or ())}", study.selection_keys, "trial", study.name
        )
    return found


def refuse_unknown(asked: str, known: list[str], what: str, study: str) -> None:
    """Raise StudyError with the nearest and all names where one is not known."""
    from secateur.pipelines.studies.files import StudyError
    from secateur.pipelines.studies.rejections import did_you_mean

    if asked not in known:
        near = did_you_mean(asked, known)
        raise StudyError(f"study {study} has no {what} {asked!r}; {near}there are: {', '.join(known)} (edit its file)")
