"""Keep samples uniformly at random: the baseline of every other selection."""

import numpy as np

from secateur.selectors.contract import selector
from secateur.selectors.draws.ranks import Ids, Keep
from secateur.selectors.draws.strata import draw_from_strata


@selector(version="2", draws=True, monotone=True)
def uniform_random(ids: Ids, budget: int, *, seed: int) -> Keep:
    """Keep a uniform draw without replacement.

    >>> uniform_random(np.arange(6), 3, seed=1).sum()
    np.int64(3)
    """
    return draw_from_strata(np.zeros(len(ids), np.uint8), 1, lambda _: np.array([budget]), seed=seed, ids=ids)
