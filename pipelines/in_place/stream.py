"""Kept rows as a stream that can resume: block after block, each row once over all processes and workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from secateur.pipelines.in_place.contract import Item
from secateur.selectors.samplers.contract import Shard


class Viewed(Protocol):
    """The interface of a view to a stream: see `InPlace`."""

    @property
    def bounds(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def __getitems__(self, places: Sequence[int]) -> list[Item]: ...


class Stream(IterableDataset):  # type: ignore[type-arg]
    """The items of a view; `shard` is the share of this process, of which each worker of a loader takes a run.

    An epoch is one order of all kept rows. Process `rank` of `world` takes its run of it, and workers take theirs: each
    row comes once, runs differ by one row at most, and only the processes whose run contains a block read it. Without
    `shuffle` the order is that of the data. With it blocks are shuffled, and rows among `window` blocks that are read
    together: memory holds the kept rows of so many blocks. Call `set_epoch` before each epoch, and leave
    `persistent_workers` out.

    Only rank and world of a `Shard` count here: no row is padded or dropped.
    """

    def __init__(self, view: Viewed, *, shuffle: bool, seed: int, shard: Shard | None, window: int) -> None:
        if window < 1:
            raise ValueError(f"window is a number of blocks, at least 1, got {window}")
        self.view, self.shuffle, self.seed, self.window = view, shuffle, seed, window
        self.shard, self.epoch = shard or Shard(), 0
        self._given = self._resume_at = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0, whose order the next iteration follows."""
        if epoch < 0:
            raise ValueError(f"epoch {epoch} is negative")
        if epoch != self.epoch:
            self.epoch, self._given, self._resume_at = epoch, 0, 0

    def __len__(self) -> int:
        """Rows of this process over all its workers."""
        start, stop = self._run(self.shard.rank, self.shard.world, (0, len(self.view)))
        return stop - start

    @staticmethod
    def _run(number: int, parts: int, whole: tuple[int, int]) -> tuple[int, int]:
        """One of so many runs of consecutive places, which differ by one at most."""
        start, size = whole[0], whole[1] - whole[0]
        return start + size * number // parts, start + size * (number + 1) // parts

    def _mine(self) -> tuple[int, int]:
        """Places in the epoch's order of this process and worker."""
        process = self._run(self.shard.rank, self.shard.world, (0, len(self.view)))
        worker = get_worker_info()
        return process if worker is None else self._run(worker.id, worker.num_workers, process)

    def __iter__(self) -> Iterator[Item]:
        first, stop = self._mine()
        self._given, self._resume_at = self._resume_at, 0
        start = first + self._given
        for place, rows in self._windows():
            low, high = max(start, place), min(stop, place + len(rows))
            if low >= high:
                continue
            for item in self.view.__getitems__(rows[low - place : high - place].tolist()):
                self._given += 1
                yield item

    def _windows(self) -> Iterator[tuple[int, np.ndarray]]:
        """Starts of windows (blocks read together) in the epoch's order, and places of their kept rows in it."""
        bounds = self.view.bounds
        count, place = len(bounds) - 1, 0
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(count) if self.shuffle else np.arange(count)
        size = self.window if self.shuffle else 1
        for first in range(0, count, size):
            parts = [np.arange(bounds[block], bounds[block + 1]) for block in order[first : first + size].tolist()]
            rows = np.concatenate(parts)
            yield place, random.permutation(rows) if self.shuffle else rows
            place += len(rows)

    def state_dict(self, given: int | None = None) -> dict[str, Any]:
        """The position of this process, or worker: torchdata's StatefulDataLoader saves it for each worker.

        `given` is the number of rows that were trained on, by default of those that were yielded; a loader without
        torchdata that prefetches has taken more.
        """
        made_of = [len(self.view), self.shuffle, self.seed, self.window, self.shard.rank, self.shard.world]
        return {"made_of": made_of, "epoch": self.epoch, "given": self._given if given is None else given}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state; raises ValueError for the state of another stream."""
        if list(state["made_of"]) != (mine := self.state_dict()["made_of"]):
            raise ValueError(
                f"the state is of another stream: rows, shuffle, seed, window, rank and world are {mine} here and were "
                f"{list(state['made_of'])}"
            )
        self.epoch, self._given = int(state["epoch"]), int(state["given"])
        self._resume_at = self._given
