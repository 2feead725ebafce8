"""Moderate coreset: the samples at a middling distance from their class.

Xia et al., "Moderate Coreset: A Universal Method of Data Selection for Real-world Data-efficient Deep Learning",
ICLR 2023, section 3.
"""

from functools import partial

import numpy as np
from jaxtyping import Float64, Int64

from secateur.selectors.contract import selector
from secateur.selectors.draws.blocks import cores, over_blocks
from secateur.selectors.draws.embedded import Embeddings
from secateur.selectors.draws.ranks import Ids, Keep, keep_between
from secateur.selectors.draws.strata import codes_of
from secateur.selectors.sizes import Sizes

BLOCK = 1 << 10
"""Rows of one block of distances."""


def memory_of_medians(sizes: Sizes) -> int:
    """Bytes of a class, in float32 and once more for its median, of the blocks of distances that run at once, and of
    numbers per sample."""
    blocks = min(cores(), -(-sizes.largest // BLOCK)) * min(BLOCK, sizes.largest)
    return (12 * sizes.largest + 16 * blocks) * sizes.dimensions + 40 * sizes.samples


@selector(paper="Xia et al., ICLR 2023, section 3", monotone=True, memory=memory_of_medians)
def moderate(
    embeddings: Embeddings, strata: Int64[np.ndarray, " n"], budget: int, *, seed: int = 0, ids: Ids | None = None
) -> Keep:
    """Keep samples at the middle distances to the per-dimension median of their class, or other stratum.

    Distances are Euclidean and ranked over all classes together: with `n - budget` samples to leave out, the closest
    `(n - budget) // 2` go, and the farthest. A class policy ranks within classes instead. `seed` draws among ties.

    >>> moderate(np.float32([[0], [1], [2], [3], [9]]), np.zeros(5, dtype=np.int64), 3).nonzero()[0]
    array([0, 1, 3])
    """
    distances = distances_to_medians(embeddings, strata)
    return keep_between(distances, (len(strata) - budget) // 2, budget, seed=seed, ids=ids)


def distances_to_medians(embeddings: Embeddings, strata: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Euclidean distance of each sample to the per-dimension median of its class; one class in memory at a time."""
    classes, occurring = codes_of(strata)
    order = np.argsort(classes, kind="stable")
    distances = np.empty(len(strata))
    for rows in np.split(order, np.searchsorted(classes[order], np.arange(1, len(occurring)))):
        members = embeddings[rows]
        median = np.median(members.astype(np.float32, copy=False), axis=0).astype(np.float64)
        distances[rows] = np.concatenate(over_blocks(len(rows), partial(lengths, members, median), BLOCK))
    return distances


def lengths(members: Embeddings, centre: Float64[np.ndarray, " d"], rows: slice) -> Float64[np.ndarray, " m"]:
    """Euclidean distance of some rows to a centre, in float64."""
    return np.asarray(np.sqrt(np.square(members[rows] - centre).sum(axis=1)))
