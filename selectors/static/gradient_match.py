"""Keep what moves a model's last layer as examples of a job do, these in turn.

Xia et al., ICML 2024 (arXiv 2402.04333, LESS), of the last layer alone; turns as of Ivison et al. 2025 (RDS+).
"""

import numpy as np
from jaxtyping import Num

from secateur.selectors.contract import selector
from secateur.selectors.draws.ranks import Ids, Keep, keep_smallest


@selector(paper="Xia et al., ICML 2024 (arXiv 2402.04333), for the last layer alone", monotone=True)
def gradient_match(
    gradient_places: Num[np.ndarray, " n"], budget: int, *, seed: int = 0, ids: Ids | None = None
) -> Keep:
    """Keep the first rows in the order in which rows of the target take turns, each with the most alike gradient.

    `gradient_places` is that order, of `secateur.scorers.target.gradient_cosines`. Ties, as of groups, are drawn by
    `seed`.

    >>> gradient_match(np.array([2, 0, 1]), 2)
    array([False,  True,  True])
    """
    return keep_smallest(gradient_places, budget, seed=seed, ids=ids)
