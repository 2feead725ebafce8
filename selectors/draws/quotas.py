"""Quotas of groups that share a budget: exact, in integers."""

import numpy as np
from jaxtyping import Int64

Counts = Int64[np.ndarray, " groups"]


def proportional(sizes: Counts, budget: int, *, floor: int = 0, room: Counts | None = None) -> Counts:
    """Quotas in proportion to the group sizes, rounded by largest remainder (Hamilton's method).

    At least `floor` of each group, or all of a smaller one, and at most `room` (by default its size).
    Raises ValueError where floors or room make the budget impossible.
    """
    return apportion(sizes, sizes, budget, floor=floor, room=room)


def balanced(sizes: Counts, budget: int, *, floor: int = 0, room: Counts | None = None) -> Counts:
    """Quotas as equal as sizes allow: larger groups make up for small ones.

    `floor`, `room` and errors as in `proportional`. Remainders go to the largest groups.
    """
    return apportion(np.minimum(sizes, 1), sizes, budget, floor=floor, room=room)


def water_filling(sizes: Counts, budget: int) -> Counts:
    """Bin budgets of coverage-centric selection (Zheng et al., ICLR 2023, Algorithm 1): small bins stay whole.

    The paper walks bins by ascending population and gives each `min(size, rest // bins left)`; the balanced quotas
    are the same numbers.
    """
    return balanced(sizes, budget)


def apportion(weights: Counts, sizes: Counts, budget: int, *, floor: int = 0, room: Counts | None = None) -> Counts:
    """Integer quotas that sum to `budget`, each within a rounding of `clip(rate · weight, lower, upper)` for one rate.

    `lower` is `min(floor, upper)`, `upper` is `room`, or `sizes`. Fractions go by largest remainder; equal
    remainders to the larger group, then to the later one. Raises ValueError where bounds make the budget impossible.
    """
    upper = sizes if room is None else np.minimum(room, sizes)
    lower = np.minimum(floor, upper)
    if not lower.sum() <= budget <= upper.sum():
        raise ValueError(
            f"budget {budget} cannot be shared out: a floor of {floor} in each of {np.count_nonzero(sizes)} groups "
            f"takes {lower.sum()}, and the groups can give {upper.sum()} at most; change the floor or the budget"
        )
    quotas = np.zeros_like(sizes)
    free = np.ones(len(sizes), dtype=np.bool_)
    rest, weight = budget, int(weights.sum())
    while weight:
        share = rest * weights  # in units of 1 / weight
        below, above = free & (share < lower * weight), free & (share > upper * weight)
        shortfall = int((lower * weight - share)[below].sum())
        excess = int((share - upper * weight)[above].sum())
        if not shortfall and not excess:
            break
        # Clipping moves the common rate towards the larger error, so that side stays clipped: fix it.
        bound, fixed = (lower, below) if shortfall >= excess else (upper, above)
        quotas[fixed] = bound[fixed]
        free &= ~fixed
        rest, weight = budget - int(quotas.sum()), int(weights[free].sum())
    if not weight and rest:
        quotas += apportion(upper - quotas, upper - quotas, rest)
    if weight:
        share = np.where(free, rest * weights, 0)
        quotas += share // weight
        order = np.lexsort((np.arange(len(sizes)), sizes, np.where(free, share % weight, -1)))
        quotas[order[len(order) - (budget - int(quotas.sum())) :]] += 1
    return quotas
