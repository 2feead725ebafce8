"""Estimates of the number of wrong labels from the rows where the model is surest.

A model hardly errs where it is surest: a label that differs from its prediction there is wrong, and the estimate takes
the share of such labels for that of all rows (anchor points: Patrini et al., CVPR 2017, arXiv:1609.03683). The estimate
adds parts from the surest rows downwards while the share stays, up to chance, that of the parts before (after Lepski,
1991): few rows give an uncertain share, many count mistakes of the model as mistakes of the labels.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

PART, LEAST, MOST = 0.05, 800, 0.5
"""Share of the rows by which the part of the surest ones grows; least number of rows in the first part, and its largest
share."""
SLACK = 0.7
"""Standard errors by which a larger part may lie above a smaller one."""
DRAWS = 1000
"""Draws for the interval."""
Count = tuple[float, float, float]
"""Estimate, lower and upper end."""


def how_many(told: Float64[np.ndarray, " m"], rows: int, *, seed: int, level: float) -> tuple[Count, float]:
    """Estimate and interval of the number of wrong rows among `rows`, and the part of the surest rows behind the
    estimate.

    `told` are the places, 0 … 1, of the differing rows in an order with the surest first; if all rows were wrong, their
    places would be uniform. Each draw of the interval resamples the rows and the slack (0 … 1.4), chooses its part
    anew, which may be half as large as the estimate's, and draws the wrong rows beyond it with a share from the
    posterior under Jeffreys' prior.
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
    """The last part, from `least` on, up to which no share is above that of a smaller part by more than the slack, and
    its share."""
    shares = wrong / seen
    sure = np.clip(shares, 0.5 / seen, 1 - 0.5 / seen)
    upper = shares + slack[:, None] * np.sqrt(sure * (1 - sure) / seen)
    upper[:, :least] = np.inf
    above = shares > np.minimum.accumulate(upper, axis=1)
    chosen = np.where(above.any(axis=1), above.argmax(axis=1) - 1, len(seen) - 1).astype(np.int64)
    return chosen, shares[np.arange(len(shares)), chosen]
