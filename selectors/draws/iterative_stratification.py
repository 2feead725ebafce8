"""A draw that keeps the share of every label, where a sample may have several (Sechidis, Tsoumakas and Vlahavas 2011,
"On the stratification of multi-label data", Algorithm 1, for two folds: those drawn and the rest)."""

import numpy as np
from jaxtyping import Bool, Int64

from secateur.selectors.draws.ranks import Ids, Keep, first_by_key, random_keys


def draw_by_labels(members: Bool[np.ndarray, "n labels"], budget: int, *, seed: int, ids: Ids | None = None) -> Keep:
    """Mask of exactly `budget` samples, with each label's share of them as close to its share of all as possible.

    Labels have their turn by the number of remaining samples, the fewest first. The remaining samples of a label go to
    the fold that wants more of it; among equals to the one that wants more samples, then by `seed`. Samples without a
    label come last. The algorithm meets the budget only roughly: a random draw among samples without a label, or else
    among those of the most frequent label, corrects it.

    Each label takes one pass over a column: only the number of its samples in each fold matters.
    """
    samples = len(members)
    if not 0 <= budget <= samples:
        raise ValueError(f"{budget} samples cannot be drawn out of {samples}")
    numbers = np.arange(samples, dtype=np.int64) if ids is None else ids
    coins = random_keys(members.shape[1], seed + 1) & np.uint64(1)
    share = budget / samples if samples else 0.0
    totals = np.array([budget, samples - budget], np.float64)
    wanted = np.outer([share, 1 - share], members.sum(axis=0))
    keep, left = np.zeros(samples, np.bool_), np.ones(samples, np.bool_)
    remaining = members.sum(axis=0).astype(np.int64)
    while remaining.any():
        label = int(np.argmin(np.where(remaining > 0, remaining, samples + 1)))
        rows = np.flatnonzero(left & members[:, label])
        count = taken(wanted[:, label], totals, len(rows), bool(coins[label]))
        chosen = first_by_key(rows, count, seed, numbers)
        keep[chosen], left[rows] = True, False
        taken_labels, all_labels = members[chosen].sum(axis=0), members[rows].sum(axis=0)
        wanted -= np.stack([taken_labels, all_labels - taken_labels])
        totals -= (count, len(rows) - count)
        remaining -= all_labels
    rows = np.flatnonzero(left)
    missing = budget - int(keep.sum())
    keep[first_by_key(rows, min(max(missing, 0), len(rows)), seed, numbers)] = True
    return exactly(keep, members, budget, seed, numbers)


def taken(wanted: np.ndarray, totals: np.ndarray, count: int, coin: bool) -> int:
    """Number of `count` samples of one label for the first of two folds, if each goes to the one that wants more.

    Both folds then want equally many, to within one; `totals`, then the coin, decide on a last sample that both want
    equally.
    """
    exact = (wanted[0] - wanted[1] + count) / 2
    below = np.floor(exact)
    if exact - below != 0.5:
        return int(np.clip(np.rint(exact), 0, count))
    room = totals - (below, count - 1 - below)
    return int(np.clip(below + (coin if room[0] == room[1] else room[0] > room[1]), 0, count))


def exactly(keep: Keep, members: Bool[np.ndarray, "n labels"], budget: int, seed: int, ids: Ids) -> Keep:
    """The mask corrected to `budget`: first of samples without a label, then of the most frequent label, then any."""
    difference = budget - int(keep.sum())
    frequent = members[:, members.sum(axis=0).argmax()] if members.shape[1] else np.zeros(len(keep), np.bool_)
    for group in (~members.any(axis=1), frequent, np.ones_like(keep)):
        candidates: Int64[np.ndarray, " m"] = np.flatnonzero(group & (keep != (difference > 0)))
        moved = first_by_key(candidates, min(abs(difference), len(candidates)), seed + 2, ids)
        keep[moved] = difference > 0
        difference = budget - int(keep.sum())
    return keep
