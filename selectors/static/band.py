"""Keep samples whose score lies within a band of values, drawn at random."""

from typing import Annotated

import numpy as np
from pydantic import Field

from secateur.scorers.settings import LARGEST
from secateur.selectors.contract import selector
from secateur.selectors.draws.ranks import Ids, Keep, Ordered
from secateur.selectors.draws.strata import draw_from_strata

Bound = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
"""An end of a band."""


def within_band(scores: Ordered, *, low: float, high: float) -> Keep:
    """Mask of the samples from `low` to `high`, both ends included; raises ValueError where low is above high."""
    if not low <= high:
        raise ValueError(f"a band needs low <= high, got low={low} and high={high}")
    # For scores in float32, 0.2 is another number than the bound 0.2.
    kind = scores.dtype.type if np.issubdtype(scores.dtype, np.floating) else float
    return (scores >= kind(low)) & (scores <= kind(high))


@selector(draws=True, monotone=True, candidates=within_band)
def band(scores: Ordered, budget: int, *, low: Bound, high: Bound, seed: int, ids: Ids | None = None) -> Keep:
    """Draw from the samples whose score is from `low` to `high`, for example a pass rate from 0.2 to 0.8.

    Raises ValueError where the budget exceeds the samples in the band.

    >>> band(np.float32([0.0, 0.2, 0.5, 0.9]), 2, low=0.2, high=0.8, seed=0).nonzero()[0]
    array([1, 2])
    """
    outside = ~within_band(scores, low=low, high=high)
    return draw_from_strata(outside.view(np.uint8), 2, lambda _: np.array([budget, 0]), seed=seed, ids=ids)
