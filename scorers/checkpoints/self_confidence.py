"""Self-confidence: what a trained model thinks of the label that a sample was given."""

from __future__ import annotations

from secateur.scorers.checkpoints.contract import CheckpointBatch, checkpoint_scorer
from secateur.scorers.lazy import torch


@checkpoint_scorer(high_means="easier", paper="Northcutt et al. 2021, Confident Learning, section 4.1")
def self_confidence(batch: CheckpointBatch) -> torch.Tensor:
    """Probability of the given label under the last checkpoint, in evaluation mode.

    Confident learning asks for out-of-sample predictions: under a proxy that was trained on the sample, a memorised
    wrong label looks confident. Range [0, 1].
    """
    return batch.probabilities.gather(1, batch.labels.unsqueeze(1)).squeeze(1)
