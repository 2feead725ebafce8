"""Area under the margin, of probabilities, by which the CCS paper stratifies."""

from __future__ import annotations

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import PresentationMean


@observer(
    high_means="easier",
    reads=("probability_margin",),
    paper="Zheng et al. 2023, Coverage-centric Coreset Selection, section 4",
)
class AccumulatedMargin(PresentationMean):
    """Probability of the label minus the highest other probability, averaged over all presentations of a sample.

    CCS sums where this averages: the same ranking when every sample is presented equally often, and a fair one
    when not. Range [-1, 1]. `aum` is the variant of logits. For several labels it is the smallest margin of a label
    (our derivation).
    """

    def value(self, batch: TrainingBatch) -> torch.Tensor:
        return batch.probability_margin
