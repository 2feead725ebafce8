"""Area under the margin, of outputs."""

from __future__ import annotations

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import PresentationMean


@observer(
    high_means="easier",
    reads=("margin",),
    paper="Pleiss et al. 2020, Identifying Mislabeled Data using the Area Under the Margin",
)
class Aum(PresentationMean):
    """Logit of the label minus the highest other logit, averaged over all presentations of a sample.

    Mislabelled samples lie at the low end. `accumulated_margin` is the variant of probabilities. For several labels it
    is the smallest over labels of the logit, negated for absent labels, so that one wrong label among many shows (our
    derivation).

    >>> aum = Aum(2, torch.device("cpu"))
    >>> ids, labels, losses = torch.tensor([0, 1]), torch.tensor([0, 0]), torch.zeros(2)
    >>> for logits in ([[3.0, 1.0], [1.0, 2.0]], [[5.0, 1.0], [0.0, 2.0]]):
    ...     aum.observe(TrainingBatch(ids, torch.tensor(logits), labels, losses))
    >>> aum.scores()
    array([ 3. , -1.5], dtype=float32)
    """

    def value(self, batch: TrainingBatch) -> torch.Tensor:
        return batch.margin
