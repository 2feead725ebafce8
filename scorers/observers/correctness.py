"""How often a sample is classified correctly in training."""

from __future__ import annotations

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import PresentationMean


@observer(
    high_means="easier",
    reads=(("correct", "token_accuracy"),),
    paper="Swayamdipta et al. 2020, Dataset Cartography, section 2.1",
)
class Correctness(PresentationMean):
    """Share of a sample's presentations at which its label had the highest logit, or all of its labels were right.

    For a completion the share of its tokens that had the highest logit, averaged over presentations (our derivation).
    """

    def value(self, batch: TrainingBatch) -> torch.Tensor:
        if "correct" not in batch.task.provides:
            return batch.token_accuracy.squeeze(1)
        return batch.correct.float().masked_fill(batch.not_finite, float("nan"))
