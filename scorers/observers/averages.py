"""Averages over a sample's own presentations, the reduction that most observers share.

Dividing by each sample's own count keeps a score comparable when a sampler shows some samples more often than others.
"""

from __future__ import annotations

from abc import abstractmethod

from secateur.scorers.contract import Observer, TrainingBatch
from secateur.scorers.lazy import torch


def mean_of_parts(values: torch.Tensor) -> torch.Tensor:
    """Mean over the parts of a target: one number per sample, `[b]`, from one per part, `[b, k]`."""
    return values.squeeze(1) if values.shape[1] == 1 else values.mean(dim=1)


def chances_of(batch: TrainingBatch) -> torch.Tensor:
    """Probability of each part of a target, float32 `[b, k]`; for a completion its token accuracy, `[b, 1]`."""
    return batch.target_probabilities if "target_probabilities" in batch.task.provides else batch.token_accuracy


class PresentationMean(Observer):
    """Mean of one value per presentation; float64 sums."""

    def __init__(self, samples: int, device: torch.device) -> None:
        super().__init__(samples, device)
        self.total = torch.zeros(samples, dtype=torch.float64, device=device)

    @abstractmethod
    def value(self, batch: TrainingBatch) -> torch.Tensor:
        """The value to average, float `[b]`."""

    def update(self, batch: TrainingBatch) -> None:
        self.total.index_add_(0, batch.ids, self.value(batch).double())

    def reduce(self) -> torch.Tensor:
        return self.total / self.presentations


class LatestPresentation(Observer):
    """The value at each sample's latest presentation, float32."""

    def __init__(self, samples: int, device: torch.device) -> None:
        super().__init__(samples, device)
        self.latest = torch.zeros(samples, dtype=torch.float32, device=device)

    @abstractmethod
    def value(self, batch: TrainingBatch) -> torch.Tensor:
        """The value to remember, float `[b]`."""

    def update(self, batch: TrainingBatch) -> None:
        self.latest.index_copy_(0, batch.ids, self.value(batch))

    def reduce(self) -> torch.Tensor:
        return self.latest
