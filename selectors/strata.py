"""Draw given numbers of samples from strata, uniformly without replacement, without a sort.

A radix selection: one pass counts the first byte of a hash per stratum, which tells below which byte all are taken;
only samples at that byte, one in 256, are ordered by the rest of their hash.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Int64, Integer, UInt8, UInt32

from secateur.selectors.blocks import over_blocks
from secateur.selectors.contract import Ids, Keep, random_keys

Strata = Integer[np.ndarray, " n"]
"""Number of each sample's stratum, counted from 0."""

BLOCK = 1 << 18
HASHED = 1 << 15
"""Samples hashed at a time: two arrays of four bytes each that stay in a core's own cache."""
MOST_CELLS = 1 << 22
"""Counters, of strata times values of the hash's first bits, that a pass keeps per block."""


def sizes_of(strata: Strata, count: int) -> Int64[np.ndarray, " strata"]:
    """How many samples each of `count` strata has."""
    return np.asarray(sum(over_blocks(len(strata), lambda rows: np.bincount(strata[rows], minlength=count), BLOCK)))


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
) -> Keep:
    """Mask of as many samples of each of `count` strata as `share_out` says when it is told their sizes.

    Drawn are those with the smallest hashes of `(seed, id)`, so a larger quota adds to a smaller one. Raises ValueError
    for a quota above its stratum's size.
    """
    bits = max(0, min(8, (MOST_CELLS // max(count, 1)).bit_length() - 1))
    first = np.empty(len(strata), dtype=np.uint8)
    cells = sum(over_blocks(len(strata), partial(count_cells, strata, count, ids, seed, bits, first), BLOCK))
    through = np.cumsum(np.reshape(cells, (count, 1 << bits)), axis=1)
    quotas = share_out(through[:, -1].copy())
    if np.any(quotas > through[:, -1]):
        short = int(np.flatnonzero(quotas > through[:, -1])[0])
        raise ValueError(f"stratum {short} has {through[short, -1]} samples, but {quotas[short]} are asked of it")
    edge = (through < quotas[:, None]).sum(axis=1).astype(np.uint8)  # the cell in which each quota ends
    missing = quotas - np.where(edge > 0, through[np.arange(count), edge.astype(np.int64) - 1], 0)
    keep = np.empty(len(strata), dtype=np.bool_)
    rows = np.concatenate(over_blocks(len(strata), partial(split, strata, first, edge, keep), BLOCK))
    numbers = rows if ids is None else ids[rows]
    owner = strata[rows].astype(np.int64)
    order = np.lexsort((numbers, owner << 32 | short_hash(numbers, seed)))
    rows, owner = rows[order], owner[order]
    found = np.bincount(owner, minlength=count)
    place = np.arange(len(rows)) - (np.cumsum(found) - found)[owner]
    keep[rows[place < missing[owner]]] = True
    return keep


def count_cells(
    strata: Strata,
    count: int,
    ids: Ids | None,
    seed: int,
    bits: int,
    first: UInt8[np.ndarray, " n"],
    rows: slice,
) -> Int64[np.ndarray, " cells"]:
    """Write the first `bits` of each hash; how many samples share each stratum and first bits."""
    words = seed_words(seed)
    for start in range(rows.start, rows.stop, HASHED):
        part = slice(start, min(start + HASHED, rows.stop))
        hashed = mixed(low_words(part) if ids is None else folded(ids[part]), words)
        hashed >>= np.uint32(32 - bits) if bits else np.uint32(31)
        first[part] = hashed if bits else 0
    code = strata[rows].astype(np.uint16 if count <= 256 else np.int64)
    code <<= bits
    code |= first[rows]
    return np.asarray(np.bincount(code, minlength=count << bits))


def split(
    strata: Strata,
    first: UInt8[np.ndarray, " n"],
    edge: UInt8[np.ndarray, " strata"],
    keep: Keep,
    rows: slice,
) -> Int64[np.ndarray, " m"]:
    """Mark the samples before the edge of their stratum in `keep`; the rows that lie on it."""
    own = look_up(edge, strata[rows])
    np.less(first[rows], own, out=keep[rows])
    return np.asarray(np.flatnonzero(first[rows] == own) + rows.start)


def look_up(table: UInt8[np.ndarray, " strata"], strata: Strata) -> UInt8[np.ndarray, " n"]:
    """Entry of a table for each sample; bytes by `bytes.translate`, at several times NumPy's speed."""
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
    shifted = np.empty_like(words)
    words ^= seed[0]
    words ^= np.right_shift(words, np.uint32(16), out=shifted)
    words *= np.uint32(0x7FEB352D)
    words ^= np.right_shift(words, np.uint32(15), out=shifted)
    words += seed[1]
    words *= np.uint32(0x846CA68B)
    words ^= np.right_shift(words, np.uint32(16), out=shifted)
    return words
