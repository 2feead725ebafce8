"""The schedule of a run: its length, its epochs of a subset or of a sampler, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from secateur.scorers.lazy import torch
from secateur.selectors.draws.ranks import Keep
from secateur.selectors.samplers.contract import EpochSampler
from secateur.trainers.contract import Data, TrainingConfig

BUCKETS = 5
"""Separates the draws of batches by length from those of the order, which have the same seed and epoch."""


def rate_at(progress: float, warmup: float, schedule: Literal["cosine", "constant", "step"] = "cosine") -> float:
    """Learning rate as a share of its peak: a linear rise, then half a cosine to 0 at the end of the run.

    The schedule `constant` stays at the peak; `step` drops to a tenth at half of the run and again at three quarters.

    It depends on progress in [0, 1], so it ends with the run, for epochs of any length.
    """
    if progress < warmup:
        return progress / warmup
    if schedule == "constant":
        return 1.0
    if schedule == "step":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


@dataclass
class Position:
    """Position of a run, whose next step is `step` of `epoch`, and its cost so far, over all processes."""

    epoch: int = 0
    step: int = 0
    steps_done: int = 0
    samples_seen: int = 0
    tokens_seen: int = 0
    """Completion tokens of the samples seen, if samples are sequences."""
    seconds: float = 0.0
    epoch_samples: list[int] = field(default_factory=list)
    """Number of samples of each epoch begun; the last epoch may be cut by `config.steps`."""

    def state_dict(self) -> dict[str, Any]:
        """The position as numbers and a list."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a position."""
        vars(self).update({**state, "epoch_samples": list(state["epoch_samples"])})


@dataclass(frozen=True)
class Epoch:
    """Samples of one epoch, ids int64 `[m]` in the order of training, cut into steps of `batch_size`.

    With `join_last` a last step of one sample joins the step before: batch norm cannot measure one sample, and a
    sampler may draw such a number in any epoch.
    """

    number: int
    ids: torch.Tensor
    batch_size: int
    join_last: bool = False

    @property
    def steps(self) -> list[slice]:
        """The slice of `ids` of each step."""
        size, count = self.batch_size, len(self.ids)
        starts = list(range(0, count, size))
        if self.join_last and len(starts) > 1 and count - starts[-1] == 1:
            del starts[-1]
        return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], count], strict=True)]


@dataclass(frozen=True)
class Schedule:
    """The epochs of a run and its progress, over fixed rows or over those of a sampler.

    With `config.steps` a run has exactly that many optimiser steps, over as many epochs as necessary, and progress
    counts steps. With `config.epochs` it has that many epochs; under a sampler, whose later epochs have unknown
    lengths, all count equally for progress.
    """

    config: TrainingConfig
    rows: torch.Tensor
    sampler: EpochSampler | None
    seed: int
    sizes: Int64[np.ndarray, "2 n"] | None = None
    """Of sequences, by id: the number of tokens, and of learned tokens."""

    @property
    def total_steps(self) -> int | None:
        """Optimiser steps of the whole run; None if they depend on the sampler's draws."""
        if self.sampler is None:
            return self.config.total_steps(len(self.rows))
        return self.config.steps

    def order(self, epoch: int) -> torch.Tensor:
        """Ids of an epoch, int64; with a sampler a collective call of all processes."""
        if self.sampler is None:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.rows))
            return self.rows[torch.from_numpy(order)]
        self.sampler.set_epoch(epoch)
        return torch.from_numpy(self.sampler.epoch_ids())

    def epochs(self, position: Position) -> Iterator[Epoch]:
        """Epochs from that of `position` on; the caller advances the position."""
        total, size = self.total_steps, self.config.batch_size
        while position.epoch < self.config.epochs if total is None else position.steps_done < total:  # type: ignore[operator]
            ids = self.order(position.epoch)
            if total is not None:
                ids = ids[: (total - position.steps_done + position.step) * size]
            if self.sizes is not None and self.config.length_buckets:
                # After the cut, so that the samples of an epoch do not depend on their lengths.
                draw = np.random.default_rng((self.seed, position.epoch, BUCKETS))
                ids = by_length(ids, self.sizes[0], size, self.config.length_buckets, draw)
            yield Epoch(position.epoch, ids, size, join_last=self.sampler is not None)

    def progress(self, position: Position, steps: int) -> float:
        """Completed share of the run in the middle of the next step, of an epoch of `steps` steps.

        At the beginning or end of a step, the first or the last step of the run would have a rate of 0.
        """
        total = self.total_steps
        if total is not None:
            return (position.steps_done + 0.5) / total
        return (position.epoch + (position.step + 0.5) / steps) / (self.config.epochs or 1)

    def done(self, position: Position, steps: int) -> float:
        """Completed share of the run after the last step, of an epoch of `steps` steps."""
        if self.total_steps is not None:
            return position.steps_done / self.total_steps
        return (position.epoch + position.step / steps) / (self.config.epochs or 1)

    def expected_steps(self, position: Position) -> int:
        """Expected steps of the whole run at the end of an epoch, from the mean length of the epochs so far."""
        return self.total_steps or position.steps_done * (self.config.epochs or 1) // (position.epoch + 1)


