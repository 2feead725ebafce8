"""Keep every class's share at random."""

import numpy as np
from jaxtyping import Bool, Int64

from secateur.selectors.contract import selector
from secateur.selectors.draws.iterative_stratification import draw_by_labels
from secateur.selectors.draws.quotas import proportional
from secateur.selectors.draws.ranks import Ids, Keep
from secateur.selectors.draws.strata import codes_of, draw_from_strata


@selector(version="2", draws=True)
def stratified_random(
    ids: Ids, memberships: Int64[np.ndarray, " n"] | Bool[np.ndarray, "n labels"], budget: int, *, seed: int
) -> Keep:
    """Keep a uniform draw within each class, sized in proportion to the class by largest remainder.

    Classes are those of `memberships`, or quantiles of a number. Where samples have several labels each, `memberships`
    are bool `[n, labels]`, and iterative stratification keeps the share of every label (Sechidis et al. 2011).

    >>> classes = np.array([0, 0, 0, 0, 1, 1])
    >>> np.bincount(classes[stratified_random(np.arange(6), classes, 3, seed=1)])
    array([2, 1])
    """
    if memberships.ndim == 2:
        return draw_by_labels(memberships, budget, seed=seed, ids=ids)
    strata, occurring = codes_of(memberships)
    return draw_from_strata(strata, len(occurring), lambda sizes: proportional(sizes, budget), seed=seed, ids=ids)
