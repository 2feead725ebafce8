"""Error L2 norm, early in training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from secateur.scorers.contract import TrainingBatch, observer, rows_text
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import PresentationMean


@observer(
    high_means="harder",
    reads=("error",),
    paper="Paul et al. 2021, Deep Learning on a Data Diet, section 2.2; early mean as in CCS",
)
class El2n(PresentationMean):
    """Euclidean length of (softmax - one-hot label), averaged over a sample's presentations in the first epochs.

    The Data Diet paper averages checkpoints of several runs in evaluation mode; this is the training-view mean of one
    run, as the CCS paper computes it. For numbers it is the length of the residual in standard deviations of the
    targets, for several labels that of (sigmoid - label): in each case the gradient of the loss by the outputs. No
    paper defines either; noise that differs between regions makes the former say how noisy a region is.
    """

    def __init__(
        self,
        samples: int,
        device: torch.device,
        *,
        epochs: Annotated[int, Field(ge=1, description="epochs from the start that count")] = 10,
    ) -> None:
        super().__init__(samples, device)
        self.epochs = epochs
        self.counted = torch.zeros(samples, dtype=torch.int64, device=device)

    def value(self, batch: TrainingBatch) -> torch.Tensor:
        return batch.error.square().sum(dim=1).sqrt()

    def update(self, batch: TrainingBatch) -> None:
        if int(self.epoch) < self.epochs:
            super().update(batch)
            self.counted.index_add_(0, batch.ids, torch.ones_like(batch.ids))

    def reduce(self) -> torch.Tensor:
        missed = (self.counted == 0).nonzero().flatten().cpu().numpy()
        if len(missed):
            raise ValueError(f"score 'el2n': the first {self.epochs} epochs never presented {rows_text(missed)}")
        return self.total / self.counted
