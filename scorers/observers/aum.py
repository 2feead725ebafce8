"""Area under the margin, of logits."""

from __future__ import annotations

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import PresentationMean


@observer(high_means="easier", paper="Pleiss et al. 2020, Identifying Mislabeled Data using the Area Under the Margin")
class Aum(PresentationMean):
    """Logit of the label minus the highest other logit, averaged over all presentations of a sample.

    Mislabelled samples lie at the low end. `accumulated_margin` is the variant of probabilities.
    """

    def value(self, batch: TrainingBatch) -> torch.Tensor:
        return batch.logit_margin
