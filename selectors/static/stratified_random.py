"""Keep every class's share at random."""

import numpy as np
from jaxtyping import Int64

from secateur.selectors.contract import selector
from secateur.selectors.draws.quotas import proportional
from secateur.selectors.draws.ranks import Ids, Keep
from secateur.selectors.draws.strata import codes_of, draw_from_strata


@selector(version="2", draws=True)
def stratified_random(ids: Ids, labels: Int64[np.ndarray, " n"], budget: int, *, seed: int) -> Keep:
    """Keep a uniform draw within each class, sized in proportion to the class by largest remainder.

    >>> labels = np.array([0, 0, 0, 0, 1, 1])
    >>> np.bincount(labels[stratified_random(np.arange(6), labels, 3, seed=1)])
    array([2, 1])
    """
    classes, occurring = codes_of(labels)
    return draw_from_strata(classes, len(occurring), lambda sizes: proportional(sizes, budget), seed=seed, ids=ids)
