"""A task is the learning problem: what a target is, what a network puts out for it, its losses and its metrics.

Modalities say how inputs become arrays and know nothing of targets; a task knows targets and nothing of inputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped

Signal = Literal["losses", "outputs", "probabilities", "correct", "margin", "error"]
"""What a task can say of a batch besides its losses; scorers declare which of these they read.

- `losses` float32 `[b]`: one loss per sample, in the task's own scale;
- `outputs` float32 `[b, width]`: what the network puts out;
- `probabilities` float32 `[b, classes]`: of classes that exclude each other;
- `correct` bool `[b]`: whether a prediction counts as right;
- `margin` float32 `[b]`: how far the outputs of the target are ahead of its rivals, above 0 where it is right;
- `error` float32 `[b, width]`: gradient of the loss by the outputs.
"""


@dataclass(frozen=True)
class Metric:
    """A number that a trained model is judged by: its key in an outcome, how it is shown, and which way is better."""

    name: str
    higher_is_better: bool = True
    percent: bool = False
    """Whether it is a share in [0, 1], shown in percent with one decimal."""
    unit: str = ""
    """Of a number that is no share: nats, or the unit of the user's target."""

    @property
    def title(self) -> str:
        """The head of its column."""
        unit = "%" if self.percent else self.unit
        return f"{self.name.replace('_', ' ')} {unit}".rstrip()


class Task(ABC):
    """One kind of learning problem, with what the training rows taught of its targets.

    Targets are arrays of one row per sample: int64 `[n]` of classification, float64 `[n, k]` of regression, bool
    `[n, labels]` of several labels at once.
    """

    name: ClassVar[str]
    provides: ClassVar[frozenset[Signal]]

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """What `evaluate` measures; the first one decides comparisons."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers that a network puts out per sample."""

    @abstractmethod
    def fitted(self, targets: Shaped[np.ndarray, "n ..."]) -> "Task":
        """The task with what it learns from the targets of the training rows, such as their mean and scale."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that `task_from` needs to make it again, JSON-able: `name` and what was fitted."""

    @abstractmethod
    def losses(
        self, outputs: Float[torch.Tensor, "b width"], targets: Shaped[torch.Tensor, "b ..."], *, smoothing: float = 0.0
    ) -> Float[torch.Tensor, " b"]:
        """One loss per sample, float32 with gradient; `smoothing` is the share of the target given to all classes."""

    @abstractmethod
    def evaluate(
        self, outputs: Float[np.ndarray, "n width"], targets: Shaped[np.ndarray, "n ..."]
    ) -> Mapping[str, float]:
        """Every metric by name, in the user's units; raises ValueError that names rows of NaN or infinite outputs."""

    @abstractmethod
    def strata(self, targets: Shaped[np.ndarray, "n ..."]) -> Int64[np.ndarray, " n"]:
        """The stratum of each sample, 0 … k-1, for hold-outs, stratified random, class policies and pages."""

    @abstractmethod
    def shown(self, target: Any) -> str:
        """One target as a reader sees it."""

    def probabilities(self, outputs: torch.Tensor) -> torch.Tensor:
        """See `Signal`."""
        raise NotImplementedError(f"{self.name} has no probabilities of classes that exclude each other")

    def correct(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Signal`."""
        raise NotImplementedError(f"{self.name} does not say what counts as right")

    def margin(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Signal`."""
        raise NotImplementedError(f"{self.name} has no rivals of a target")

    def error(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Signal`."""
        raise NotImplementedError(f"{self.name} does not say the gradient of its loss by the outputs")
