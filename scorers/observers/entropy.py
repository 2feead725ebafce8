"""Entropy of the prediction at the end of training."""

from __future__ import annotations

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import LatestPresentation


@observer(
    high_means="more uncertain", reads=("probabilities",), paper="Coleman et al. 2020, Selection via Proxy, section 3"
)
class Entropy(LatestPresentation):
    """Entropy of the softmax in nats, at a sample's latest presentation, whatever the label."""

    def value(self, batch: TrainingBatch) -> torch.Tensor:
        surprise: torch.Tensor = torch.special.entr(batch.probabilities)
        return surprise.sum(dim=1)
