"""Draws and ranks: a hash of seed and id decides ties, so that order in the file never does."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, Num, Shaped, UInt64

from secateur.selectors.draws.blocks import over_blocks

Keep = Bool[np.ndarray, " n"]
"""True where a sample stays, in data-set order."""


Ordered = Num[np.ndarray, " n"]
"""Scores of any type whose order alone counts: none is rounded."""

Ids = Int64[np.ndarray, " n"]
"""Identity of each sample for ties and draws, all distinct; by default row numbers."""


def random_keys(samples: int | Shaped[np.ndarray, " n"], seed: int) -> UInt64[np.ndarray, " keys"]:
    """A uniform uint64 per sample, a hash of `(seed, id)`: the SplitMix64 finaliser (Steele et al., OOPSLA 2014).

    `samples` are the ids, int64 `[n]`, or the number of samples for row numbers. Keys of distinct ids are distinct.
    """
    ids = np.arange(samples) if isinstance(samples, int) else samples
    keys = np.empty(len(ids), dtype=np.uint64)
    over_blocks(len(ids), lambda rows: _hash_rows(keys, ids, rows, seed))
    return keys


def _hash_rows(keys: UInt64[np.ndarray, " n"], ids: Shaped[np.ndarray, " n"], rows: slice, seed: int) -> None:
    """A function of its own: within `random_keys`, the type checks of tests would make it anew in each call."""
    keys[rows] = ids[rows]
    hash_in_place(keys[rows], seed)


def hash_in_place(words: UInt64[np.ndarray, " n"], seed: int) -> None:
    """Turn ids into their `random_keys`."""
    start = np.array([seed], dtype=np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    _mix(start)
    words += start
    _mix(words)


def _mix(z: UInt64[np.ndarray, " n"]) -> None:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    z ^= z >> np.uint64(31)


def keep_smallest(values: Num[np.ndarray, " n"], budget: int, *, seed: int, ids: Ids | None = None) -> Keep:
    """Mask of the `budget` smallest values; equals at the threshold are drawn by `random_keys`.

    Linear time and no sort: a selection finds the threshold, keys are made only for the values that equal it.
    """
    return _keep_beyond(values, rank_of(values, budget - 1), np.less, budget, seed, ids)


def keep_between(values: Num[np.ndarray, " n"], first: int, budget: int, *, seed: int, ids: Ids | None = None) -> Keep:
    """Mask of the `budget` smallest values behind the `first` smallest, by `keep_smallest` for both."""
    keep = keep_smallest(values, first + budget, seed=seed, ids=ids)
    return keep & ~keep_smallest(values, first, seed=seed, ids=ids) if first else keep


def keep_largest(values: Num[np.ndarray, " n"], budget: int, *, seed: int, ids: Ids | None = None) -> Keep:
    """Mask of the `budget` largest values; see `keep_smallest`."""
    return _keep_beyond(values, rank_of(values, len(values) - budget), np.greater, budget, seed, ids)


def _keep_beyond(
    values: Num[np.ndarray, " n"], ranked: "Ranked", beyond: np.ufunc, budget: int, seed: int, ids: Ids | None
) -> Keep:
    keep = np.empty(len(values), dtype=np.bool_)
    over_blocks(len(values), lambda rows: beyond(values[rows], ranked.value, out=keep[rows]))
    above = len(values) - ranked.below - len(ranked.tied)
    missing = budget - (ranked.below if beyond is np.less else above)
    keep[first_by_key(ranked.tied, missing, seed, ids)] = True
    return keep


def first_by_key(
    rows: Int64[np.ndarray, " m"], count: int, seed: int, ids: Ids | None = None
) -> Int64[np.ndarray, " count"]:
    """The `count` of some rows with the smallest `random_keys`, in no order."""
    if not 0 < count < len(rows):
        return rows[:count]
    keys = random_keys(rows if ids is None else ids[rows], seed)
    return np.asarray(rows[np.argpartition(keys, count - 1)[:count]])


class Ranked(NamedTuple):
    """The value at one rank of the sorted values, and its place."""

    value: Any
    below: int
    """Number of smaller values."""
    tied: Int64[np.ndarray, " m"]
    """Rows of the values that equal it, ascending."""


def rank_of(values: Num[np.ndarray, " n"], rank: int, *, drawn: int = 1 << 18) -> Ranked:
    """The value that has `rank` smaller or equal ones before it in sorted order, and its place.

    Floyd and Rivest's SELECT ("Expected time bounds for selection", CACM 1975), one round of it: a sample brackets
    the answer, one pass counts the values below and collects those inside. The answer is exact; only the time
    depends on the sample.
    """
    if len(values) < 8 * drawn:
        return _place_of(values, np.partition(values, rank)[rank])
    sample = np.sort(values[np.random.default_rng(0).integers(0, len(values), drawn)])
    share = rank / len(values)
    place, slack = share * drawn, 1 + 6 * (share * (1 - share) * drawn) ** 0.5
    low, high = sample[max(int(place - slack), 0)], sample[min(int(place + slack), drawn - 1)]

    def look(rows: slice) -> tuple[int, np.ndarray, np.ndarray]:
        block = values[rows]
        above_low = block > low
        inside = np.flatnonzero(above_low & (block < high))
        return len(block) - int(np.count_nonzero(above_low)), inside + rows.start, block[inside]

    parts = over_blocks(len(values), look)
    through_low = sum(part[0] for part in parts)
    between = np.concatenate([part[2] for part in parts])
    if through_low <= rank < through_low + len(between):
        value = np.partition(between, rank - through_low)[rank - through_low]
        below = through_low + int(np.count_nonzero(between < value))
        return Ranked(value, below, np.concatenate([part[1] for part in parts])[between == value])
    # The answer is tied with an end of the bracket, or lies outside.
    ranked = _place_of(values, low if rank < through_low else high)
    if ranked.below <= rank < ranked.below + len(ranked.tied):
        return ranked
    return _place_of(values, np.partition(values, rank)[rank])


def _place_of(values: Num[np.ndarray, " n"], value: Any) -> Ranked:
    parts = over_blocks(len(values), lambda rows: _below_and_at(values, value, rows))
    return Ranked(value, sum(part[0] for part in parts), np.concatenate([part[1] for part in parts]))


def _below_and_at(values: Num[np.ndarray, " n"], value: Any, rows: slice) -> tuple[int, Int64[np.ndarray, " m"]]:
    block = values[rows]
    return int(np.count_nonzero(block < value)), np.flatnonzero(block == value) + rows.start
