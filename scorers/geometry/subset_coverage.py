"""Coverage of a data set by a subset: distances of all samples to the nearest kept one."""

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped

from secateur.scorers.geometry.exact_search import search
from secateur.scorers.geometry.neighbours import sorted_by_distance
from secateur.scorers.geometry.vectors import Metric, Vectors

QUERIES = 4096
"""Samples of one search."""

SPARE = 4
"""Candidates beyond the nearest, since rounding may change their order."""


def distance_to_kept(
    embeddings: Shaped[np.ndarray, "n d"],
    keep: Bool[np.ndarray, " n"],
    *,
    metric: Metric = "euclidean",
    rows: Int64[np.ndarray, " q"] | None = None,
) -> Float32[np.ndarray, " q"]:
    """Distance of each sample, or of each of `rows`, to the nearest kept one (0 for kept ones).

    Distances are Euclidean or 1 - cosine, float32; `embeddings` are float32 or float16 `[n, d]`, read by blocks; memory
    is O(n). Raises ValueError where nothing is kept, for arrays of unequal length, and for NaN, infinite or (cosine)
    zero rows.
    """
    if len(embeddings) != len(keep):
        raise ValueError(f"{len(embeddings)} embeddings but a keep mask of {len(keep)}")
    kept, queries = np.flatnonzero(keep), np.arange(len(keep)) if rows is None else rows
    if len(kept) == 0:
        raise ValueError("nothing is kept, so that no distance to the nearest kept sample exists")
    vectors = Vectors(embeddings, metric)
    result, pruned = np.zeros(len(queries), np.float32), np.flatnonzero(~keep[queries])
    for start in range(0, len(pruned), QUERIES):
        places = pruned[start : start + QUERIES]
        candidates = search(vectors, queries[places], kept, min(1 + SPARE, len(kept)))
        result[places] = sorted_by_distance(vectors, queries[places], candidates.indices)[0][:, 0]
    return result
