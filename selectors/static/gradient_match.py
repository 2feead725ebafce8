"""Keep rows with the last layer's gradients most similar to those of a target, whose rows take turns.

Xia et al., ICML 2024 (arXiv 2402.04333, LESS), for the last layer alone; turns as in Ivison et al. 2025 (RDS+).
"""

import numpy as np
from jaxtyping import Num

from secateur.selectors.contract import selector
from secateur.selectors.draws.ranks import Ids, Keep, keep_smallest


@selector(paper="Xia et al., ICML 2024 (arXiv 2402.04333), for the last layer alone", monotone=True)
def gradient_match(
    gradient_places: Num[np.ndarray, " n"], budget: int, *, seed: int = 0, ids: Ids | None = None
) -> Keep:
    """Keep the first rows in the order in which rows of the target take turns, each with the most similar gradient.

    `gradient_places` is that order, from `secateur.scorers.target.gradient_cosines`. `seed` draws among ties, such as
    those of groups.

    >>> gradient_match(np.array([2, 0, 1]), 2)
    array([False,  True,  True])
    """
    return keep_smallest(gradient_places, budget, seed=seed, ids=ids)
