"""Classification: each sample has one of several classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

from secateur.scorers.contract import rows_text
from secateur.scorers.lazy import functional, torch
from secateur.scorers.signals import ClassSignals
from secateur.trainers.tasks import class_metrics
from secateur.trainers.tasks.contract import Metric, Task, deciding_first, refuse_not_finite


@dataclass(frozen=True)
class Classification(ClassSignals, Task):
    """Targets int64 `[n]`, 0 … classes-1; outputs are logits, losses cross-entropies in nats."""

    target = "class"

    classes: int
    names: Sequence[str] = ()
    """Names of the classes; by default their numbers."""
    counts: Sequence[int] = ()
    """Number of training rows of each class; empty before `fitted`."""

    def __post_init__(self) -> None:
        for name in ("names", "counts"):  # JSON gives lists.
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy decides; if a class is rare in training, average precision of the rarer of two classes, or balanced
        accuracy for more (`class_metrics.decides`)."""
        return deciding_first(class_metrics.metrics_of(self.classes), class_metrics.decides(self.counts))

    @property
    def width(self) -> int:
        """One logit per class."""
        return self.classes

    def fitted(self, targets: Int64[np.ndarray, " n"]) -> Classification:
        """The task with the number of rows of each class, which decides whether one is rare."""
        if self.counts:
            return self
        there = targets[(targets >= 0) & (targets < self.classes)]
        return replace(self, counts=np.bincount(there, minlength=self.classes).tolist())

    def state(self) -> dict[str, Any]:
        """See `Task.state`."""
        return {"name": self.name, "classes": self.classes, "names": list(self.names), "counts": list(self.counts)}

    def check(self, targets: Int64[np.ndarray, " n"], rows: Int64[np.ndarray, " m"] | None = None) -> None:
        """Raise ValueError that names rows with a label that is no class."""
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
        """Accuracy, balanced accuracy, worst class's accuracy, macro F1, ECE, mean cross-entropy; for two classes AUROC
        and average precision of the rarer one in training, if these rows define them.
        """
        refuse_not_finite(outputs)
        values, labels = torch.tensor(outputs).double(), torch.tensor(targets)
        guess, confidence = outputs.argmax(axis=1), values.softmax(dim=1).amax(dim=1)
        return class_metrics.measured(outputs, guess, targets, self.positive) | {
            "calibration_error": class_metrics.calibration_error(confidence.numpy(), guess == targets),
            "loss": float(functional.cross_entropy(values, labels)),
        }

    @property
    def positive(self) -> int:
        """The positive one of two classes for average precision."""
        return class_metrics.positive(self.counts)

    def undefined(self, targets: Int64[np.ndarray, " n"]) -> dict[str, str]:
        """AUROC and average precision for more than two classes, and for rows that lack a class."""
        if self.classes != 2:
            return dict.fromkeys(class_metrics.OF_TWO, f"it is of two classes, the data have {self.classes}")
        names, there = self.stratum_names(), class_metrics.of_two(targets, 2, self.positive)
        lacking = names[int(np.bincount(targets, minlength=2).argmin())]
        return {name: f"no row is of class {lacking!r}" for name in class_metrics.OF_TWO if name not in there}

    def floors(self, targets: Int64[np.ndarray, " n"]) -> dict[str, float]:
        """Metrics of a model that always predicts the commonest training class; see `Task.floors`."""
        return class_metrics.floors(targets, self.counts) if self.counts else {}

    def recalls(
        self, outputs: Float32[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"]
    ) -> list[float | None]:
        """Share of the rows of each class with their highest logit at it."""
        return class_metrics.recalls(outputs.argmax(axis=1) == targets, targets, self.classes)

    def strata(self, targets: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The classes."""
        return targets

    def stratum_names(self) -> list[str]:
        """Names of the classes."""
        return list(self.names) or [str(number) for number in range(self.classes)]

    def guesses(self, outputs: Float[np.ndarray, "n classes"]) -> Int64[np.ndarray, " n"]:
        """The class of the highest logit."""
        return np.asarray(outputs.argmax(axis=1), np.int64)

    def shown(self, target: Any) -> str:
        """The name of a class."""
        return self.stratum_names()[int(target)]


def as_task(task: Task | int) -> Task:
    """A task; a number means classification into so many classes."""
    return Classification(task) if isinstance(task, int) else task


def divergence(
    teacher: Float[torch.Tensor, "b classes"], student: Float[torch.Tensor, "b other_classes"], temperature: float
) -> Float[torch.Tensor, " b"]:
    """KL(softmax(teacher/T) ‖ softmax(student/T)) in nats at temperature T, one per sample, without the factor T².

    Half precision is widened to float32 first. Raises ValueError for different numbers of classes.
    """
    refuse_other_width(teacher, student)
    said, learned = (widened(logits).div(temperature).log_softmax(dim=1) for logits in (teacher, student))
    return functional.kl_div(learned, said, reduction="none", log_target=True).sum(dim=1)


def refuse_other_width(teacher: torch.Tensor, student: torch.Tensor) -> None:
    """Raise ValueError if the outputs of teacher and student differ in shape."""
    if teacher.shape != student.shape:
        raise ValueError(
            f"the teacher's logits are {tuple(teacher.shape)}, the student's {tuple(student.shape)}: a teacher must "
            "know the same classes"
        )


def widened(values: torch.Tensor) -> torch.Tensor:
    """The values in float32, float64 unchanged."""
    return values if values.dtype == torch.float64 else values.float()
