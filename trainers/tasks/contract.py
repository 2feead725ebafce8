"""A task is the learning problem: its targets, the outputs of a network for them, its losses and its metrics.

Modalities encode inputs as arrays and know nothing of targets; a task knows targets and nothing of inputs. One file is
one task: a subclass of `Task` with the `name` of the file.
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
    """A metric of trained models: its key in an outcome, its format, and its better direction."""

    name: str
    """Its key in an outcome."""
    higher_is_better: bool = True
    """Whether higher values are better."""
    percent: bool = False
    """Whether it is a share in [0, 1], shown in percent with one decimal."""
    unit: str = ""
    """Unit of a number that is no share: nats, or the unit of the user's target."""
    floor: float | None = None
    """Value of a model that learned nothing from the inputs. The first floor among a study's metrics counts, with the
    deciding one in front: an arm that does not exceed it is never called better."""

    @property
    def title(self) -> str:
        """The title of its column."""
        unit = "%" if self.percent else self.unit
        return f"{self.name.replace('_', ' ')} {unit}".rstrip()


def deciding_first(metrics: Sequence[Metric], name: str | None) -> tuple[Metric, ...]:
    """The metrics with the one of that name in front; in their own order for an unknown name."""
    return tuple(sorted(metrics, key=lambda metric: metric.name != name))


class Task(Signals, ABC):
    """One kind of learning problem, fitted to the targets of the training rows.

    Targets are arrays with a row per sample: int64 `[n]` for classification, float64 `[n, k]` for regression, bool
    `[n, labels]` for several labels at once. Signals (see `secateur.scorers.signals`) read the result of `tensor`.
    `trainers/tasks/registry.py` finds tasks and restores them from their `state`.
    """

    name: str
    """The name of its file; for a user's own task its module:factory."""
    target: ClassVar[Literal["class", "numbers", "labels"]]
    """Its kind of targets, one of the three arrays above."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Names of the arguments that a study may set; the others follow from the data."""
    tempered: ClassVar[bool] = True
    """Whether a temperature changes the `distance` of a student to its teacher."""
    learns_target: ClassVar[bool] = True
    """Whether the network learns the targets; otherwise they are groups of samples, and optional."""
    taught_by_token: ClassVar[bool] = False
    """Whether distillation compares tokens of a sample instead of its outputs by `distance`."""
    modality: ClassVar[Literal["sequence"] | None] = None
    """The modality of inputs; None if their columns decide it."""

    @property
    def exclusive(self) -> bool:
        """Whether outputs are logits of classes that exclude each other, invariant under a constant added to all."""
        return "probabilities" in self.provides

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of `evaluate`; the first one decides comparisons if a study names no other.

        The choice of the first may depend on the training targets.
        """

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of a network's outputs per sample."""

    @abstractmethod
    def fitted(self, targets: Shaped[np.ndarray, "n ..."]) -> Task:
        """The task fitted to the targets of the training rows, such as their mean and scale.

        A fitted task, or one without fitted values, returns itself. Raises ValueError as `check`.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All values that `task_from` needs to restore the task, JSON-able: `name`, settings, and fitted values."""

    @abstractmethod
    def check(self, targets: Shaped[np.ndarray, "n ..."], rows: Int64[np.ndarray, " m"] | None = None) -> None:
        """Raise ValueError with the reason and the rows, of these or of all, whose targets this task cannot learn."""

    @abstractmethod
    def tensor(self, targets: Shaped[np.ndarray, "n ..."]) -> Shaped[torch.Tensor, "n ..."]:
        """Targets for the losses and signals of this task, on the CPU; regression standardises them here."""

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
        """Distance of a student's outputs to a teacher's, one per sample with gradient: the loss of distillation."""

    @abstractmethod
    def evaluate(
        self, outputs: Float[np.ndarray, "n width"], targets: Shaped[np.ndarray, "n ..."]
    ) -> Mapping[str, float]:
        """Metrics by name, in the user's units, float64; without those that these rows leave undefined.

        Raises ValueError for no rows, and, with row numbers, for NaN or infinite outputs.
        """

    def undefined(self, targets: Shaped[np.ndarray, "n ..."]) -> dict[str, str]:
        """Reasons, by metric name, why metrics are undefined for these targets with any model."""
        return {}

    def undefined_of(self, inputs: Any, targets: Shaped[np.ndarray, "n ..."]) -> dict[str, str]:
        """Reasons, by metric name, why metrics are undefined for these inputs; `undefined` does not know inputs."""
        return {}

    def evaluate_by(
        self, ask: Callable[[Any], Float[np.ndarray, "b width"]], inputs: Any, targets: Shaped[np.ndarray, "n ..."]
    ) -> Mapping[str, float]:
        """Metrics that need other inputs than the rows' own, beside those of `evaluate`; `ask` calls the model."""
        return {}

    def floors(self, targets: Shaped[np.ndarray, "n ..."]) -> dict[str, float]:
        """Metrics of a model that knows the training targets and no inputs, on rows with these targets.

        By metric name, as far as the task defines them; `Metric.floor` counts for the others.
        """
        return {}

    def recalls(
        self, outputs: Float[np.ndarray, "n width"], targets: Shaped[np.ndarray, "n ..."]
    ) -> list[float | None]:
        """Recall of each class or label, None for one without rows.

        Empty if targets are neither classes nor labels.
        """
        return []

    @abstractmethod
    def strata(self, targets: Shaped[np.ndarray, "n ..."]) -> Int64[np.ndarray, " n"]:
        """The stratum of each sample, 0 … k-1, for hold-outs, class policies, samplers and pages."""

    @abstractmethod
    def stratum_names(self) -> list[str]:
        """The name of each stratum for readers, in order."""

    @abstractmethod
    def shown(self, target: Any) -> str:
        """One target as text for readers."""

    def guesses(self, outputs: Float[np.ndarray, "n width"]) -> Shaped[np.ndarray, "n ..."] | None:
        """Targets predicted by such outputs, as arguments of `shown`; None if a task does not define them."""
        return None

    def memberships(self, targets: Shaped[np.ndarray, "n ..."]) -> Int64[np.ndarray, " n"] | Bool[np.ndarray, "n k"]:
        """Strata, or bool `[n, k]` if a sample may be in several; stratified draws preserve their shares."""
        return self.strata(targets)

    def split(
        self, targets: Shaped[np.ndarray, "n ..."], fraction: float, seed: int
    ) -> tuple[Int64[np.ndarray, " pool"], Int64[np.ndarray, " held"]]:
        """The pool and the held-out rows, ascending, of a stratified split; strata of one row stay in the pool.

        Raises ValueError if the fraction leaves either side fewer samples than there are strata.
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
    """Raise ValueError for no rows, and, with row numbers, for NaN or infinite outputs."""
    if not len(outputs):
        raise ValueError("the split to evaluate on is empty")
    finite_outputs(outputs)
