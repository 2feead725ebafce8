"""Facility location: a subset in which every sample has a similar one.

Maximises the sum over all samples of their highest similarity to a kept one, `0.5 + 0.5 * cosine`, greedily: within
1 - 1/e of the optimum (Nemhauser, Wolsey, Fisher, 1978). Lazy evaluation after Minoux, "Accelerated greedy algorithms",
1978; as a coreset selector, Mirzasoleiman et al., CRAIG, ICML 2020, section 3.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int64

from secateur.selectors.contract import selector
from secateur.selectors.draws.embedded import Embeddings, first_highest, memory_of_unit_rows, unit_rows
from secateur.selectors.draws.ranks import Ids, Keep, random_keys

ROWS = 4096
AT_ONCE = 16
COLUMNS = 256
"""Candidates whose gains are computed together: one matrix product in the place of many products with a vector."""


@selector(
    paper="Mirzasoleiman et al., CRAIG, ICML 2020, section 3; lazy greedy: Minoux 1978",
    draws=True,
    monotone=True,
    by_id=True,
    memory=memory_of_unit_rows,
)
def facility_location(embeddings: Embeddings, budget: int, *, seed: int = 0, ids: Ids | None = None) -> Keep:
    """Keep adding the sample of greatest gain in coverage, by lazy evaluation: the picks of the full greedy algorithm.

    Time grows with the square of the number of samples, memory does not; run it under a class policy to bound both.
    `seed` draws among equal gains, which are common: two samples that would cover each other and no others gain the
    same. A zero embedding is orthogonal to all.

    >>> points = np.float32([[1, 0], [0.98, 0.2], [0.9, 0.4], [0, 1], [0.2, 0.98], [-1, 0]])
    >>> facility_location(points, 3).nonzero()[0]
    array([2, 4, 5])
    """
    coverage = Coverage(embeddings)
    keys = random_keys(len(embeddings) if ids is None else ids, seed)
    gains = coverage.gains_of_first()
    fresh = np.zeros(len(embeddings), dtype=np.bool_)
    for _ in range(budget):
        while not fresh[pick := first_highest(gains, keys)]:
            stale = np.flatnonzero(~fresh & ~coverage.keep)
            some = stale[np.argpartition(-gains[stale], min(AT_ONCE, len(stale)) - 1)[:AT_ONCE]]
            some = np.union1d(some, pick)
            gains[some] = coverage.gains(some)
            fresh[some] = True
        coverage.add(pick)
        gains[pick] = -np.inf
        fresh[:] = False
    return coverage.keep


class Coverage:
    """A growing subset, and the similarity of each sample to the most similar one in it."""

    def __init__(self, embeddings: Embeddings) -> None:
        self.unit = unit_rows(embeddings)
        self.best = np.zeros(len(embeddings), dtype=np.float32)
        self.keep = np.zeros(len(embeddings), dtype=np.bool_)

    def similarities(self, rows: slice, columns: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "r m"]:
        """Similarity of some samples to others, rounded to 2⁻²⁰: copies are equal, whatever product gave it."""
        products = self.unit[rows] @ self.unit[columns].T
        return np.asarray(np.rint(products * np.float32(2**19) + np.float32(2**19)) * np.float32(2**-20))

    def gains_of_first(self) -> Float64[np.ndarray, " n"]:
        """Upper bounds of the gain of each sample as the first one, in one product with the sum of all."""
        total = self.unit.sum(axis=0, dtype=np.float64)
        # By blocks, each of which is a copy in float64.
        products = [self.unit[start : start + ROWS] @ total for start in range(0, len(self.unit), ROWS)]
        return np.asarray(0.5 * len(self.unit) + 0.5 * np.concatenate(products) + len(self.unit) * 2.0**-16)

    def gains(self, columns: Int64[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        """Gain in coverage by each of some samples, `COLUMNS` of them at once."""
        parts = [self._gains(columns[first : first + COLUMNS]) for first in range(0, len(columns), COLUMNS)]
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _gains(self, columns: Int64[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        total = np.zeros(len(columns))
        for start in range(0, len(self.unit), ROWS):
            rows = slice(start, start + ROWS)
            more = self.similarities(rows, columns)
            more -= self.best[rows, None]
            total += np.maximum(more, 0, out=more).sum(axis=0, dtype=np.float64)
        return total

    def add(self, row: int) -> None:
        """Take a sample into the subset."""
        self.keep[row] = True
        column = np.array([row])
        for start in range(0, len(self.unit), ROWS):
            rows = slice(start, start + ROWS)
            np.maximum(self.best[rows], self.similarities(rows, column)[:, 0], out=self.best[rows])
