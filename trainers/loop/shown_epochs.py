"""The samples of each epoch of a training, with their order and weights: a file for each epoch.

A run writes an epoch's file atomically before its first step, so a resumed run finds all epochs that it trained on.
Samplers that depend on losses cannot draw their epochs again without the training; these files record them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from secateur.scorers.lazy import torch


@dataclass(frozen=True)
class Shown:
    """One epoch: `rows` int64 `[m]` in the order of training, with repeats; `weights` float32 `[m]`, the factor of each
    loss, None if all are 1.
    """

    rows: Int64[np.ndarray, " m"]
    weights: Float32[np.ndarray, " m"] | None = None


@dataclass(frozen=True)
class ShownEpochs:
    """The epochs of one run, in their own folder."""

    folder: Path

    def write(self, epoch: int, rows: torch.Tensor, weights: torch.Tensor | None) -> None:
        """Write an epoch, counted from 0: rows int64 `[m]` and weights float32 `[m]`, on the CPU."""
        arrays = {"rows": rows.numpy()}
        if weights is not None and not bool((weights == 1).all()):
            arrays["weights"] = weights.numpy()
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.place(epoch).with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.place(epoch))

    def read(self, epoch: int) -> Shown:
        """Read an epoch; raises ValueError if it is missing or unreadable."""
        try:
            with np.load(self.place(epoch), allow_pickle=False) as kept:
                return Shown(kept["rows"], kept.get("weights"))
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{self.place(epoch)} does not hold the samples of epoch {epoch}: {error}") from error

    def all(self, sizes: Sequence[int]) -> Iterator[Shown]:
        """The epochs of a run with so many samples in each; raises ValueError for a missing one or another size."""
        for epoch, size in enumerate(sizes):
            shown = self.read(epoch)
            if len(shown.rows) != size:
                raise ValueError(f"{self.place(epoch)} has {len(shown.rows)} samples, and epoch {epoch} had {size}")
            yield shown

    def check(self, sizes: Sequence[int]) -> None:
        """Raise ValueError with the remedy unless all earlier epochs of a resumed run are there."""
        try:
            for _ in self.all(sizes):
                pass
        except ValueError as error:
            raise ValueError(f"{error}; delete the run's snapshot, and it begins anew") from error

    def remove(self) -> None:
        """Remove the folder, and its parent if that is empty then."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()

    def place(self, epoch: int) -> Path:
        """The file of an epoch."""
        return self.folder / f"{epoch:06d}.npz"
