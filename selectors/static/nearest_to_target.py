"""Keep what is most like a target, its queries in turn.

Ivison et al., arXiv 2503.01807 (RDS+): a global top by the highest similarity gives everything to the query that many
rows are like; in turn each query gets its share.
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

    `target_places` is that order, from `secateur.scorers.target.target_places`. Ties, as of groups, are drawn by
    `seed`.

    >>> nearest_to_target(np.array([2, 0, 1]), 2)
    array([False,  True,  True])
    """
    return keep_smallest(target_places, budget, seed=seed, ids=ids)
