"""How often a sample is classified correctly in training."""

from __future__ import annotations

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import PresentationMean


@observer(high_means="easier", reads=("correct",), paper="Swayamdipta et al. 2020, Dataset Cartography, section 2.1")
class Correctness(PresentationMean):
    """Share of a sample's presentations at which its label had the highest logit, or all of its labels were right."""

    def value(self, batch: TrainingBatch) -> torch.Tensor:
        return batch.correct.float().masked_fill(batch.not_finite, float("nan"))
