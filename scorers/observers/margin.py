"""Confidence margin at the end of training."""

from __future__ import annotations

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import LatestPresentation


@observer(
    high_means="easier",
    reads=("probability_margin",),
    paper="margin sampling with labels; Pleiss et al. 2020, section 3, for one presentation",
)
class Margin(LatestPresentation):
    """Probability of the label minus the highest other probability, at a sample's latest presentation; for
    several labels the smallest margin of a label (our derivation)."""

    def value(self, batch: TrainingBatch) -> torch.Tensor:
        return batch.probability_margin
