"""Keep the samples at one end of a score."""

from typing import Literal

from secateur.selectors.contract import selector
from secateur.selectors.draws.ranks import Ids, Keep, Ordered, keep_largest, keep_smallest


@selector(monotone=True)
def top(
    scores: Ordered, budget: int, *, end: Literal["high", "low"] = "high", seed: int = 0, ids: Ids | None = None
) -> Keep:
    """Keep the highest (or lowest) scores; `seed` draws among equal scores.

    >>> top(np.float32([1, 3, 2]), 2)
    array([False,  True,  True])
    """
    return (keep_largest if end == "high" else keep_smallest)(scores, budget, seed=seed, ids=ids)
