"""Keep equally many random rows of each source: a baseline for selections for a target."""

import numpy as np
from jaxtyping import Int64

from secateur.selectors.contract import selector
from secateur.selectors.draws.quotas import balanced
from secateur.selectors.draws.ranks import Ids, Keep
from secateur.selectors.draws.strata import codes_of, draw_from_strata


@selector(paper="random-balanced of Ivison et al., 2025 (arXiv 2503.01807)", draws=True)
def source_balanced_random(ids: Ids, sources: Int64[np.ndarray, " n"], budget: int, *, seed: int) -> Keep:
    """Keep a uniform draw within each source, as equal as their sizes allow.

    `sources` number the source of each row. Larger sources give the rows that small ones lack.

    >>> sources = np.array([0, 0, 0, 0, 0, 1])
    >>> np.bincount(sources[source_balanced_random(np.arange(6), sources, 4, seed=1)])
    array([3, 1])
    """
    strata, occurring = codes_of(sources)
    return draw_from_strata(strata, len(occurring), lambda sizes: balanced(sizes, budget), seed=seed, ids=ids)
