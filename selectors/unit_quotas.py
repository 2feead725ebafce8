"""Quotas by a column for whole groups and budgets of a column: the part of the total for each value."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from secateur.selectors.contract import Selector
from secateur.selectors.draws.quotas import balanced, proportional
from secateur.selectors.draws.ranks import Ids, Keep
from secateur.selectors.draws.strata import codes_of
from secateur.selectors.whole_units import Costs, Units, choose_units

Share = Literal["proportional", "balanced"]
STEPS = 10**9
"""Number of parts of a total to share out."""


def choose_by_quota(
    chosen: Selector[...],
    signals: Mapping[str, np.ndarray],
    units: Units,
    total: float,
    *,
    strata: Int64[np.ndarray, " n"],
    share: Share | Mapping[int, float],
    settings: Mapping[str, Any],
    seed: int,
    ids: Ids,
) -> Keep:
    """`choose_units` in each stratum by itself, with its part of the total.

    `strata` int64 `[n]` are numbers of the values of a column; a group belongs where most of its samples do, and units
    that cannot be kept do not count. `share` is `proportional` to the cost of the stratum's samples, `balanced` (as
    equal as the strata allow), or a share of the total by stratum. Raises ValueError where shares are negative or add
    up to more than 1, and as `choose_units`.
    """
    own = units.reduced(strata)[units.of]
    codes, occurring = codes_of(own)
    allowed = chosen.allowed(units.signals(signals) | dict(settings))
    each = units.costs if allowed is None else np.where(allowed, units.costs, 0)
    sizes = np.bincount(codes, (each / units.sizes)[units.of])
    keep = np.zeros(len(own), np.bool_)
    for stratum, quota in enumerate(quotas_of(sizes, occurring, total, share)):
        rows = np.flatnonzero(codes == stratum)
        own_units = np.unique(units.of[rows])
        can_be_kept = own_units if allowed is None else own_units[allowed[own_units]]
        if quota < np.min(units.costs[can_be_kept], initial=np.inf):
            continue
        inside = Units(codes_of(units.of[rows])[0].astype(np.int64), units.costs[own_units])
        here = {name: values[rows] for name, values in signals.items()}
        keep[rows] = choose_units(chosen, here, inside, quota, settings=settings, seed=seed, ids=ids[rows])
    return keep


def quotas_of(
    sizes: Costs, occurring: Int64[np.ndarray, " strata"], total: float, share: Share | Mapping[int, float]
) -> Costs:
    """Part of the total for each stratum, float64, at most the cost of its samples; whole numbers if costs are."""
    if isinstance(share, Mapping):
        shares = np.array([share.get(int(stratum), 0.0) for stratum in occurring])
        if (shares < 0).any() or sum(share.values()) > 1 + 1e-9:
            raise ValueError(f"shares are parts of the whole that add up to 1 at most, and these are {dict(share)}")
        return np.asarray(np.minimum(shares * total, sizes))
    sizes = np.where(np.abs(sizes - np.round(sizes)) < 1e-6, np.round(sizes), sizes)  # groups' costs come in parts
    whole = bool(np.array_equal(sizes, np.round(sizes)))
    step = 1.0 if whole else total / STEPS
    counts = np.floor(sizes / step).astype(np.int64)
    share_out = proportional if share == "proportional" else balanced
    return share_out(counts, min(int(total / step), int(counts.sum()))) * step
