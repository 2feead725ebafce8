"""Sliding windows over a sample's own presentations, for scores of how a prediction moves.

A window is `window` consecutive presentations of one sample, in any epochs, so that the same rule holds for samples
that a sampler shows less often. Memory holds only a ring of the latest values, float32 `[samples, k, window]`, where k
is 1 unless a target has several parts: each presentation completes one window, and a sum takes its value. The value of
a sample is the mean over the parts of its target.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import Field

from secateur.scorers.contract import TrainingBatch
from secateur.scorers.lazy import torch
from secateur.scorers.observers.averages import mean_of_parts
from secateur.scorers.observers.early_epochs import FirstEpochs

Window = Annotated[int, Field(ge=2, description="presentations of a sample in a window")]


class WindowMean(FirstEpochs):
    """Mean over all sliding windows of one value per window, of numbers that `followed` takes from a batch.

    A sample with fewer presentations than a window is scored by its one shorter window. Without `epochs` the whole run
    counts, else its first epochs with their `presentations`.
    """

    compares: ClassVar[int] = 2
    """Fewest presentations of a sample for a score."""

    def __init__(self, samples: int, device: torch.device, *, window: Window = 10) -> None:
        super().__init__(samples, device)
        self.window = window
        # The first batch shows the number of parts of a target.
        self.recent = torch.zeros(samples, 0, window, dtype=torch.float32, device=device)
        self.total = torch.zeros(samples, dtype=torch.float64, device=device)

    @abstractmethod
    def followed(self, batch: TrainingBatch) -> torch.Tensor:
        """The numbers to follow, float32 `[b, k]`."""

    @abstractmethod
    def value(self, recent: torch.Tensor, count: torch.Tensor | None) -> torch.Tensor:
        """One number per window, float64 `[m]`, of its values `[m, window]` in any order, or of its first `count`."""

    def update(self, batch: TrainingBatch) -> None:
        before, numbers = self.presentations[batch.ids], self.followed(batch)
        if not self.recent.shape[1]:
            self.recent = self.recent.new_zeros(len(self.recent), numbers.shape[1], self.window)
        self.recent[batch.ids, :, before % self.window] = numbers
        value = self.of_parts(self.recent[batch.ids], None)
        self.total.index_add_(0, batch.ids, value * (before >= self.window - 1))

    def reduce(self) -> torch.Tensor:
        short = (self.presentations < self.window).nonzero().flatten()
        mean = self.total / (self.presentations - self.window + 1).clamp(min=1)
        mean[short] = self.of_parts(self.recent[short], self.presentations[short])
        return mean

    def of_parts(self, recent: torch.Tensor, count: torch.Tensor | None) -> torch.Tensor:
        """Mean over parts of the value of each part's window: float32 `[m, k, window]` -> float64 `[m]`."""
        parts = recent.shape[1]
        counts = None if count is None else count.repeat_interleave(parts)
        return mean_of_parts(self.value(recent.flatten(0, 1), counts).reshape(-1, parts))


def moments(recent: torch.Tensor, count: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and sample standard deviation (`n - 1`) of each row's values, or its first `count`, float64 `[m]` each.

    One value has a deviation of 0.
    """
    if count is None:
        values = recent.double()
        mean = values.mean(dim=1, keepdim=True)
        squares = (values - mean).square_().sum(dim=1)
        return mean.squeeze(1), (squares / (recent.shape[1] - 1)).sqrt_()
    inside = torch.arange(recent.shape[1], device=recent.device) < count.unsqueeze(1)
    values = recent.double() * inside
    mean = values.sum(dim=1) / count
    deviation = (values - mean.unsqueeze(1)) * inside
    return mean, (deviation.square().sum(dim=1) / (count - 1).clamp(min=1)).sqrt()
