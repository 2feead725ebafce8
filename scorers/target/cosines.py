"""Cosines of the rows of a pool to the rows of a target, block by block of the pool, and the most similar rows.

Rows of zeros have cosine 0 to all. Memory holds one block of cosines and the lists of the best: never pool x queries.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Float32, Int64

from secateur.scorers.geometry.exact_search import Heaps, fused_search

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Vectors: TypeAlias = "np.ndarray | csr_matrix"
"""Float `[n, d]`, in memory, mapped or sparse."""
WORKSPACE = 1 << 26
"""Bytes of the cosines of one block, or of its vectors."""


class Cosines(ABC):
    """Cosines of `rows` of a pool to `queries` of a target, computed on demand."""

    rows: int
    queries: int

    @abstractmethod
    def blocks(self, step: int) -> Iterator[Float32[np.ndarray, "queries b"]]:
        """Cosines of consecutive rows of the pool, at most `step` of them at once."""

    @property
    def step(self) -> int:
        """Rows of a block whose cosines fit in the workspace."""
        return max(1, WORKSPACE // (4 * self.queries))

    def nearest(self, count: int) -> tuple[Int64[np.ndarray, "queries count"], Float32[np.ndarray, "queries count"]]:
        """Rows of the pool by falling cosine to each query, and the cosines; ties go to the lower row."""
        heaps, start = Heaps(self.queries, min(count, self.rows)), 0
        for tile in self.blocks(self.step):
            heaps.offer(np.ascontiguousarray(tile, np.float32), 0, start)
            start += tile.shape[1]
        return in_order(heaps.indices, heaps.similarities)

    def highest(self) -> Float32[np.ndarray, " n"]:
        """The highest cosine of each row of the pool to a query."""
        return np.concatenate([tile.max(axis=0) for tile in self.blocks(self.step)]).astype(np.float32)


def in_order(
    places: Int64[np.ndarray, "q c"], cosines: Float32[np.ndarray, "q c"]
) -> tuple[Int64[np.ndarray, "q c"], Float32[np.ndarray, "q c"]]:
    """Each list by falling cosine, equal ones by their row."""
    order = np.lexsort((places, -cosines), axis=1)
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(cosines, order, axis=1)


@dataclass(frozen=True)
class VectorCosines(Cosines):
    """Cosines of vectors, dense or sparse. FAISS makes the lists of dense ones, on a GPU if it has one."""

    pool: Vectors
    target: Vectors

    def __post_init__(self) -> None:
        if self.pool.shape[1] != self.target.shape[1]:
            raise ValueError(
                f"vectors of the target have {self.target.shape[1]} dimensions, those of the data {self.pool.shape[1]}"
            )

    @property
    def rows(self) -> int:  # type: ignore[override]
        """Rows of the pool."""
        return int(self.pool.shape[0])

    @property
    def queries(self) -> int:  # type: ignore[override]
        """Rows of the target."""
        return int(self.target.shape[0])

    @property
    def step(self) -> int:
        """See `Cosines`; dense rows themselves fit in the workspace, too."""
        dense = self.pool.shape[1] if isinstance(self.pool, np.ndarray) else 1
        return max(1, WORKSPACE // (4 * max(self.queries, dense)))

    @cached_property
    def _right(self) -> Any:
        return unit_rows(self.target)

    def _parts(self, step: int) -> Iterator[tuple[int, Any]]:
        for start in range(0, self.rows, step):
            part = self.pool[start : start + step]
            yield start, unit_rows(np.asarray(part) if isinstance(self.pool, np.ndarray) else part)

    def blocks(self, step: int) -> Iterator[Float32[np.ndarray, "queries b"]]:
        """See `Cosines`."""
        for _, part in self._parts(step):
            product = self._right @ part.T
            yield product if isinstance(product, np.ndarray) else product.toarray()

    def nearest(self, count: int) -> tuple[Int64[np.ndarray, "queries count"], Float32[np.ndarray, "queries count"]]:
        """See `Cosines`."""
        if not isinstance(self.pool, np.ndarray):
            return super().nearest(count)
        import faiss

        heap = faiss.ResultHeap(self.queries, min(count, self.rows), keep_max=True)
        for start, part in self._parts(self.step):
            cosines, found = fused_search(self._right, part, min(count, len(part)))
            heap.add_result(cosines, found + start)
        return in_order(heap.I, heap.D)


def unit_rows(vectors: Vectors) -> Vectors:
    """Rows of length one, float32; rows of zeros stay."""
    if isinstance(vectors, np.ndarray):
        wide = vectors.astype(np.float32)
        lengths = np.sqrt(np.vecdot(wide, wide))[:, np.newaxis]
        return np.divide(wide, lengths, out=wide, where=lengths > 0)
    from sklearn.preprocessing import normalize

    return normalize(vectors.astype(np.float32))


@dataclass(frozen=True)
class MeanCosines(Cosines):
    """Means of several cosines, such as those of each checkpoint."""

    each: Sequence[VectorCosines]

    @property
    def rows(self) -> int:  # type: ignore[override]
        """Rows of the pool."""
        return self.each[0].rows

    @property
    def queries(self) -> int:  # type: ignore[override]
        """Rows of the target."""
        return self.each[0].queries

    @property
    def step(self) -> int:
        """The step of the widest vectors."""
        return min(one.step for one in self.each)

    def blocks(self, step: int) -> Iterator[Float32[np.ndarray, "queries b"]]:
        """See `Cosines`."""
        for tiles in zip(*(one.blocks(step) for one in self.each), strict=True):
            yield sum(tiles) / np.float32(len(tiles))
