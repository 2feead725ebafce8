"""How many are wrong: the share among the rows that would tell best, as many of them as chance allows.

Where a model is surest it hardly errs, so that a label which differs from its prediction there is wrong, and the share
of such labels is taken to hold for all rows (anchor points: Patrini et al., CVPR 2017, arXiv:1609.03683). Parts are
added from the surest rows downwards while the share stays, up to chance, that of the parts before (after Lepski, 1991):
few rows would give an uncertain share, many would count mistakes of the model as mistakes of the labels.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

PART, LEAST, MOST = 0.05, 800, 0.5
"""Share of the rows by which the part of the surest ones grows; rows of the first part at least, but no larger
share."""
SLACK = 0.7
"""Standard errors by which a larger part may lie above a smaller one."""
DRAWS = 1000
"""Of the interval."""
Count = tuple[float, float, float]
"""Estimate, lower and upper end."""


def how_many(told: Float64[np.ndarray, " m"], rows: int, *, seed: int, level: float) -> tuple[Count, float]:
    """Estimate and interval of how many of `rows` are wrong, and the part that the estimate was read from.

    `told` are places, 0 … 1, of the rows that differ, in an order of the surest first which would spread rows that are
    all wrong evenly. Each draw of the interval resamples the rows and the slack (0 … 1.4), chooses its part anew, which
    may be half as large as the estimate's, and draws what is beyond it by a share from the posterior of Jeffreys'
    prior.
    """
    first = max(PART, min(LEAST / rows, MOST) / 2)
    ends = np.append(np.arange(first, 1 - 1e-9, PART), 1.0)
    seen = np.maximum(np.round(ends * rows), 1).astype(np.int64)
    wrong = np.minimum(np.searchsorted(np.sort(told), ends, side="right"), seen).astype(np.int64)
    sizes = np.diff(seen, prepend=0)
    rates = np.minimum(np.diff(wrong, prepend=0) / np.maximum(sizes, 1), 1.0)
    least = int(np.searchsorted(ends, min(max(PART, LEAST / rows), MOST) - 1e-9))
    chosen, shares = stable_share(wrong[None], seen, np.array([SLACK]), least)
    random = np.random.default_rng(seed)
    drawn = np.cumsum(random.binomial(sizes, rates, (DRAWS, len(ends))), axis=1).astype(np.int64)
    parts = stable_share(drawn, seen, random.uniform(0, 2 * SLACK, DRAWS), 0)[0]
    some, of = wrong[parts], seen[parts]
    counts = some + random.binomial(rows - of, random.beta(some + 0.5, of - some + 0.5))
    low, high = np.quantile(counts, [(1 - level) / 2, (1 + level) / 2])
    count = float(shares[0] * rows)
    return (count, min(float(low), count), max(float(high), count)), float(ends[chosen[0]])


def stable_share(
    wrong: Int64[np.ndarray, "draws parts"],
    seen: Int64[np.ndarray, " parts"],
    slack: Float64[np.ndarray, " draws"],
    least: int,
) -> tuple[Int64[np.ndarray, " draws"], Float64[np.ndarray, " draws"]]:
    """The last part, from `least` on, up to which none lies above a smaller one by more than the slack, and its
    share."""
    shares = wrong / seen
    sure = np.clip(shares, 0.5 / seen, 1 - 0.5 / seen)
    upper = shares + slack[:, None] * np.sqrt(sure * (1 - sure) / seen)
    upper[:, :least] = np.inf
    above = shares > np.minimum.accumulate(upper, axis=1)
    chosen = np.where(above.any(axis=1), above.argmax(axis=1) - 1, len(seen) - 1).astype(np.int64)
    return chosen, shares[np.arange(len(shares)), chosen]
