"""A task is the learning problem: its targets, the outputs of a network for them, its losses and its metrics.

Modalities say how inputs become arrays and know nothing of targets; a task knows targets and nothing of inputs. One
file is one task: a class of `Task` whose `name` is that of the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from secateur.scorers.contract import finite_outputs
from secateur.scorers.lazy import torch
from secateur.scorers.signals import Signal, Signals

__all__ = ["Metric", "Signal", "Task", "deciding_first", "refuse_not_finite"]


@dataclass(frozen=True)
class Metric:
    """A number that a trained model is judged by: its key in an outcome, how it is shown, and which way is better."""

    name: str
    """Its key in an outcome."""
    higher_is_better: bool = True
    """Whether more of it is better."""
    percent: bool = False
    """Whether it is a share in [0, 1], shown in percent with one decimal."""
    unit: str = ""
    """Of a number that is no share: nats, or the unit of the user's target."""
    floor: float | None = None
    """Reached by a model that learned nothing of the inputs. Of a study's metrics, the deciding one in front, the first
    floor there is counts: an arm that does no better is never called better."""

    @property
    def title(self) -> str:
        """The head of its column."""
        unit = "%" if self.percent else self.unit
        return f"{self.name.replace('_', ' ')} {unit}".rstrip()


def deciding_first(metrics: Sequence[Metric], name: str | None) -> tuple[Metric, ...]:
    """The metrics with the one of that name in front, in their own order where there is no such name."""
    return tuple(sorted(metrics, key=lambda metric: metric.name != name))


