"""Self-confidence: a trained model's probability of the given label."""

from __future__ import annotations

from secateur.scorers.checkpoints.contract import CheckpointBatch, checkpoint_scorer
from secateur.scorers.lazy import torch

LATEST = 0.8
"""Weight of the next less confident label in the moving average."""


@checkpoint_scorer(
    high_means="easier", reads=("target_probabilities",), paper="Northcutt et al. 2021, Confident Learning, section 4.1"
)
def self_confidence(batch: CheckpointBatch) -> torch.Tensor:
    """Probability of the given label under the last checkpoint, in evaluation mode.

    Confident learning asks for out-of-sample predictions: under a proxy that was trained on the sample, a memorised
    wrong label looks confident. Range [0, 1].

    For several labels: an exponential moving average of the probabilities that each label has its given value, from the
    most to the least confident (Thyagarajan et al. 2022, "Identifying incorrect annotations in multi-label
    classification data", as in cleanlab, with its weight of 0.8), so that one wrong label among many shows.
    """
    ordered = batch.target_probabilities.sort(dim=1, descending=True).values
    average = ordered[:, 0]
    for column in range(1, ordered.shape[1]):
        average = average.lerp(ordered[:, column], LATEST)
    return average
