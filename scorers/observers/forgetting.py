"""Forgetting events."""

from __future__ import annotations

from typing import Literal

from secateur.scorers.contract import Observer, TrainingBatch, observer
from secateur.scorers.lazy import torch


@observer(high_means="harder", paper="Toneva et al. 2019, An Empirical Study of Example Forgetting, section 3")
class Forgetting(Observer):
    """How often a sample goes from correct at one presentation to wrong at its next.

    A sample that is never correct gets its number of presentations, as in the authors' code, or 0 with
    `never_learned="zero"`, as CCS and DeepCore have it. `per="presentation"` divides by each sample's own number of
    presentations, for runs whose sampler shows some samples more often than others.
    """

    def __init__(
        self,
        samples: int,
        device: torch.device,
        *,
        never_learned: Literal["presentations", "zero"] = "presentations",
        per: Literal["run", "presentation"] = "run",
    ) -> None:
        super().__init__(samples, device)
        self.never_learned, self.per = never_learned, per
        self.was_correct = torch.zeros(samples, dtype=torch.bool, device=device)
        self.learned = torch.zeros(samples, dtype=torch.bool, device=device)
        self.events = torch.zeros(samples, dtype=torch.int64, device=device)
        self.broken = torch.zeros(samples, dtype=torch.bool, device=device)

    def update(self, batch: TrainingBatch) -> None:
        forgotten = self.was_correct[batch.ids] & ~batch.correct
        self.events.index_add_(0, batch.ids, forgotten.long())
        self.was_correct.index_copy_(0, batch.ids, batch.correct)
        self.learned.index_copy_(0, batch.ids, self.learned[batch.ids] | batch.correct)
        self.broken.index_copy_(0, batch.ids, self.broken[batch.ids] | batch.is_nan)

    def reduce(self) -> torch.Tensor:
        never = self.presentations if self.never_learned == "presentations" else torch.zeros_like(self.events)
        events = torch.where(self.learned, self.events, never).double().masked_fill(self.broken, float("nan"))
        return events / self.presentations if self.per == "presentation" else events
