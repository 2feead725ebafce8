"""Instruction-following difficulty as a ratio of losses."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from secateur.scorers.checkpoints.contract import CheckpointBatch, checkpoint_scorer
from secateur.scorers.lazy import torch

UNSCORED = 0.0
"""The value of a sample without a ratio, or with one that the paper drops: below every ratio, so it comes last."""
Least = Annotated[int, Field(ge=1, description="fewest completion tokens of a scored sample: few give extreme ratios")]
Above = Annotated[
    bool,
    Field(description="whether ratios above 1, of prompts that do not help the answer, stay"),
]


@checkpoint_scorer(
    high_means="harder",
    reads=("losses", "headed_losses", "target_tokens", "target_cut"),
    unscored=UNSCORED,
    paper="Li et al. 2024, From Quantity to Quality (arXiv 2308.12032), and the authors' code (Cherry_LLM)",
)
def ifd_loss(batch: CheckpointBatch, *, min_response_tokens: Least = 8, above_one: Above = False) -> torch.Tensor:
    """Mean loss of the completion's tokens given the prompt, divided by that without it: two passes.

    The second pass reads the completion behind the template's header of an answer alone, whose tokens do not count, as
    in the authors' code. 0 for samples that they leave out: cut ones, and ratios above 1. Also 0 for completions of
    fewer tokens than `min_response_tokens`, our addition. Keep the highest values. `ifd_ppl` ranks others first.
    """
    ratio = batch.losses / batch.headed_losses
    out = (batch.target_tokens < min_response_tokens) | batch.target_cut | (batch.headed_losses <= 0)
    return torch.where(out if above_one else out | (ratio > 1), UNSCORED, ratio)
