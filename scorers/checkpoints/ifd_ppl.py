"""Instruction-following difficulty as a ratio of perplexities."""

from __future__ import annotations

from secateur.scorers.checkpoints.contract import CheckpointBatch, checkpoint_scorer
from secateur.scorers.checkpoints.ifd_loss import UNSCORED, Above, Least
from secateur.scorers.lazy import torch


@checkpoint_scorer(
    high_means="harder",
    reads=("losses", "bare_losses", "target_tokens"),
    unscored=UNSCORED,
    paper="Li et al. 2024, Superfiltering (arXiv 2402.00530), and the authors' code",
)
def ifd_ppl(batch: CheckpointBatch, *, min_response_tokens: Least = 8, above_one: Above = False) -> torch.Tensor:
    """Perplexity of the completion given the prompt, divided by that of the bare completion: two passes.

    The bare completion stands behind a start token, so that both passes score the same tokens (the authors' model has
    no start token, and leaves the first one out of one pass). 0 for ratios of 1 and above, which the authors leave out,
    and for completions of fewer tokens than `min_response_tokens`, our addition; cut samples stay, as in their code.
    Keep the highest values. `ifd_loss` ranks others first.
    """
    ratio = (batch.losses - batch.bare_losses).exp()
    out = batch.target_tokens < min_response_tokens
    return torch.where(out if above_one else out | (ratio >= 1), UNSCORED, ratio)
