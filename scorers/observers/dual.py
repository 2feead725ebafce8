"""DUAL: difficulty times uncertainty, from the start of training alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from secateur.scorers.contract import TrainingBatch, observer
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import chances_of
from secateur.scorers.observers.windows import Window, WindowMean, moments


@observer(
    high_means="more uncertain",
    reads=(("target_probabilities", "token_accuracy"),),
    paper="Cho et al. 2025, Lightweight Dataset Pruning without Full Training via Example Difficulty and Prediction "
    "Uncertainty (arXiv 2502.06905), section 3",
)
class Dual(WindowMean):
    """(1 - mean) times standard deviation (`n - 1`) of the label's probability in a sliding window, averaged.

    Only windows within the first epochs count: 30 for CIFAR and 60 for ImageNet in the paper. The authors scale by a
    constant 10, this score does not. For several labels it is the mean over labels; for completions the share of tokens
    that have the highest logit takes the place of the probability (our derivations). DUAL's beta sampling reads
    `mean_probability` beside it.
    """

    def __init__(
        self,
        samples: int,
        device: torch.device,
        *,
        window: Window = 10,
        epochs: Annotated[int, Field(ge=1, description="epochs from the start that count")] = 30,
    ) -> None:
        super().__init__(samples, device, window=window)
        self.epochs = epochs

    def followed(self, batch: TrainingBatch) -> torch.Tensor:
        return chances_of(batch)

    def value(self, recent: torch.Tensor, count: torch.Tensor | None) -> torch.Tensor:
        mean, deviation = moments(recent, count)
        return (1 - mean) * deviation