def by_length(
    ids: torch.Tensor, lengths: Int64[np.ndarray, " n"], size: int, batches: int, draw: np.random.Generator
) -> torch.Tensor:
    """The same ids, int64 `[m]`, reordered to samples of similar lengths in each step of `size`.

    Each window of `batches` batches keeps its place and samples: it is sorted by length (stably), cut into batches, and
    the batches are shuffled. An incomplete last batch stays last; a draw decides its place in the sorted samples.
    """
    values, parts = ids.numpy(), list[np.ndarray]()
    for first in range(0, len(values), size * batches):
        window = values[first : first + size * batches]
        ordered, left = window[np.argsort(lengths[window], kind="stable")], len(window) % size
        begins = size * int(draw.integers(len(window) // size + 1)) if left else 0
        full = np.delete(ordered, slice(begins, begins + left)).reshape(-1, size)
        parts += [full[draw.permutation(len(full))].reshape(-1), ordered[begins : begins + left]]
    return torch.from_numpy(np.concatenate(parts) if parts else values)


def rows_to_train_on(data: Data, keep: Keep | None) -> torch.Tensor:
    """Rows of the keep mask, int64; raises ValueError for a mask of other data, an empty one, and wrong targets."""
    if keep is not None and len(keep) != len(data):
        raise ValueError(f"the keep mask is over {len(keep)} samples, the data holds {len(data)}")
    rows = np.arange(len(data)) if keep is None else np.flatnonzero(keep)
    if not len(rows):
        raise ValueError(f"nothing to train on: {len(rows)} of {len(data)} samples are kept")
    data.task.check(data.targets, rows)
    return torch.from_numpy(rows)


def check_sampler(sampler: EpochSampler, data: Data, keep: Keep | None) -> None:
    """Raise ValueError for a sampler beside a keep mask, of other data, of a shard, or used in a training already."""
    name = type(sampler).__name__
    if keep is not None:
        raise ValueError(f"a keep mask and the sampler {name} were given: train on a subset, or select while training")
    if sampler.samples != len(data):
        raise ValueError(f"the sampler {name} is over {sampler.samples} samples, the data holds {len(data)}")
    if sampler.shard.world != 1:
        raise ValueError(f"the sampler {name} draws a share of each epoch: the loop itself splits batches, leave Shard")
    if sampler.epoch or (sampler.observed is not None and sampler.observed.pending):
        raise ValueError(f"the sampler {name} has been trained with already: make a new one for each run")


def once_each(ids: torch.Tensor) -> list[torch.Tensor] | None:
    """Places of a batch in parts without repeated ids; an epoch may hold the same sample from each of two passes.

    None if no id occurs twice.

    >>> once_each(torch.tensor([3, 1, 3]))
    [tensor([0, 1]), tensor([2])]
    """
    values = ids.numpy()
    order = np.argsort(values, kind="stable")
    runs = np.diff(values[order], prepend=-1) != 0
    if runs.all():
        return None
    starts = np.maximum.accumulate(np.where(runs, np.arange(len(values)), 0))
    turn = np.empty(len(values), dtype=np.int64)
    turn[order] = np.arange(len(values)) - starts
    return [torch.from_numpy(np.flatnonzero(turn == number)) for number in range(int(turn.max()) + 1)]
