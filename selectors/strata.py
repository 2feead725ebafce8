"""Draw given numbers of samples from strata, uniformly without replacement, without a sort.

The sizes of strata say about where in the range of a uniform hash each quota ends. One pass takes what surely lies
below by the first byte of the hash, and collects the few samples around that place: they alone are put in order.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8, UInt32

from secateur.selectors.blocks import ROWS, over_blocks
from secateur.selectors.contract import Ids, Keep, random_keys

Strata = Integer[np.ndarray, " n"]
"""Number of each sample's stratum, counted from 0."""
Counts = Int64[np.ndarray, " strata"]
Pairs = Int64[np.ndarray, " half"]
"""Strata of two neighbours at a time as one number."""

SPARE = 56
"""The first of eight bins, of 64, that are left for samples that are not kept."""
DEVIATIONS = 6
"""Standard deviations of its place within which a quota is looked for at first."""


def sizes_of(strata: Strata, count: int) -> Counts:
    """How many samples each of `count` strata has."""
    return np.asarray(sum(over_blocks(len(strata), lambda rows: tally(strata[rows], count), block_of(count))))


def block_of(count: int) -> int:
    """Rows in a block that is counted apart: so many that all counts take half a byte per sample."""
    return max(ROWS, 16 * count)


def tally(strata: Strata, count: int, pairs: Pairs | None = None) -> Counts:
    """`sizes_of` one block, by its pairs where it can: half the steps, and fewer that wait for the one before."""
    if count == 1:
        return np.array([len(strata)])
    pairs = pairs_of(strata, count) if pairs is None else pairs
    if pairs is None:
        return np.bincount(strata, minlength=count)
    side = 1 << bits_of(count)
    found = np.bincount(pairs, minlength=side * side).reshape(side, side)
    return np.asarray((found.sum(axis=0) + found.sum(axis=1))[:count])


def bits_of(count: int) -> int:
    """Bits that hold numbers below `count`."""
    return (count - 1).bit_length()


def pairs_of(strata: Strata, count: int) -> Pairs | None:
    """Bytes two by two as one number below `4 ** bits_of(count)`; None for others, long ones and an odd number."""
    bits = bits_of(count)
    if strata.dtype != np.uint8 or not 0 < bits < 8 or len(strata) % 2 or not len(strata):
        return None
    both = np.ascontiguousarray(strata).view(np.uint16)
    upper = both >> np.uint16(8)
    upper *= np.uint16(256 - (1 << bits))
    return np.asarray(np.subtract(both, upper, out=upper).astype(np.intp))


def codes_of(labels: Int64[np.ndarray, " n"]) -> tuple[Strata, Int64[np.ndarray, " strata"]]:
    """Labels as strata in ascending order of label, and the labels that occur."""
    lowest, highest = int(labels.min()), int(labels.max())
    if highest - lowest >= 1 << 16:
        occurring, codes = np.unique(labels, return_inverse=True)
        return codes.astype(np.int64), occurring
    codes = (labels - lowest).astype(np.min_scalar_type(highest - lowest))
    present = sizes_of(codes, highest - lowest + 1) > 0
    if not present.all():
        codes = (np.cumsum(present) - 1).astype(codes.dtype)[codes]
    return codes, np.flatnonzero(present) + lowest


def draw_from_strata(
    strata: Strata,
    count: int,
    share_out: Callable[[Int64[np.ndarray, " strata"]], Int64[np.ndarray, " strata"]],
    *,
    seed: int,
    ids: Ids | None = None,
    sizes: Counts | None = None,
) -> Keep:
    """Mask of as many samples of each of `count` strata as `share_out` says when it is told their sizes.

    `sizes` are counted where they are not given. Drawn are those with the smallest hashes of `(seed, id)`, so a larger
    quota adds to a smaller one. Raises ValueError for a quota above its stratum's size.
    """
    sizes = sizes_of(strata, count) if sizes is None else sizes
    quotas = share_out(sizes.copy())
    if np.any(quotas > sizes):
        short = int(np.flatnonzero(quotas > sizes)[0])
        raise ValueError(f"stratum {short} has {sizes[short]} samples, but {quotas[short]} are asked of it")
    first, last = brackets(quotas, sizes)
    keep = np.empty(len(strata), dtype=np.bool_)
    while True:
        work = partial(split, strata, count, ids, seed_words(seed), first, last, keep)
        parts = over_blocks(len(strata), work, block_of(count))
        missing = quotas - np.asarray(sum(kept for kept, _ in parts))
        rows = np.concatenate([found for _, found in parts])
        owner = strata[rows].astype(np.int64)
        missed = (missing < 0) | (missing > np.bincount(owner, minlength=count))
        if not missed.any():
            break
        first[missed], last[missed] = 0, 255
    keep[rows[smallest(owner, rows if ids is None else ids[rows], missing, seed)]] = True
    return keep


def brackets(quotas: Counts, sizes: Counts) -> tuple[UInt8[np.ndarray, " strata"], UInt8[np.ndarray, " strata"]]:
    """First and last byte of a hash at which the quota of each stratum may end: the order statistic's deviation."""
    share = quotas / np.maximum(sizes, 1)
    slack = DEVIATIONS * np.sqrt(share * (1 - share) / np.maximum(sizes, 1))
    first, last = (np.clip(256 * place, 0, 255).astype(np.uint8) for place in (share - slack, share + slack))
    return first, last


