"""The rows of a pool that are most similar to each row of a target, block by block of the pool.

Similarity is the cosine, of dense vectors or of sparse ones such as TF-IDF; rows without direction are similar to
nothing. FAISS keeps the best of each query, so that memory holds the lists and one block: never pool x queries.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Float32, Int64

from secateur.scorers.geometry.exact_search import Heaps, fused_search

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Vectors: TypeAlias = "np.ndarray | csr_matrix"
"""Float `[n, d]`, in memory, mapped or sparse."""
WORKSPACE = 1 << 26
"""Bytes of the similarities of one block."""


def unit_rows(vectors: Vectors) -> Vectors:
    """Rows of length one, float32; rows of zeros stay."""
    if isinstance(vectors, np.ndarray):
        wide = vectors.astype(np.float32)
        lengths = np.sqrt(np.vecdot(wide, wide))[:, np.newaxis]
        return np.divide(wide, lengths, out=wide, where=lengths > 0)
    from sklearn.preprocessing import normalize

    return normalize(vectors.astype(np.float32))


def most_similar(
    pool: Vectors, queries: Vectors, count: int
) -> tuple[Int64[np.ndarray, "queries count"], Float32[np.ndarray, "queries count"]]:
    """Rows of the pool by falling cosine to each query, and the cosines; equally similar ones by their row."""
    import faiss

    count, right = min(count, pool.shape[0]), unit_rows(queries)
    if isinstance(pool, np.ndarray):
        heap = faiss.ResultHeap(len(queries), count, keep_max=True)
        for rows, block in blocks(pool, right.shape[0]):
            cosines, found = fused_search(right, block, min(count, len(block)))
            heap.add_result(cosines, found + rows.start)
        places, cosines = heap.I, heap.D
    else:
        heaps = Heaps(right.shape[0], count)
        for rows, block in blocks(pool, right.shape[0]):
            product: Any = right @ block.T
            heaps.offer(np.ascontiguousarray(product.toarray()), 0, rows.start)
        places, cosines = heaps.indices, heaps.similarities
    order = np.lexsort((places, -cosines), axis=1)
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(cosines, order, axis=1)


def blocks(pool: Vectors, queries: int) -> Iterator[tuple[slice, Vectors]]:
    """Rows of the pool with length one, so many at once that their similarities fit in the workspace."""
    total = pool.shape[0]
    step = max(1, WORKSPACE // (4 * max(queries, pool.shape[1] if isinstance(pool, np.ndarray) else queries)))
    for start in range(0, total, step):
        rows = slice(start, min(start + step, total))
        yield rows, unit_rows(np.asarray(pool[rows]) if isinstance(pool, np.ndarray) else pool[rows])
