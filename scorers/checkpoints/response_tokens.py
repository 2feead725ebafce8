"""How long a completion is."""

from __future__ import annotations

from secateur.scorers.checkpoints.contract import CheckpointBatch, checkpoint_scorer
from secateur.scorers.lazy import torch


@checkpoint_scorer(
    high_means="longer",
    reads=("target_tokens",),
    paper="Xia et al. 2024, Rethinking Data Selection at Scale (arXiv 2410.09335): selection by length is a stable gain",
)
def response_tokens(batch: CheckpointBatch) -> torch.Tensor:
    """Completion tokens of a sample, the one that ends it among them; of a sample that is cut, those that are left.

    At equal rows the longest samples are many times as much training: compare at equal tokens.
    """
    return batch.target_tokens
