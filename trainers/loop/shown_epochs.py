"""Which samples each epoch of a training showed, in what order and with what weights: a file for each epoch.

A run writes an epoch before its first step, whole or not at all, so that what a killed run has trained on is there when
it goes on. Samplers that follow losses cannot draw their epochs again without the training; this is what stays of them.
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
    """One epoch: `rows` int64 `[m]` in the order of training, a row twice where it was shown twice; `weights` float32
    `[m]`, the factor of each loss, None where all are 1.
    """

    rows: Int64[np.ndarray, " m"]
    weights: Float32[np.ndarray, " m"] | None = None


@dataclass(frozen=True)
class ShownEpochs:
    """The epochs of one run, in a folder of their own."""

    folder: Path

    def write(self, epoch: int, rows: torch.Tensor, weights: torch.Tensor | None) -> None:
        """Keep an epoch, counted from 0: rows int64 `[m]` and weights float32 `[m]`, on the CPU."""
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
        """An epoch that was kept; raises ValueError where it is not there."""
        try:
            with np.load(self.place(epoch), allow_pickle=False) as kept:
                return Shown(kept["rows"], kept.get("weights"))
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{self.place(epoch)} does not hold the samples of epoch {epoch}: {error}") from error

    def all(self, sizes: Sequence[int]) -> Iterator[Shown]:
        """The epochs of a run that had so many samples in each; raises ValueError where one is missing or another."""
        for epoch, size in enumerate(sizes):
            shown = self.read(epoch)
            if len(shown.rows) != size:
                raise ValueError(f"{self.place(epoch)} has {len(shown.rows)} samples, and epoch {epoch} had {size}")
            yield shown

    def check(self, sizes: Sequence[int]) -> None:
        """Raise ValueError, with what to do, unless the epochs are there that a run which goes on has behind it."""
        try:
            for _ in self.all(sizes):
                pass
        except ValueError as error:
            raise ValueError(f"{error}; delete the run's snapshot, and it begins anew") from error

    def remove(self) -> None:
        """Remove the folder, and the one around it where nothing else is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()

    def place(self, epoch: int) -> Path:
        """The file of an epoch."""
        return self.folder / f"{epoch:06d}.npz"
