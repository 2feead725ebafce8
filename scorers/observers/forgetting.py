"""Forgetting events."""

from __future__ import annotations

from typing import ClassVar, Literal

from secateur.scorers.contract import Observer, TrainingBatch, observer
from secateur.scorers.lazy import torch


@observer(
    high_means="harder",
    reads=(("correct", "error", "token_accuracy"),),
    paper="Toneva et al. 2019, An Empirical Study of Example Forgetting, section 3",
)
class Forgetting(Observer):
    """How often a sample goes from correct at one presentation to wrong at its next.

    A sample that is never correct gets its number of presentations, as in the authors' code, or 0 with
    `never_learned="zero"`, as in CCS and DeepCore. `per="presentation"` divides by each sample's own number of
    presentations, for runs whose sampler shows some samples more often than others.

    Several labels count as correct where all are. For numbers no threshold is published: a sample counts as learned in
    an epoch where the length of its residual is at most the median of the epoch (our derivation), and events are
    counted from epoch to epoch. A completion counts as learned in an epoch where its share of tokens without the
    highest logit is at most the median of the epoch (also ours: no published event is one of tokens).
    """

    compares: ClassVar[int] = 2
    """Fewest presentations of a sample for a score."""

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
        # Of the current epoch, NaN for samples not presented yet; without entries where `correct` is defined.
        self.residuals = torch.zeros(0, dtype=torch.float32, device=device)

    def update(self, batch: TrainingBatch) -> None:
        self.broken.index_copy_(0, batch.ids, self.broken[batch.ids] | batch.not_finite)
        if "correct" in batch.task.provides:
            self.count(batch.ids, batch.correct)
        else:
            if not len(self.residuals):
                self.residuals = self.residuals.new_full((len(self.events),), float("nan"))
            self.residuals.index_copy_(0, batch.ids, residuals_of(batch))

    def end_epoch(self, epoch: int) -> None:
        super().end_epoch(epoch)
        if not len(self.residuals):
            return
        ids = (~self.residuals.isnan()).nonzero().flatten()
        if len(ids):
            self.count(ids, self.residuals[ids] <= self.residuals[ids].median())
            self.residuals.fill_(float("nan"))

    def count(self, ids: torch.Tensor, correct: torch.Tensor) -> None:
        """Take in whether some samples, each at most once, are correct now."""
        self.events.index_add_(0, ids, (self.was_correct[ids] & ~correct).long())
        self.was_correct.index_copy_(0, ids, correct)
        self.learned.index_copy_(0, ids, self.learned[ids] | correct)

    def reduce(self) -> torch.Tensor:
        never = self.presentations if self.never_learned == "presentations" else torch.zeros_like(self.events)
        events = torch.where(self.learned, self.events, never).double().masked_fill(self.broken, float("nan"))
        return events / self.presentations if self.per == "presentation" else events


def residuals_of(batch: TrainingBatch) -> torch.Tensor:
    """Distance of samples from their targets where `correct` is undefined, float32 `[b]`."""
    known = "error" in batch.task.provides
    far: torch.Tensor = torch.linalg.vector_norm(batch.error, dim=1) if known else 1 - batch.token_accuracy.squeeze(1)
    return far
