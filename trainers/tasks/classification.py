"""Classification: each sample has one of several classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from secateur.scorers.contract import rows_text
from secateur.scorers.lazy import functional, torch
from secateur.scorers.signals import ClassSignals
from secateur.trainers.tasks.contract import Metric, Task, refuse_not_finite


@dataclass(frozen=True)
class Classification(ClassSignals, Task):
    """Targets int64 `[n]`, 0 … classes-1; outputs are logits, losses cross-entropies in nats."""

    target = "class"

    classes: int
    names: Sequence[str] = ()
    """Of the classes; their numbers where none are given."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))  # which may come as a list, out of JSON

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy decides."""
        return (
            Metric("accuracy", percent=True),
            Metric("worst_class_accuracy", percent=True),
            Metric("calibration_error", higher_is_better=False, percent=True),
            Metric("loss", higher_is_better=False, unit="nats"),
        )

    @property
    def width(self) -> int:
        """One logit per class."""
        return self.classes

    def fitted(self, targets: Int64[np.ndarray, " n"]) -> Classification:
        """Itself: classes teach nothing."""
        return self

    def state(self) -> dict[str, Any]:
        """See `Task.state`."""
        return {"name": self.name, "classes": self.classes, "names": list(self.names)}

    def check(self, targets: Int64[np.ndarray, " n"], rows: Int64[np.ndarray, " m"] | None = None) -> None:
        """Raise ValueError that names rows whose label is no class."""
        rows = np.arange(len(targets)) if rows is None else rows
        wrong = rows[(targets[rows] < 0) | (targets[rows] >= self.classes)]
        if len(wrong):
            raise ValueError(f"labels must be within 0 … {self.classes - 1}, they are not at {rows_text(wrong)}")

    def tensor(self, targets: Int64[np.ndarray, " n"]) -> torch.Tensor:
        """The labels, int64 `[n]`."""
        return torch.tensor(targets)

    def distance(self, teacher: torch.Tensor, student: torch.Tensor, *, temperature: float) -> torch.Tensor:
        """temperature² · KL(softmax(teacher/T) ‖ softmax(student/T)) in nats (Hinton et al. 2015, section 2)."""
        return temperature**2 * divergence(teacher, student, temperature)

    def evaluate(self, outputs: Float32[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]) -> dict[str, float]:
        """Accuracy, mean cross-entropy, ECE, worst class's accuracy.

        The worst is that of the classes that occur.
        """
        refuse_not_finite(outputs)
        values, labels = torch.tensor(outputs).double(), torch.tensor(targets)
        confidence, guess = values.softmax(dim=1).max(dim=1)
        correct = (guess == labels).numpy()
        totals = np.bincount(targets, minlength=self.classes)
        hits = np.bincount(targets, weights=correct, minlength=self.classes)
        return {
            "accuracy": float(correct.mean()),
            "loss": float(functional.cross_entropy(values, labels)),
            "calibration_error": calibration_error(confidence.numpy(), correct),
            "worst_class_accuracy": float((hits[totals > 0] / totals[totals > 0]).min()),
        }

    def strata(self, targets: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The classes."""
        return targets

    def stratum_names(self) -> list[str]:
        """Of the classes."""
        return list(self.names) or [str(number) for number in range(self.classes)]

    def shown(self, target: Any) -> str:
        """The name of a class."""
        return self.stratum_names()[int(target)]


def calibration_error(confidence: Float64[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> float:
    """ECE over 15 bins of equal width (Guo et al. 2017, "On calibration of modern neural networks", section 3)."""
    index = np.minimum((confidence * 15).astype(int), 14)
    gaps = np.bincount(index, weights=correct - confidence, minlength=15)
    return float(np.abs(gaps).sum() / len(correct))


def as_task(task: Task | int) -> Task:
    """A task; a number stands for classification into so many classes."""
    return Classification(task) if isinstance(task, int) else task


def divergence(
    teacher: Float[torch.Tensor, "b classes"], student: Float[torch.Tensor, "b other_classes"], temperature: float
) -> Float[torch.Tensor, " b"]:
    """KL(softmax(teacher/T) ‖ softmax(student/T)) in nats at temperature T, one per sample, without the factor T².

    Half precision is widened to float32 first. Raises ValueError where the numbers of classes differ.
    """
    refuse_other_width(teacher, student)
    said, learned = (widened(logits).div(temperature).log_softmax(dim=1) for logits in (teacher, student))
    return functional.kl_div(learned, said, reduction="none", log_target=True).sum(dim=1)


def refuse_other_width(teacher: torch.Tensor, student: torch.Tensor) -> None:
    """Raise ValueError where a teacher puts out other numbers than its student."""
    if teacher.shape != student.shape:
        raise ValueError(
            f"the teacher's logits are {tuple(teacher.shape)}, the student's {tuple(student.shape)}: a teacher must "
            "know the same classes"
        )


def widened(values: torch.Tensor) -> torch.Tensor:
    """Float32 for anything narrower."""
    return values if values.dtype == torch.float64 else values.float()
