"""The key `task` of a study: the learning problem and its settings, checked when the study loads."""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from secateur.pipelines.data.columns import Kind, Target
from secateur.pipelines.studies.rejections import checked, nested, require
from secateur.scorers.lazy import is_there
from secateur.scorers.registry import AnyScorer
from secateur.scorers.settings import CODE, Settings
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.tasks.contract import Metric, Task
from secateur.trainers.tasks.missing_signals import EMBEDDED, missing_signals, reads_of
from secateur.trainers.tasks.own import own_task
from secateur.trainers.tasks.registry import task_from, tasks
from secateur.trainers.tasks.sft import BY_DOMAIN

EXAMPLES: dict[Target, tuple[tuple[str, ...], np.ndarray]] = {
    "class": (("0", "1"), np.array([0, 1])),
    "numbers": (("0",), np.array([[0.0], [1.0]])),
    "labels": (("0", "1"), np.array([[True, False], [False, True]])),
}
"""Names and targets of two rows, to derive a task's properties before there are data."""
PROMPTLESS = {"bare_losses", "headed_losses"}
"""Losses of completions without their prompts."""
COUNTED = {"class": "classes", "labels": "labels"}
"""The task's setting for the number of classes or labels in the data."""


class Problem(Settings):
    """A task by name, and its settings; YAML writes the name alone, or `kind` with the settings beside it."""

    model_config = ConfigDict(frozen=True)

    kind: Annotated[str, CODE, Field(description="a task, or module:factory of your own")] = "classification"
    settings: Annotated[dict[str, Any], Field(description="the task's; YAML writes them beside kind")] = Field(
        default_factory=dict
    )

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, written: Any) -> Any:
        if isinstance(written, str):
            return {"kind": written}
        return nested("classification", written, "kind", set())

    @model_validator(mode="after")
    def _exists(self) -> "Problem":
        if not self.own:
            require(self.kind, tasks(), "task (or module:factory)")
            checked(settings_of(self.declared), self.settings, f"task {self.kind}")
            return self
        if self.settings:
            raise ValueError(f"task {self.kind}: a task of your own takes no settings, got {', '.join(self.settings)}")
        if not is_there(self.kind):
            module = self.kind.partition(":")[0]
            raise ValueError(
                f"there is no module {module!r} to take {self.kind} from, in the working folder or on PYTHONPATH"
            )
        return self

    @property
    def own(self) -> bool:
        """Whether the task is the user's own, which brings its samples with it."""
        return ":" in self.kind

    @property
    def declared(self) -> type[Task]:
        """The class of a built-in task."""
        return tasks()[self.kind]

    @property
    def target(self) -> Target:
        """The kind of target in the label columns of this built-in task."""
        return self.declared.target

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Evaluation metrics of the task; for the user's own task, this imports its module."""
        if self.own:
            return own_task(self.kind).metrics
        return self.task(EXAMPLES[self.target][0]).fitted(EXAMPLES[self.target][1]).metrics

    def task(self, names: Sequence[str]) -> Task:
        """The built-in task with these classes, numbers or labels, not yet fitted; raises ValueError."""
        counted = COUNTED.get(self.target)
        counts = {counted: len(names) or 1} if counted else {}
        return task_from({"name": self.kind, **counts, "names": tuple(names), **self.settings})

    def check_columns(self, kind: Kind, scores: Mapping[str, AnyScorer]) -> None:
        """Raise ValueError if a built-in task does not learn from columns of this kind, or a score compares losses with
        and without a prompt and the columns have none."""
        own, texts = self.declared.modality, ("text", "completion", "messages")
        if own is not None and kind not in texts:
            raise ValueError(f"columns.{kind}: task {self.kind} learns texts; name completion, messages or text")
        if own is None and kind in texts[1:]:
            raise ValueError(f"columns.{kind}: task: sft learns from it, task {self.kind} does not; name text instead")
        for where, scorer in scores.items() if own is not None and kind == "text" else ():
            if PROMPTLESS.intersection(one for one in reads_of(scorer) if isinstance(one, str)):
                raise ValueError(
                    f"{where}: {scorer.card.name!r} compares the loss of a completion with and without its prompt, and "
                    "a plain text (columns.text) has none: use perplexity, response_tokens or s2l, or name prompt and "
                    "completion"
                )

    def check_metric(self, name: str | None, columns: Sequence[str]) -> None:
        """Raise ValueError if a built-in task has no metric of that name for targets in these columns.

        The number of classes, and of numbers in a column of lists, is unknown before the data is read; a later check
        covers it.
        """
        if name is None or (not self.declared.learns_target and name.startswith(BY_DOMAIN)):  # of a domain of the data
            return
        task, listed = self.task(EXAMPLES[self.target][0]), None
        if self.target == "numbers":
            own = {key: value for key, value in self.settings.items() if key != "units"}  # of columns of lists, several
            task = task_from({"name": self.kind, "names": columns, **own}).fitted(np.eye(2, len(columns)))
            listed = re.fullmatch(rf"(.+)_{re.escape(columns[0])}\[\d+\]", name) if len(columns) == 1 else None
        known = {metric.name: metric for metric in task.metrics}
        if not (listed and listed[1] in known):
            require(name, known, f"metric of {self.kind}")

    def check(
        self,
        scores: Mapping[str, AnyScorer],
        selections: Mapping[str, Iterable[str]],
        configs: Sequence[TrainingConfig],
    ) -> None:
        """Raise ValueError, with the reason, for scores, signals of selections and training settings that a built-in
        task does not support."""
        task = self.task(EXAMPLES[self.target][0])
        refuse_missing(task, scores, selections)
        for config in configs:
            if config.label_smoothing and not task.smooths:
                raise ValueError(f"label_smoothing gives a share of the target to other classes; {self.kind} has none")


def refuse_missing(
    task: Task, scores: Mapping[str, AnyScorer], selections: Mapping[str, Iterable[str]] = MappingProxyType({})
) -> None:
    """Raise ValueError with one line per signal that a score or selection reads and the task lacks.

    `scores` maps the reader's name in the study to its scorer.
    """
    faults = [f"{name}: {fault}" for name, scorer in scores.items() for fault in missing_signals(scorer, task)]
    faults += [
        f"selections.{name}: it reads embeddings, which {task.name} has none of: {task.lacks['embedding']}"
        for name, reads in selections.items()
        if EMBEDDED.intersection(reads) and "embedding" in task.lacks
    ]
    if faults:
        raise ValueError("\n".join(faults))


def settings_of(task: type[Task]) -> type[BaseModel]:
    """The settings of a task that a study may change, as a model that rejects unknown keys."""
    known: dict[str, Any] = task.__dataclass_fields__  # type: ignore[attr-defined]
    types = get_type_hints(task, include_extras=True)
    typed: dict[str, Any] = {name: (types[name], known[name].default) for name in task.settings}
    return create_model(f"{task.__name__}Settings", __base__=Settings, **typed)
