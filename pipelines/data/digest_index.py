"""Rows by digests of 128 bits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from secateur.pipelines.data.identity import Hashes


@dataclass(frozen=True)
class DigestIndex:
    """Digests in the order of their upper halves, uint64 `[n, 2]`, and the row of each."""

    digests: Hashes
    rows: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, digests: Sequence[Hashes], rows: Sequence[Int64[np.ndarray, " k"]] | None = None) -> "DigestIndex":
        """Of the digests in several parts, and of their rows, which are counted from 0 where none are given."""
        held = np.concatenate([np.zeros((0, 2), np.uint64), *digests])
        numbers = np.arange(len(held)) if rows is None else np.concatenate([np.zeros(0, np.int64), *rows])
        order = np.argsort(held[:, 0], kind="stable")
        return cls(held[order], numbers[order])

    def find(self, digests: Hashes) -> Int64[np.ndarray, " m"]:
        """A row of each digest, -1 where there is none, or where another one has the same upper half."""
        if not len(self.digests):
            return np.full(len(digests), -1)
        at = np.minimum(np.searchsorted(self.digests[:, 0], digests[:, 0]), len(self.digests) - 1)
        return np.where((self.digests[at] == digests).all(axis=1), self.rows[at], -1)
