"""Entropy of the prediction under the last checkpoint."""

from __future__ import annotations

from secateur.scorers.checkpoints.contract import CheckpointBatch, checkpoint_scorer
from secateur.scorers.lazy import torch


@checkpoint_scorer(
    high_means="more uncertain", reads=("probabilities",), paper="Coleman et al. 2020, Selection via Proxy, section 3"
)
def checkpoint_entropy(batch: CheckpointBatch) -> torch.Tensor:
    """Entropy of the softmax in nats, in evaluation mode, whatever the label.

    `entropy` is the training-view value of a sample's latest presentation.
    """
    surprise: torch.Tensor = torch.special.entr(batch.probabilities)
    return surprise.sum(dim=1)
