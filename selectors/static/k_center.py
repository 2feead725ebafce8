"""k-center greedy: each pick is the sample farthest from all picks before it.

Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018, Algorithm 1
(Gonzalez' farthest-first traversal).
"""

import numpy as np

from secateur.selectors.contract import selector
from secateur.selectors.draws.embedded import Embeddings, SquaredDistances, first_highest
from secateur.selectors.draws.ranks import Ids, Keep, random_keys


@selector(paper="Sener and Savarese, ICLR 2018, Algorithm 1", draws=True, monotone=True, by_id=True)
def k_center(embeddings: Embeddings, budget: int, *, seed: int, ids: Ids | None = None) -> Keep:
    """Start at a random sample and keep adding the one of greatest Euclidean distance to its nearest pick.

    Memory holds one distance per sample, whatever the budget; each pick takes a pass over the embeddings. `seed` draws
    among equal distances, such as those of copies of kept samples.

    >>> k_center(np.float32([[0], [0.1], [5], [5.1], [9]]), 3, seed=0).nonzero()[0]
    array([0, 2, 4])
    """
    keys = random_keys(len(embeddings) if ids is None else ids, seed)
    distances = SquaredDistances(embeddings)
    nearest = np.full(len(embeddings), np.inf, dtype=np.float32)
    pick = int(keys.argmin())
    for _ in range(budget - 1):
        np.minimum(nearest, distances.to(embeddings[pick]), out=nearest)
        nearest[pick] = -1
        pick = first_highest(nearest, keys)
    nearest[pick] = -1
    return nearest < 0
