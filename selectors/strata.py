"""Draw given numbers of samples from strata, uniformly without replacement, in one pass and without a sort."""

from functools import partial

import numpy as np
from jaxtyping import Int64, Integer, UInt64

from secateur.selectors.blocks import over_blocks
from secateur.selectors.contract import Ids, Keep, random_keys

Strata = Integer[np.ndarray, " n"]
"""Number of each sample's stratum, counted from 0."""

LAST_KEY = np.uint64(2**64 - 1)


def sizes_of(strata: Strata, count: int) -> Int64[np.ndarray, " strata"]:
    """How many samples each of `count` strata has."""
    sizes = over_blocks(len(strata), lambda rows: np.bincount(strata[rows], minlength=count))
    return np.asarray(np.sum(sizes, axis=0, dtype=np.int64))


def codes_of(labels: Int64[np.ndarray, " n"]) -> tuple[Strata, Int64[np.ndarray, " strata"]]:
    """Labels as strata in ascending order of label, and the labels that occur."""
    lowest, highest = int(labels.min()), int(labels.max())
    if highest - lowest >= 1 << 16:
        occurring, codes = np.unique(labels, return_inverse=True)
        return codes.astype(np.int64), occurring
    codes = np.subtract(labels, lowest, dtype=np.uint16, casting="unsafe")
    present = sizes_of(codes, highest - lowest + 1) > 0
    if not present.all():
        codes = (np.cumsum(present) - 1).astype(np.uint16)[codes]
    return codes, np.flatnonzero(present) + lowest


def draw_from_strata(
    strata: Strata, quotas: Int64[np.ndarray, " strata"], *, seed: int, ids: Ids | None = None
) -> Keep:
    """Mask of `quotas[s]` samples of each stratum `s`: those with the smallest `random_keys`.

    Linear time: the share that a quota is of its stratum bounds the threshold among uniform keys closely, and only
    the few samples between the bounds are looked at again. Raises ValueError for a quota above its stratum's size.
    """
    sizes = sizes_of(strata, len(quotas))
    if np.any(quotas > sizes):
        short = int(np.flatnonzero(quotas > sizes)[0])
        raise ValueError(f"stratum {short} has {sizes[short]} samples, but {quotas[short]} are asked of it")
    keep = np.empty(len(strata), dtype=np.bool_)
    low, high = key_bounds(quotas, sizes)
    while True:
        parts = over_blocks(len(strata), partial(split, strata, ids, seed, low, high, keep))
        missing = quotas - np.sum([counted for _, _, counted in parts], axis=0, dtype=np.int64)
        rows, keys = (np.concatenate([part[which] for part in parts]) for which in (0, 1))
        order = np.lexsort((keys, strata[rows]))
        rows, owner = rows[order], strata[rows[order]].astype(np.int64)
        found = np.bincount(owner, minlength=len(quotas))
        wrong = (missing < 0) | (missing > found)
        if not wrong.any():
            place = np.arange(len(rows)) - (np.cumsum(found) - found)[owner]
            keep[rows[place < missing[owner]]] = True
            return keep
        low[wrong], high[wrong] = 0, LAST_KEY


def split(
    strata: Strata,
    ids: Ids | None,
    seed: int,
    low: UInt64[np.ndarray, " strata"],
    high: UInt64[np.ndarray, " strata"],
    keep: Keep,
    rows: slice,
) -> tuple[Int64[np.ndarray, " m"], UInt64[np.ndarray, " m"], Int64[np.ndarray, " strata"]]:
    """Mark the keys below `low` in `keep`; rows and keys of those up to `high`; how many each stratum has marked."""
    own = strata[rows]
    keys = random_keys(np.arange(rows.start, rows.stop) if ids is None else ids[rows], seed)
    np.less(keys, low[own], out=keep[rows])
    undecided = np.flatnonzero((keys <= high[own]) & ~keep[rows])
    counted = np.bincount(own + len(low) * keep[rows], minlength=2 * len(low))[len(low) :]
    return undecided + rows.start, keys[undecided], counted


def key_bounds(
    quotas: Int64[np.ndarray, " strata"], sizes: Int64[np.ndarray, " strata"]
) -> tuple[UInt64[np.ndarray, " strata"], UInt64[np.ndarray, " strata"]]:
    """Bounds between which the key of rank `quotas` among `sizes` uniform ones lies, at eight standard deviations."""
    share = quotas / np.maximum(sizes, 1)
    slack = (8 * np.sqrt(share * (1 - share) * sizes) + 16) / np.maximum(sizes, 1)
    low, high = (
        np.where(edge < 1, (np.clip(edge, 0, 1 - 2.0**-40) * 2.0**64).astype(np.uint64), LAST_KEY)
        for edge in (share - slack, share + slack)
    )
    low[quotas == sizes] = LAST_KEY  # a full stratum is taken whole and an empty quota takes nobody:
    high[quotas == 0] = 0  # neither needs a second look
    return low, high
