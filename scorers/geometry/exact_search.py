"""Exact nearest-neighbour search: matrix products by tiles, and k-selection by FAISS, never all pairs at once.

Similarity is -|a - b|² / 2 of prepared rows as one product of rows with two more columns, a·b - |a|²/2 - |b|²/2; it is
symmetric, so a search of a set in itself multiplies each pair of tiles once and offers the result to the rows
of both. Candidates come out in float32 and unsorted: their caller compares the original rows (`Vectors.distances`).
K-selection after Johnson et al., "Billion-scale similarity search with GPUs", IEEE Big Data 2019.

Core-seconds of `faiss.knn` 1.15.1 divided by those of `self_search`, k = 10, normal float32 rows, two cores of an AMD
EPYC shared with other work, the least of five runs in turn (of two for 50,000 rows), by `benchmarks/knn.py --grid`:

| rows | 32 dimensions | 128 | 512 |
| ---: | ---: | ---: | ---: |
| 5,000 | 3.2 | 2.1 | 2.1 |
| 20,000 | 4.3 | 2.9 | 2.2 |
| 50,000 | 5.0 | 3.2 | 2.3 |

All of `nearest_neighbours` at 20,000 x 128, with true distances and audit, 2.4.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from secateur.scorers.geometry.search_cost import WORKSPACE
from secateur.scorers.geometry.vectors import Vectors

TILE = 1024
"""Rows and columns of one tile: 4 MB of similarities, small enough for a cache, large enough for a fast product."""

GPU_LIMIT = 2048
"""Most neighbours that FAISS selects on a GPU."""


@dataclass(frozen=True)
class Candidates:
    """The most similar rows found, unsorted: `indices` int64 (-1 where none) and `similarities` float32, `[b, c]`."""

    indices: Int64[np.ndarray, "b c"]
    similarities: Float32[np.ndarray, "b c"]


class Heaps:
    """The `count` highest similarities of every row, as FAISS heaps whose root is the lowest kept."""

    def __init__(self, rows: int, count: int) -> None:
        import faiss

        self.similarities = np.empty((rows, count), np.float32)
        self.indices = np.empty((rows, count), np.int64)
        self.heaps: Any = faiss.float_minheap_array_t()
        self.heaps.k, self.heaps.nh = count, rows
        self.heaps.val, self.heaps.ids = faiss.swig_ptr(self.similarities), faiss.swig_ptr(self.indices)
        self.pointer = faiss.swig_ptr
        self.heaps.heapify()

    def offer(self, tile: Float32[np.ndarray, "r c"], rows: int, columns: int) -> None:
        """Take similarities of rows from `rows` on to columns from `columns` on, contiguous."""
        self.heaps.addn(tile.shape[1], self.pointer(tile), columns, rows, tile.shape[0])

    def offer_columns(self, tile: Float32[np.ndarray, "r c"], rows: int, columns: int) -> None:
        """Take the same tile by its columns: each column is a row of the data, each row a candidate for it."""
        roots = self.similarities[columns : columns + tile.shape[1], 0].copy()
        if np.isneginf(roots).any():
            self.offer(np.ascontiguousarray(tile.T), columns, rows)
            return
        better = np.flatnonzero(tile > roots)
        if len(better) == 0:
            return
        row, column = np.divmod(better, tile.shape[1])
        # Sorting 16-bit integers stably is a radix sort, ten times the speed of another.
        order = np.argsort(column.astype(np.uint16), kind="stable")
        counts = np.bincount(column, minlength=tile.shape[1])
        column = column[order]
        # The entries of a column stand side by side, padded to the length of the longest.
        place = np.arange(len(order)) - (np.cumsum(counts) - counts)[column]
        values = np.full((tile.shape[1], counts.max()), -np.inf, np.float32)
        names = np.full(values.shape, -1, np.int64)
        values[column, place] = tile.reshape(-1)[better[order]]
        names[column, place] = row[order] + rows
        width = values.shape[1]
        self.heaps.addn_with_ids(width, self.pointer(values), self.pointer(names), width, columns, tile.shape[1])


def self_search(vectors: Vectors, count: int, *, workspace: int = WORKSPACE) -> Candidates:
    """The `count` most similar other rows of every row; a row is never its own candidate.

    Memory holds two panels of prepared rows of `workspace` bytes each, whatever the number of rows, which exceeds
    `count`. Every core multiplies its own tiles: one product spread over cores would wait for each selection.
    """
    import faiss
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    heaps = Heaps(vectors.samples, count)
    panel = max(TILE, workspace // (4 * (vectors.dimensions + 2)) // TILE * TILE)
    spans = [slice(start, min(start + panel, vectors.samples)) for start in range(0, vectors.samples, panel)]
    cores = faiss.omp_get_max_threads()
    with (
        threadpool_limits(limits=1, user_api="blas"),
        ThreadPoolExecutor(cores, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool,
    ):
        for upper in spans:
            queries, database = both_sides(vectors, upper)
            for lower in spans[spans.index(upper) :]:
                if lower != upper:
                    _, database = both_sides(vectors, lower)
                work = PanelPair(heaps, queries, database, upper.start, lower.start)
                running = [pool.submit(work.run) for _ in range(cores)]
                try:
                    for worker in running:
                        worker.result()
                finally:
                    work.stop()
    return Candidates(heaps.indices, heaps.similarities)


class PanelPair:
    """All pairs of the rows of two panels that start at rows `upper` and `lower` of the data, tile by tile."""

    def __init__(
        self,
        heaps: Heaps,
        queries: Float32[np.ndarray, "q e"],
        database: Float32[np.ndarray, "m e"],
        upper: int,
        lower: int,
    ) -> None:
        self.heaps, self.queries, self.database, self.upper, self.lower = heaps, queries, database, upper, lower
        starts = {
            first + row for first, rows in ((upper, queries), (lower, database)) for row in range(0, len(rows), TILE)
        }
        self.locks = {start: Lock() for start in starts}
        self.waiting = self.tiles()
        self.turn = Lock()

    def tiles(self) -> Iterator[tuple[int, int]]:
        """First row and column of each tile, by diagonals, so that tiles next in turn touch different heaps."""
        high, wide = -(-len(self.queries) // TILE), -(-len(self.database) // TILE)
        for diagonal in range(0 if self.upper == self.lower else 1 - high, wide):
            for i in range(max(0, -diagonal), min(high, wide - diagonal)):
                yield i * TILE, (i + diagonal) * TILE

    def run(self) -> None:
        """Take tiles until none is left; every core does this at once."""
        buffer = np.empty(TILE * TILE, np.float32)
        while True:
            with self.turn:
                tile = next(self.waiting, None)
            if tile is None:
                return
            self.multiply(*tile, buffer)

    def stop(self) -> None:
        """Let no core begin another tile: the search is over, has failed or was interrupted."""
        with self.turn:
            self.waiting = iter(())

    def multiply(self, i: int, j: int, buffer: Float32[np.ndarray, " t"]) -> None:
        """Offer one tile to the heaps of its rows and of its columns."""
        left, right = self.queries[i : i + TILE], self.database[j : j + TILE]
        tile = buffer[: len(left) * len(right)].reshape(len(left), len(right))
        np.matmul(left, right.T, out=tile)
        rows, columns = self.upper + i, self.lower + j
        if rows == columns:
            np.fill_diagonal(tile, -np.inf)
        with self.locks[rows]:
            self.heaps.offer(tile, rows, columns)
        if rows != columns:
            with self.locks[columns]:
                self.heaps.offer_columns(tile, rows, columns)


def both_sides(
    vectors: Vectors, rows: slice | Int64[np.ndarray, " b"]
) -> tuple[Float32[np.ndarray, "b e"], Float32[np.ndarray, "b e"]]:
    """Prepared rows as the left and the right factor of a similarity: `[b, d + 2]` each."""
    block = vectors.prepared(rows)
    half = np.vecdot(block, block)[:, None] / -2
    ones = np.ones_like(half)
    return np.hstack([block, half, ones]), np.hstack([block, ones, half])


def search(
    vectors: Vectors,
    queries: Int64[np.ndarray, " b"],
    database: Int64[np.ndarray, " m"] | None,
    count: int,
    *,
    workspace: int = WORKSPACE,
) -> Candidates:
    """The `count` rows most similar to each of some rows, among the rows `database` (all rows where None).

    A query that lies in the database finds itself too. Runs on a GPU if FAISS has one and `count` is at most 2048.
    """
    import faiss

    total = vectors.samples if database is None else len(database)
    heap = faiss.ResultHeap(len(queries), count, keep_max=True)
    step = max(TILE, workspace // (4 * (vectors.dimensions + 2)))
    left, _ = both_sides(vectors, queries)
    for start in range(0, total, step):
        stop = min(start + step, total)
        rows = np.arange(start, stop) if database is None else database[start:stop]
        _, right = both_sides(vectors, slice(start, stop) if database is None else rows)
        similarities, found = fused_search(left, right, min(count, stop - start))
        heap.add_result(similarities, np.where(found < 0, -1, rows[found]))
    return Candidates(heap.I, heap.D)


def fused_search(
    left: Float32[np.ndarray, "b e"], right: Float32[np.ndarray, "m e"], count: int
) -> tuple[Float32[np.ndarray, "b c"], Int64[np.ndarray, "b c"]]:
    """FAISS's brute force by inner product, on its first GPU where it has one."""
    import faiss

    metric = faiss.METRIC_INNER_PRODUCT
    if on_gpu(count):
        similarities, found = faiss.knn_gpu(faiss.StandardGpuResources(), left, right, count, metric=metric)
    else:
        similarities, found = faiss.knn(left, right, count, metric=metric)
    return similarities, found


def on_gpu(count: int) -> bool:
    """Whether FAISS has a GPU that can select so many neighbours."""
    import faiss

    return bool(faiss.get_num_gpus() > 0 and count <= GPU_LIMIT)


def without_self(found: Candidates, queries: Int64[np.ndarray, " b"]) -> Candidates:
    """One candidate fewer for each query: itself, or, where duplicates crowded it out, the least similar."""
    own: Bool[np.ndarray, "b c"] = found.indices == queries[:, None]
    drop = np.where(own.any(axis=1), own.argmax(axis=1), found.similarities.argmin(axis=1))
    stay = np.ones(own.shape, bool)
    stay[np.arange(len(queries)), drop] = False
    shape = (len(queries), own.shape[1] - 1)
    return Candidates(found.indices[stay].reshape(shape), found.similarities[stay].reshape(shape))
