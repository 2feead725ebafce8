"""Herding: a subset whose mean follows the mean of all.

Welling, "Herding dynamical weights to learn", ICML 2009, in the form of Rebuffi et al., "iCaRL", CVPR 2017,
Algorithm 4.
"""

import numpy as np

from secateur.selectors.contract import selector
from secateur.selectors.draws.embedded import Embeddings, SquaredDistances
from secateur.selectors.draws.ranks import Ids, Keep, random_keys

CLOSE = 1e-4
"""Relative distance from the best float32 one within which candidates are compared again in float64."""


@selector(paper="Welling, ICML 2009; Rebuffi et al., CVPR 2017, Algorithm 4", monotone=True, by_id=True)
def herding(embeddings: Embeddings, budget: int, *, seed: int = 0, ids: Ids | None = None) -> Keep:
    """Keep adding the sample that brings the mean of the subset closest to the mean of all samples.

    The means are those of the given embeddings; normalise them first for iCaRL's. No sample is taken twice; `seed`
    draws among equals. Each pick takes a pass over the embeddings.

    >>> herding(np.float32([[0], [1], [2], [9]]), 1).nonzero()[0]
    array([2])
    """
    keys = random_keys(len(embeddings) if ids is None else ids, seed)
    distances = SquaredDistances(embeddings)
    mean = np.asarray(embeddings.mean(axis=0, dtype=np.float64))
    wanted = mean.copy()  # where the next pick would make the two means equal
    keep = np.zeros(len(embeddings), dtype=np.bool_)
    for _ in range(budget):
        squares = distances.to(wanted)
        squares[keep] = np.inf
        lowest = squares.min()
        close = np.flatnonzero(squares <= lowest + CLOSE * lowest)
        exact = np.square(embeddings[close].astype(np.float64) - wanted).sum(axis=1)
        pick = int(close[np.lexsort((keys[close], exact))[0]])
        keep[pick] = True
        wanted += mean - embeddings[pick]
    return keep