class Task(Signals, ABC):
    """One kind of learning problem, with what the targets of the training rows taught.

    Targets are arrays of one row per sample: int64 `[n]` of classification, float64 `[n, k]` of regression, bool
    `[n, labels]` of several labels at once. Signals (see `secateur.scorers.signals`) read what `tensor` makes of them.
    `trainers/tasks/registry.py` finds tasks and reads back their `state`.
    """

    name: str
    """That of its file; of a user's own, its module:factory."""
    target: ClassVar[Literal["class", "numbers", "labels"]]
    """Its kind of targets, and so which of the three arrays above."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Names of the arguments that a study may set; the others follow from the data."""
    tempered: ClassVar[bool] = True
    """Whether a temperature changes the `distance` of a student to its teacher."""
    learns_target: ClassVar[bool] = True
    """Whether the network learns the targets; otherwise they name groups of samples, and may be left out."""
    taught_by_token: ClassVar[bool] = False
    """Whether a teacher says something of each token of a sample, and not of its outputs by `distance`."""
    modality: ClassVar[Literal["sequence"] | None] = None
    """How inputs are encoded, whatever their columns hold; None where these say it."""

    @property
    def exclusive(self) -> bool:
        """Whether outputs are logits of classes that exclude each other: a constant added to all changes nothing."""
        return "probabilities" in self.provides

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of `evaluate`; the first one decides comparisons where a study names no other.

        Which is the first may follow the targets that the task was fitted to.
        """

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers that a network puts out per sample."""

    @abstractmethod
    def fitted(self, targets: Shaped[np.ndarray, "n ..."]) -> Task:
        """The task fitted to the targets of the training rows, such as their mean and scale.

        A task that was fitted, or that learns nothing, is returned as it is. Raises ValueError as `check`.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that `task_from` needs to make it again, JSON-able: `name`, settings, and fitted values."""

    @abstractmethod
    def check(self, targets: Shaped[np.ndarray, "n ..."], rows: Int64[np.ndarray, " m"] | None = None) -> None:
        """Raise ValueError that names the rows, of these or of all, whose target this task cannot learn, and why."""

    @abstractmethod
    def tensor(self, targets: Shaped[np.ndarray, "n ..."]) -> Shaped[torch.Tensor, "n ..."]:
        """Targets as the losses and signals of this task read them, on the CPU; regression's are standardised here."""

    @abstractmethod
    def losses(
        self, outputs: Float[torch.Tensor, "b width"], targets: Shaped[torch.Tensor, "b ..."]
    ) -> Float[torch.Tensor, " b"]:
        """One loss per sample, float32 with gradient."""

    @abstractmethod
    def distance(
        self,
        teacher: Float[torch.Tensor, "b width"],
        student: Float[torch.Tensor, "b width"],
        *,
        temperature: float,
    ) -> Float[torch.Tensor, " b"]:
        """How far a student's outputs are from a teacher's, one per sample with gradient: the loss of distillation."""

    @abstractmethod
    def evaluate(
        self, outputs: Float[np.ndarray, "n width"], targets: Shaped[np.ndarray, "n ..."]
    ) -> Mapping[str, float]:
        """Metrics by name, in the user's units, float64; without those that these rows leave undefined.

        Raises ValueError for no rows, and for outputs that are NaN or infinite, whose rows it names.
        """

    def undefined(self, targets: Shaped[np.ndarray, "n ..."]) -> dict[str, str]:
        """Why metrics cannot be measured on rows of these targets, whatever a model says, by the metric's name."""
        return {}

    def undefined_of(self, inputs: Any, targets: Shaped[np.ndarray, "n ..."]) -> dict[str, str]:
        """Why metrics cannot be measured on rows of these inputs, by name: what `undefined` cannot know."""
        return {}

    def evaluate_by(
        self, ask: Callable[[Any], Float[np.ndarray, "b width"]], inputs: Any, targets: Shaped[np.ndarray, "n ..."]
    ) -> Mapping[str, float]:
        """Metrics beside those of `evaluate` that need other inputs than the rows' own: `ask` is a model's answer."""
        return {}

    def floors(self, targets: Shaped[np.ndarray, "n ..."]) -> dict[str, float]:
        """Metrics of a model that knows the training targets, and nothing of the inputs, on rows of these targets.

        By the name of a metric, as far as the task can say; where it cannot, `Metric.floor` counts.
        """
        return {}

    def recalls(
        self, outputs: Float[np.ndarray, "n width"], targets: Shaped[np.ndarray, "n ..."]
    ) -> list[float | None]:
        """Of each class or label the share of its rows that outputs find; None of one that no row has.

        Nothing where targets are neither classes nor labels.
        """
        return []

    @abstractmethod
    def strata(self, targets: Shaped[np.ndarray, "n ..."]) -> Int64[np.ndarray, " n"]:
        """The stratum of each sample, 0 … k-1, for hold-outs, class policies, samplers and pages."""

    @abstractmethod
    def stratum_names(self) -> list[str]:
        """The name of each stratum as a reader sees it, in order."""

    @abstractmethod
    def shown(self, target: Any) -> str:
        """One target as a reader sees it."""

    def guesses(self, outputs: Float[np.ndarray, "n width"]) -> Shaped[np.ndarray, "n ..."] | None:
        """Targets that such outputs stand for, as `shown` takes them; None where a task cannot say."""
        return None

    def memberships(self, targets: Shaped[np.ndarray, "n ..."]) -> Int64[np.ndarray, " n"] | Bool[np.ndarray, "n k"]:
        """Strata, or bool `[n, k]` where a sample may be in several: stratified draws keep their shares."""
        return self.strata(targets)

    def split(
        self, targets: Shaped[np.ndarray, "n ..."], fraction: float, seed: int
    ) -> tuple[Int64[np.ndarray, " pool"], Int64[np.ndarray, " held"]]:
        """Rows to choose from and rows held out, ascending, a stratified split; strata of one row stay with the former.

        Raises ValueError where the fraction leaves either side fewer samples than there are strata.
        """
        from sklearn.model_selection import train_test_split

        rows, strata = np.arange(len(targets), dtype=np.int64), self.strata(targets)
        counts = np.bincount(strata)
        single = np.isin(strata, np.flatnonzero(counts < 2))
        there, groups = int(np.sum(~single)), int(np.sum(counts > 1))
        held = int(np.ceil(fraction * there))
        if not 0 < groups <= min(held, there - held):
            raise ValueError(
                f"a validation split of {fraction:g} of {there} samples (classes of one left out) cannot hold each of "
                f"{groups} classes on both sides; change the fraction, or set the settings yourself"
            )
        pool, held_out = train_test_split(
            rows[~single], test_size=fraction, random_state=seed, stratify=strata[~single]
        )
        return np.sort(np.concatenate([pool, rows[single]])), np.sort(held_out)


def refuse_not_finite(outputs: Float[np.ndarray, "n width"]) -> None:
    """Raise ValueError for no rows, and for NaN or infinite outputs, whose rows it names."""
    if not len(outputs):
        raise ValueError("the split to evaluate on is empty")
    finite_outputs(outputs)
