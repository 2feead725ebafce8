"""SemDeDup as a selector: of near copies, all but one go first.

Abbas et al., "SemDeDup: Data-efficient learning at web-scale through semantic deduplication", 2023, section 3.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float32

from secateur.scorers.contract import Count
from secateur.selectors.contract import selector
from secateur.selectors.draws.embedded import Embeddings, memory_of_unit_rows, spherical_clusters, unit_rows
from secateur.selectors.draws.ranks import Ids, Keep, keep_smallest, random_keys

ROWS = 1024
ALONE = np.float32(-2)
"""Similarity of a sample without others before it: below every cosine."""


@selector(
    paper="Abbas et al., 2023, section 3 (arXiv 2303.09540)",
    draws=True,
    monotone=True,
    by_id=True,
    memory=memory_of_unit_rows,
)
def semantic_deduplication(
    embeddings: Embeddings,
    budget: int,
    *,
    samples_per_cluster: Count = 1000,
    first: Literal["hard", "easy"] = "hard",
    seed: int,
    ids: Ids | None = None,
) -> Keep:
    """Keep the samples least similar to all that come before them in their cluster.

    Clusters are spherical k-means of L2-normalised embeddings, one for each `samples_per_cluster`; in each, samples
    far from the centroid come first (`hard`), or those close to it (`easy`). The paper removes a sample whose
    highest cosine to an earlier one, removed or not, is above `1 - epsilon`; here the threshold is the one that leaves
    the budget. It does not find copies in different clusters. `seed` draws among equals, and starts k-means.

    >>> points = np.float32([[1, 0], [1, 0], [0, 1], [0, 1], [0.7, 0.7]])
    >>> points[semantic_deduplication(points, 3, seed=0)]
    array([[1. , 0. ],
           [0. , 1. ],
           [0.7, 0.7]], dtype=float32)
    """
    if samples_per_cluster < 1:
        raise ValueError(f"samples_per_cluster must be at least 1, got {samples_per_cluster}")
    unit = unit_rows(embeddings)
    cluster, centrality = spherical_clusters(unit, -(-len(unit) // samples_per_cluster), seed=seed)
    keys = random_keys(len(unit) if ids is None else ids, seed)
    order = np.lexsort((keys, centrality if first == "hard" else -centrality, cluster))
    similarity = np.empty(len(unit), dtype=np.float32)
    for members in np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1):
        similarity[members] = highest_to_earlier(unit[members])
    return keep_smallest(similarity, budget, seed=seed, ids=ids)


def highest_to_earlier(unit: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, " n"]:
    """Highest cosine of each row to a row before it, -2 for the first; multiplies each pair of blocks once."""
    highest = np.full(len(unit), ALONE)
    for start in range(0, len(unit), ROWS):
        rows = unit[start : start + ROWS]
        for before in range(0, start, ROWS):
            found = (rows @ unit[before : before + ROWS].T).max(axis=1)
            np.maximum(highest[start : start + ROWS], found, out=highest[start : start + ROWS])
        own = rows @ rows.T
        own[np.triu_indices(len(rows))] = ALONE
        np.maximum(highest[start : start + ROWS], own.max(axis=1), out=highest[start : start + ROWS])
    return highest
