"""Keep random rows of the target's own sources: the baseline that often beats selections for a target."""

import numpy as np
from jaxtyping import Int64

from secateur.selectors.contract import selector
from secateur.selectors.draws.ranks import Ids, Keep
from secateur.selectors.draws.strata import draw_from_strata


@selector(draws=True, monotone=True)
def target_source_random(ids: Ids, target_source: Int64[np.ndarray, " n"], budget: int, *, seed: int) -> Keep:
    """Keep a uniform draw of the rows of the target's own sources, and beyond these a draw of the others.

    `target_source` is 1 for a row of a source that rows of the target have, 0 for others.

    >>> own = np.array([1, 0, 1, 0, 0])
    >>> own[target_source_random(np.arange(5), own, 3, seed=0)].tolist()
    [1, 1, 0]
    """

    def shares(sizes: Int64[np.ndarray, " strata"]) -> Int64[np.ndarray, " strata"]:
        own = min(budget, int(sizes[1]))
        return np.array([budget - own, own])

    return draw_from_strata((target_source > 0).astype(np.uint8), 2, shares, seed=seed, ids=ids)
