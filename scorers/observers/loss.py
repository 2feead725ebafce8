"""Mean training loss."""

from __future__ import annotations

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import PresentationMean


@observer(high_means="harder", reads=("losses",), paper="the loss that is trained on, averaged over the run")
class Loss(PresentationMean):
    """The task's loss, averaged over all presentations of a sample: cross-entropy of the label in nats; for numbers,
    half the squared residual or Huber's loss in standard deviations; for several labels, the mean of their binary
    cross-entropies, which hides one wrong label among many (`aum` does not); for completions, the mean over tokens."""

    def value(self, batch: TrainingBatch) -> torch.Tensor:
        return batch.losses
