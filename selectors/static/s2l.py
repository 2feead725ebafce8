"""S2L: rows with similar loss curves teach similar things, so draw evenly from clusters of curves.

Yang et al., "SmallToLarge (S2L): Scalable Data Selection for Fine-tuning Large Language Models by Summarizing Training
Trajectories of Small Models", NeurIPS 2024 (arXiv 2403.07384), section 3.2, and the authors' code (MIT).
"""

import numpy as np
from jaxtyping import Float32, Int64

from secateur.scorers.contract import Count
from secateur.selectors.contract import selector
from secateur.selectors.draws.quotas import water_filling
from secateur.selectors.draws.ranks import Ids, Keep
from secateur.selectors.draws.strata import codes_of, draw_from_strata, sizes_of
from secateur.selectors.sizes import Sizes

ROUNDS = 20
"""Iterations of k-means, as in the authors' code."""
FEW = 2
"""Most rows of a cluster that is left out until all others are used up."""


def memory_of_clusters(sizes: Sizes) -> int:
    """Bytes of a source's curves for k-means, and of numbers per sample."""
    return 8 * sizes.largest * sizes.dimensions + 64 * sizes.samples


@selector(
    paper="Yang et al., NeurIPS 2024 (arXiv 2403.07384), section 3.2", draws=True, by_id=True, memory=memory_of_clusters
)
def s2l(
    loss_trajectories: Float32[np.ndarray, "n checkpoints"],
    strata: Int64[np.ndarray, " n"],
    budget: int,
    *,
    clusters: Count = 100,
    seed: int,
    ids: Ids | None = None,
) -> Keep:
    """Keep equally many random rows of each source, and in each equally many of each cluster of loss curves.

    `loss_trajectories` are losses at checkpoints of a small proxy, oldest first; `strata` are sources, or classes.
    Within a source k-means (Euclidean, of the losses as they are) makes at most `clusters` clusters of all of its
    curves. Sources and clusters smaller than their part stay whole, and the others share the rest. Clusters of one or
    two rows are left out until all others are used up. The authors' code reads missing losses as 0, so that these rows
    look learned; here a loss that is not a number raises an error that names the row. `seed` starts k-means and draws.

    >>> curves = np.float32([[2, 2], [2, 2], [2, 2], [2, 0], [2, 0], [2, 0]])
    >>> kept = s2l(curves, np.zeros(6, np.int64), 2, clusters=2, seed=0)
    >>> int(kept[:3].sum()), int(kept[3:].sum())  # one of each curve
    (1, 1)
    """
    source, occurring = codes_of(strata)
    shares = water_filling(sizes_of(source, len(occurring)), budget)
    cell, quotas = np.empty(len(strata), np.int64), list[int]()
    for number, share in enumerate(shares.tolist()):
        rows = np.flatnonzero(source == number)
        own = clusters_of(loss_trajectories[rows], clusters, seed=seed) if share < len(rows) else np.zeros_like(rows)
        own, shared = shared_out(own, share)
        cell[rows] = own + len(quotas)
        quotas += shared
    return draw_from_strata(cell, len(quotas), lambda _: np.array(quotas, np.int64), seed=seed, ids=ids)


def clusters_of(curves: Float32[np.ndarray, "n checkpoints"], count: int, *, seed: int) -> Int64[np.ndarray, " n"]:
    """Cluster of each curve by k-means; FAISS learns from all of them, not from 256 of each cluster as by default."""
    import faiss

    curves = np.ascontiguousarray(curves, np.float32)
    means = faiss.Kmeans(
        curves.shape[1],
        min(count, len(curves)),
        niter=ROUNDS,
        seed=seed % (1 << 31),
        min_points_per_centroid=1,
        max_points_per_centroid=len(curves),
    )
    means.train(curves)
    return means.index.search(curves, 1)[1][:, 0].astype(np.int64)


def shared_out(clusters: Int64[np.ndarray, " n"], budget: int) -> tuple[Int64[np.ndarray, " n"], list[int]]:
    """Cell of each row of a source, and the part of the budget of each cell. Clusters of more than `FEW` rows are
    cells; all other rows are the last cell, which gets the rest of the budget."""
    sizes = np.bincount(clusters)
    large = sizes > FEW
    cells = np.where(large, np.cumsum(large) - 1, np.count_nonzero(large))[clusters]
    among = min(budget, int(sizes[large].sum()))
    return cells, [*water_filling(sizes[large], among).tolist(), budget - among]
