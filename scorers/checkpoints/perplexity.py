"""Perplexity of a completion given its prompt."""

from __future__ import annotations

from secateur.scorers.checkpoints.contract import CheckpointBatch, checkpoint_scorer
from secateur.scorers.lazy import torch


@checkpoint_scorer(
    high_means="harder", reads=("losses", "target_tokens"), paper="the exponential of the mean loss per token"
)
def perplexity(batch: CheckpointBatch) -> torch.Tensor:
    """The exponential of a completion's mean negative log-likelihood per token, given its prompt: one pass.

    It orders samples as `checkpoint_loss` does, which is the mean itself.
    """
    return batch.losses.exp()
