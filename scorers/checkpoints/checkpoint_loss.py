"""Loss under the last checkpoint."""

from __future__ import annotations

from secateur.scorers.checkpoints.contract import CheckpointBatch, checkpoint_scorer
from secateur.scorers.lazy import torch


@checkpoint_scorer(high_means="harder", paper="cross-entropy under a trained model")
def checkpoint_loss(batch: CheckpointBatch) -> torch.Tensor:
    """Cross-entropy of the label in nats, in evaluation mode. `loss` is the training-view mean over a run."""
    return batch.losses
