"""Keep the rows most similar to a target, whose queries take turns.

Ivison et al., arXiv 2503.01807 (RDS+): a global ranking by the highest similarity gives everything to a query with many
similar rows; with turns each query gets its share.
"""

import numpy as np
from jaxtyping import Num

from secateur.selectors.contract import selector
from secateur.selectors.draws.ranks import Ids, Keep, keep_smallest


@selector(paper="Ivison et al., 2025 (arXiv 2503.01807)", monotone=True)
def nearest_to_target(
    target_places: Num[np.ndarray, " n"], budget: int, *, seed: int = 0, ids: Ids | None = None
) -> Keep:
    """Keep the first rows in the order in which the target's queries, or its tasks, take turns.

    `target_places` is that order, from `secateur.scorers.target.target_places`. `seed` draws among ties, such as those
    of groups.

    >>> nearest_to_target(np.array([2, 0, 1]), 2)
    array([False,  True,  True])
    """
    return keep_smallest(target_places, budget, seed=seed, ids=ids)
