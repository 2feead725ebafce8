"""Dyn-Unc: how much the probability of the label wavers over training."""

from __future__ import annotations

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.windows import WindowMean, moments


@observer(
    high_means="more uncertain",
    reads=(("predictions", "token_accuracy"),),
    paper="He et al. 2024, Large-scale Dataset Pruning with Dynamic Uncertainty",
)
class DynamicUncertainty(WindowMean):
    """Standard deviation (`n - 1`) of the label's probability in a sliding window, averaged over all windows.

    The authors evaluate each sample once more, unaugmented, after its training forward pass, scale by a constant 10 and
    leave out the last window; this score reads the training forward pass itself, unscaled, and every full window. For
    numbers it follows the prediction in standard deviations of the targets, for several labels the probability of each;
    the score is then the mean over targets or labels. For completions it follows the share of tokens that have the
    highest logit (all our derivations).
    """

    def followed(self, batch: TrainingBatch) -> torch.Tensor:
        return batch.predictions if "predictions" in batch.task.provides else batch.token_accuracy

    def value(self, recent: torch.Tensor, count: torch.Tensor | None) -> torch.Tensor:
        return moments(recent, count)[1]
