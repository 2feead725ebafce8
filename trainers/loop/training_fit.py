"""The fit of a training run to its own samples, by the outputs for each at its latest presentation.

An observer, so it needs no additional forward pass: the outputs are those of the training batches, before each update,
with augmentation if the config augments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.scorers.contract import Observer, TrainingBatch
from secateur.scorers.lazy import torch
from secateur.trainers.contract import Data
from secateur.trainers.tasks.own import OwnTask

MOST = 1 << 25
"""Largest number of outputs to keep: 128 MiB. Beyond it only the accuracy by epoch is available."""


class TrainingFit(Observer):
    """Keeps the latest outputs of each sample, float32 `[n, width]`, and for classes the accuracy of each epoch."""

    def __init__(self, samples: int, device: torch.device, *, width: int, counts: bool) -> None:
        super().__init__(samples, device)
        self.width, self.counts = width, counts
        kept = samples if samples * width <= MOST else 0
        self.latest = torch.zeros((kept, width), dtype=torch.float32, device=device)
        self.right = torch.zeros(2, dtype=torch.int64, device=device)
        """Numbers of correct and of all presentations of this epoch."""
        self.shares = torch.zeros(0, dtype=torch.float64)
        """Accuracy of each completed epoch."""

    @classmethod
    def of(cls, data: Data, device: torch.device) -> TrainingFit | None:
        """The observer for a run over these data; None for a user's own task."""
        if isinstance(data.task, OwnTask):
            return None
        return cls(
            len(data),
            device,
            width=data.task.width,
            counts=data.task.target == "class" and "correct" in data.task.provides,
        )

    def update(self, batch: TrainingBatch) -> None:
        """See `Observer.update`."""
        if len(self.latest):
            self.latest.index_copy_(0, batch.ids, batch.outputs)
        if self.counts:
            self.right += torch.stack([batch.correct.sum(), torch.ones_like(batch.ids).sum()])

    def end_epoch(self, epoch: int) -> None:
        """See `Observer.end_epoch`."""
        super().end_epoch(epoch)
        if self.counts:
            right, shown = self.right.double().cpu()
            self.shares = torch.cat([self.shares, (right / shown).reshape(1)])
            self.right.zero_()

    def reduce(self) -> torch.Tensor:
        """No score: see `summary`."""
        raise NotImplementedError("signals of a run are no scores of its samples")

    def summary(self, data: Data) -> Mapping[str, Any]:
        """JSON-able: `metrics` of the task by name, from the latest outputs of all samples, empty if a sample was never
        presented or there are too many outputs; `accuracy` of each epoch, empty for other targets than classes.
        """
        whole = len(self.latest) and bool((self.presentations > 0).all())
        metrics = data.task.evaluate(self.latest.cpu().numpy(), data.targets) if whole else {}
        return {"metrics": dict(metrics), "accuracy": self.shares.tolist()}