def split(
    strata: Strata,
    count: int,
    ids: Ids | None,
    words: tuple[np.uint32, np.uint32],
    first: UInt8[np.ndarray, " strata"],
    last: UInt8[np.ndarray, " strata"],
    keep: Keep,
    rows: slice,
) -> tuple[Counts, Int64[np.ndarray, " m"]]:
    """Keep hashes below the first byte of their stratum's bracket; how many of each that is, and rows within it."""
    own, mine = strata[rows], keep[rows]
    pairs = pairs_of(own, count)
    byte = first_bytes(low_words(rows) if ids is None else folded(ids[rows]), words)
    np.less(byte, look_up(first, own, pairs), out=mine)
    inside = np.less_equal(byte, look_up(last, own, pairs))
    inside ^= mine
    return tally_kept(own, mine, count), np.flatnonzero(inside) + rows.start


def tally_kept(strata: Strata, kept: Keep, count: int) -> Counts:
    """How many samples of each stratum are kept, in one block."""
    if count == 1:
        return np.array([np.count_nonzero(kept)])
    if strata.dtype != np.uint8 or count > 64:
        return np.bincount(strata.compress(kept), minlength=count)
    # All are counted, in bins apart: one bin for the rest would be a queue, and picking what is kept takes longer.
    if count > SPARE:
        return tally(strata | kept.view(np.uint8) << 6, 64 + count)[64:]
    bins = kept.view(np.uint8) - np.uint8(1)
    bins &= SPARE
    bins |= strata
    return tally(bins, 64)[:count]


def smallest(owner: Int64[np.ndarray, " m"], numbers: Ids, missing: Counts, seed: int) -> Bool[np.ndarray, " m"]:
    """Mask of the `missing` smallest hashes of each stratum, equal ones by their ids."""
    keys = owner << 32 | short_hash(numbers, seed)
    found = np.bincount(owner, minlength=len(missing))
    some = missing > 0
    limit = np.full(len(missing), -1)
    limit[some] = np.sort(keys)[(np.cumsum(found) - found + missing - 1)[some]]
    chosen = np.asarray(keys < limit[owner])
    ends = np.flatnonzero(keys == limit[owner])
    ends = ends[np.lexsort((numbers[ends], owner[ends]))]
    rest = missing - np.bincount(owner[chosen], minlength=len(missing))
    held = np.bincount(owner[ends], minlength=len(missing))
    place = np.arange(len(ends)) - (np.cumsum(held) - held)[owner[ends]]
    chosen[ends] = place < rest[owner[ends]]
    return chosen


def look_up(table: UInt8[np.ndarray, " strata"], strata: Strata, pairs: Pairs | None) -> UInt8[np.ndarray, " n"]:
    """Entry of a table for each sample: two at a time where pairs are known, bytes else by `bytes.translate`."""
    if len(table) == 1:
        return np.broadcast_to(table, strata.shape)
    if pairs is not None:
        padded = np.zeros(1 << bits_of(len(table)), np.uint16)
        padded[: len(table)] = table
        return (padded[:, np.newaxis] << 8 | padded).ravel().take(pairs).view(np.uint8)
    if strata.dtype != np.uint8:
        return np.asarray(table[strata])
    return np.frombuffer(strata.tobytes().translate(table.tobytes().ljust(256, b"\0")), np.uint8)


def short_hash(ids: Int64[np.ndarray, " n"], seed: int) -> UInt32[np.ndarray, " n"]:
    """A uniform uint32 per id: the `lowbias32` mixer (Wellons, 2018) with two words of the seed mixed in."""
    return mixed(folded(ids), seed_words(seed))


def seed_words(seed: int) -> tuple[np.uint32, np.uint32]:
    """Two hashed words of a seed."""
    before, between = random_keys(np.array([seed]), 1).view(np.uint32)
    return before, between


def folded(ids: Int64[np.ndarray, " n"]) -> UInt32[np.ndarray, " n"]:
    """Both halves of each id in one word; ids that have one upper half in common stay distinct."""
    words = ids.astype(np.uint32)
    words ^= (ids >> 32).astype(np.uint32) * np.uint32(0x9E3779B9)
    return words


def low_words(rows: slice) -> UInt32[np.ndarray, " n"]:
    """Row numbers, folded."""
    if rows.stop < 1 << 32:
        return np.arange(rows.start, rows.stop, dtype=np.uint32)
    return folded(np.arange(rows.start, rows.stop))


def mixed(words: UInt32[np.ndarray, " n"], seed: tuple[np.uint32, np.uint32]) -> UInt32[np.ndarray, " n"]:
    """The words, hashed in place."""
    shifted = mix_high(words, seed)
    words ^= np.right_shift(words, np.uint32(16), out=shifted)
    return words


def first_bytes(words: UInt32[np.ndarray, " n"], seed: tuple[np.uint32, np.uint32]) -> UInt8[np.ndarray, " n"]:
    """Highest byte of each word's hash, which the last step of the hash leaves alone; the words are overwritten."""
    shifted = mix_high(words, seed)
    return np.asarray(np.right_shift(words, np.uint32(24), out=shifted).astype(np.uint8))


def mix_high(words: UInt32[np.ndarray, " n"], seed: tuple[np.uint32, np.uint32]) -> UInt32[np.ndarray, " n"]:
    """Hash in place but for the last step, which alters the lower half; an array of the same length to work with."""
    shifted = np.empty_like(words)
    words ^= seed[0]
    words ^= np.right_shift(words, np.uint32(16), out=shifted)
    words *= np.uint32(0x7FEB352D)
    words ^= np.right_shift(words, np.uint32(15), out=shifted)
    words += seed[1]
    words *= np.uint32(0x846CA68B)
    return shifted
