"""Error L2 norm, early in training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import PresentationMean
from secateur.scorers.observers.early_epochs import FirstEpochs


@observer(
    high_means="harder",
    reads=("error",),
    paper="Paul et al. 2021, Deep Learning on a Data Diet, section 2.2; early mean as in CCS",
)
class El2n(FirstEpochs, PresentationMean):
    """Euclidean length of (softmax - one-hot label), averaged over a sample's presentations in the first epochs.

    The Data Diet paper averages checkpoints of several runs in evaluation mode; this is the training-view mean of one
    run, as the CCS paper computes it. For numbers it is the length of the residual in standard deviations of the
    targets, for several labels that of (sigmoid - label): in each case the gradient of the loss by the outputs. No
    paper defines either; where noise differs between regions, the former measures the noise of a region.
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

    def value(self, batch: TrainingBatch) -> torch.Tensor:
        return batch.error.square().sum(dim=1).sqrt()
