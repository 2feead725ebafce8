"""Confidence margin under the last checkpoint."""

from __future__ import annotations

from secateur.scorers.checkpoints.contract import CheckpointBatch, checkpoint_scorer
from secateur.scorers.lazy import torch


@checkpoint_scorer(
    high_means="easier", reads=("probability_margin",), paper="margin sampling with labels, under a trained model"
)
def checkpoint_margin(batch: CheckpointBatch) -> torch.Tensor:
    """Probability of the label minus the highest other probability, in evaluation mode.

    `margin` is the training-view value of a sample's latest presentation. Range [-1, 1]. For several labels
    it is the smallest margin of a label (our derivation).
    """
    return batch.probability_margin
