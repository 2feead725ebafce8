"""Mean training loss."""

from __future__ import annotations

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import PresentationMean


@observer(high_means="harder", paper="cross-entropy, averaged over the run")
class Loss(PresentationMean):
    """Cross-entropy of the label, averaged over all presentations of a sample."""

    def value(self, batch: TrainingBatch) -> torch.Tensor:
        return batch.losses
