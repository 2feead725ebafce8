"""D2 pruning: difficulty and diversity by passing messages on a nearest-neighbour graph.

Maharana, Yadav, Bansal, "D2 Pruning: Message Passing for Balancing Diversity & Difficulty in Data Pruning", ICLR 2024,
section 3.
"""

import heapq
from typing import Annotated

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt64
from pydantic import Field

from secateur.scorers.contract import Count, Scores
from secateur.selectors.contract import Cut, selector
from secateur.selectors.draws.embedded import Embeddings, unit_rows
from secateur.selectors.draws.ranks import Ids, Keep, keep_smallest, random_keys
from secateur.selectors.static.coverage_centric import left_by_cutoff


@selector(
    paper="Maharana et al., ICLR 2024, section 3 (arXiv 2310.07931)",
    monotone=True,
    by_id=True,
    memory=lambda sizes: sizes.samples * (16 * sizes.dimensions + 1000),
    room=left_by_cutoff,
    tunable={"cutoff": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)},
)
def d2_pruning(
    scores: Scores,
    aum: Scores,
    embeddings: Embeddings,
    budget: int,
    *,
    cutoff: Cut,
    neighbours: Count = 5,
    gamma: Annotated[float, Field(ge=0)] = 0.1,
    seed: int = 0,
    ids: Ids | None = None,
) -> Keep:
    """Raise each score by those of its neighbours, then keep taking the highest and lowering its neighbours.

    `scores` are high for hard. First the `int(cutoff * n)` samples of lowest area under the margin are cut, as in CCS.
    On the graph of `neighbours` nearest of L2-normalised embeddings, Euclidean distance `d`: forward
    `s_i += Σ exp(-d_ij) s_j`, reverse, for each pick `i`, `s_j -= exp(-gamma d_ij) s_i`. Scores that go
    below zero are shifted to begin there, for a negative message would reward difficulty with the wrong sign.
    `seed` draws among equals.

    >>> points = np.float32([[1, 0], [0.98, 0.2], [0.9, 0.4], [0, 1], [0.2, 0.98], [-1, 0]])
    >>> scores, aum = np.float32([3, 2, 1, 3, 2, 1]), np.arange(6, dtype=np.float32)
    >>> d2_pruning(scores, aum, points, 3, cutoff=0.0, neighbours=2).nonzero()[0]
    array([0, 3, 5])
    """
    if neighbours < 1 or gamma < 0:
        raise ValueError(f"neighbours must be at least 1 and gamma at least 0, got {neighbours} and {gamma}")
    cut = len(scores) - left_by_cutoff(len(scores), cutoff=cutoff)
    alive = np.flatnonzero(~keep_smallest(aum, cut, seed=seed, ids=ids)) if cut else np.arange(len(scores))
    near, distances = neighbour_graph(unit_rows(embeddings[alive]), neighbours)
    start = scores[alive].astype(np.float64)
    start -= min(start.min(), 0)
    hardness = start + (np.exp(-distances) * start[near]).sum(axis=1)
    keys = random_keys(alive if ids is None else ids[alive], seed)
    keep = np.zeros(len(scores), dtype=np.bool_)
    keep[alive[picks(hardness, near, np.exp(-gamma * distances), keys, budget)]] = True
    return keep


def neighbour_graph(
    unit: Float32[np.ndarray, "n d"], count: int
) -> tuple[Int64[np.ndarray, "n k"], Float64[np.ndarray, "n k"]]:
    """The nearest other rows of each row, and Euclidean distances to them; `k` is `count`, or all others if fewer."""
    import faiss

    count = min(count, len(unit) - 1)
    found = faiss.knn(unit, unit, count + 1)[1].astype(np.int64)
    own = found == np.arange(len(unit))[:, None]
    own[~own.any(axis=1), -1] = True  # copies of a row can crowd it out of its own list
    near = found[~own].reshape(len(unit), count)
    distances = np.empty(near.shape)
    for neighbour in range(count):
        distances[:, neighbour] = np.linalg.norm(unit - unit[near[:, neighbour]], axis=1)
    return near, distances


def picks(
    hardness: Float64[np.ndarray, " n"],
    near: Int64[np.ndarray, "n k"],
    weights: Float64[np.ndarray, "n k"],
    keys: UInt64[np.ndarray, " n"],
    budget: int,
) -> list[int]:
    """Rows in the order in which the reverse pass takes them; among equals, the smallest key first."""
    level, taken, order = hardness.tolist(), [False] * len(hardness), keys.tolist()
    heap = [(-value, order[row], row) for row, value in enumerate(level)]
    heapq.heapify(heap)
    found: list[int] = []
    while len(found) < budget:
        value, _, row = heapq.heappop(heap)
        if taken[row] or -value != level[row]:
            continue
        found.append(row)
        taken[row] = True
        for other, weight in zip(near[row].tolist(), weights[row].tolist(), strict=True):
            if not taken[other]:
                level[other] += weight * value
                heapq.heappush(heap, (-level[other], order[other], other))
    return found
