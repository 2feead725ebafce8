"""Keep samples whose score lies between two quantiles."""

import numpy as np

from secateur.scorers.contract import Share
from secateur.selectors.contract import Cut, selector
from secateur.selectors.draws.ranks import Ids, Keep, Ordered, keep_between
from secateur.selectors.draws.strata import draw_from_strata


def ranks_between(count: int, *, low: float, high: float) -> int:
    """Samples between two quantiles; raises ValueError where they are not `0 <= low < high <= 1`."""
    if not 0 <= low < high <= 1:
        raise ValueError(f"a window needs 0 <= low < high <= 1, got low={low} and high={high}")
    return count - int(low * count) - int((1 - high) * count)


@selector(version="2", draws=True, monotone=True, room=ranks_between)
def quantile_window(
    scores: Ordered, budget: int, *, low: Cut = 0.0, high: Share = 1.0, seed: int, ids: Ids | None = None
) -> Keep:
    """Leave out the lowest `int(low * n)` and the highest `int((1 - high) * n)` scores, then draw from the rest.

    `seed` draws among equal scores at an edge. Raises ValueError where the budget exceeds the samples in the window.

    >>> quantile_window(np.arange(10, dtype=np.float32), 3, low=0.2, high=0.5, seed=0).nonzero()[0]
    array([2, 3, 4])
    """
    count = len(scores)
    first, room = int(low * count), ranks_between(count, low=low, high=high)
    outside = ~keep_between(scores, first, room, seed=seed, ids=ids)
    return draw_from_strata(outside.view(np.uint8), 2, lambda _: np.array([budget, 0]), seed=seed + 1, ids=ids)
