"""Loss under the last checkpoint."""

from __future__ import annotations

from secateur.scorers.checkpoints.contract import CheckpointBatch, checkpoint_scorer
from secateur.scorers.lazy import torch


@checkpoint_scorer(high_means="harder", reads=("losses",), paper="the loss under a trained model")
def checkpoint_loss(batch: CheckpointBatch) -> torch.Tensor:
    """The task's loss, in evaluation mode: cross-entropy of the label in nats; for other tasks see `loss`.

    `loss` is the training-view mean over a run.
    """
    return batch.losses
