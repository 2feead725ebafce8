"""Draw given numbers of samples from strata, uniformly without replacement, without a sort.

A stratum's samples stand in the order of a hash of `(seed, id)`, and its quota takes the first of them. One pass counts
cells, the samples of a stratum whose hashes have their first bits in common. The counts show the cell where each quota
ends: the samples before it stay, and only the few samples of this cell are sorted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8

from secateur.scorers.lazy import torch
from secateur.selectors.draws.blocks import ROWS, over_blocks
from secateur.selectors.draws.ranks import Ids, Keep, hash_in_place, random_keys

Strata = Integer[np.ndarray, " n"]
"""Number of each sample's stratum, counted from 0."""
Counts = Int64[np.ndarray, " strata"]
Cells = Int64[np.ndarray, "strata places"]
"""Number of samples of each stratum at each place, the first bits of a hash."""

FEW_ROWS = 1 << 16
"""Rows that either way counts in no time."""
FEW = 1 << 15
"""Number of cells that is always affordable: their numbers fit in 16 bits."""


def sizes_of(strata: Strata, count: int) -> Counts:
    """Number of samples of each of `count` strata."""
    return Order(count, len(strata), seed=0, bits=0).cells(strata)[:, 0]


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


class Order:
    """The order in which samples of `count` strata are drawn, by `short_hash` and then by id, and its beginning.

    A sample's place is the first bits of its hash: eight, or as few as keep the counts of all cells below half a byte
    per sample. Fewer bits leave more samples to sort; the order stays the same.
    """

    def __init__(self, count: int, samples: int, seed: int, ids: Ids | None = None, *, bits: int = 8) -> None:
        afforded = max(FEW, samples // 16) // count
        self.count, self.seed, self.ids = count, seed, ids
        self.bits = max(0, min(bits, afforded.bit_length() - 1))

    @property
    def block(self) -> int:
        """Rows in a block with counts of its own: so many that all counts take half a byte per sample."""
        return max(ROWS, 16 * self.count << self.bits)

    def places(self, rows: slice) -> UInt8[np.ndarray, " n"]:
        """Place of each row in a block."""
        first, count = rows.start, rows.stop - rows.start
        if self.ids is not None:
            own = self.ids[rows]
            first = int(own[0]) if count else 0
            if count and (
                int(own[-1]) - first != count - 1 or not np.array_equal(own, np.arange(first, first + count))
            ):
                return self.places_of(own)
        words = np.arange(first >> 3, (first + count + 7) >> 3).view(np.uint64)
        hash_in_place(words, self.seed)
        found = words.astype("<u8", copy=False).view(np.uint8)[first & 7 :][:count]
        return found >> np.uint8(8 - self.bits) if self.bits < 8 else found

    def places_of(self, ids: Ids) -> UInt8[np.ndarray, " n"]:
        """Place of each id."""
        return first_bytes(ids, self.seed) >> np.uint8(8 - self.bits)

    def move(self, rows: Int64[np.ndarray, " m"], strata: Strata, target: int, cells: Cells) -> None:
        """Move some rows from other strata into the stratum `target`, in the strata and in the cells."""
        places = self.places_of(rows if self.ids is None else self.ids[rows])
        np.subtract.at(cells, (strata[rows], places), 1)
        np.add.at(cells[target], places, 1)
        strata[rows] = target

    def cells_of(self, strata: Strata, rows: slice) -> Cells:
        """`cells` of the strata of some rows."""
        size = self.count << self.bits
        numbers = strata.astype(np.min_scalar_type(-size))  # signed: torch counts no others
        if self.bits:
            numbers <<= self.bits
            numbers |= self.places(rows)
        if len(strata) < FEW_ROWS:  # the import of torch would take longer than all else
            return np.bincount(numbers, minlength=size).reshape(self.count, -1)
        # torch lets other threads run, and reads 16 bits without a copy; np.bincount does neither.
        return torch.bincount(torch.from_numpy(numbers), minlength=size).numpy().reshape(self.count, -1)

    def cells(self, strata: Strata) -> Cells:
        """Number of samples of each stratum at each place."""
        parts = over_blocks(len(strata), lambda rows: self.cells_of(strata[rows], rows), self.block)
        return np.asarray(sum(parts))


def draw_from_strata(
    strata: Strata,
    count: int,
    share_out: Callable[[Counts], Counts],
    *,
    seed: int,
    ids: Ids | None = None,
) -> Keep:
    """Mask of as many samples of each of `count` strata as `share_out` returns for their sizes.

    A larger quota adds to a smaller one. Raises ValueError for a quota above its stratum's size.
    """
    order = Order(count, len(strata), seed, ids)
    return draw_in_order(order, strata, order.cells(strata), share_out)


def draw_in_order(
    order: Order, strata: Strata, cells: Cells, share_out: Callable[[Counts], Counts], *, overwrite: bool = False
) -> Keep:
    """`draw_from_strata` with known counts of cells; with `overwrite` strata of one byte become the mask."""
    through = np.cumsum(cells, axis=1)
    sizes = through[:, -1]
    quotas = share_out(sizes.copy())
    if np.any(quotas > sizes):
        short = int(np.flatnonzero(quotas > sizes)[0])
        raise ValueError(f"stratum {short} has {sizes[short]} samples, but {quotas[short]} are asked of it")
    ends = (through[:, :-1] <= quotas[:, np.newaxis]).sum(axis=1, dtype=np.uint8)  # the last place for whole strata
    before = np.take_along_axis(through - cells, ends[:, np.newaxis], axis=1)[:, 0]
    # A fresh array of that length costs as much as a pass over all scores.
    keep = strata.view(np.bool_) if overwrite and strata.itemsize == 1 else np.empty(len(strata), dtype=np.bool_)

    parts = over_blocks(len(strata), lambda rows: _split(order, strata, ends, keep, rows))
    rows, owner = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    numbers = rows if order.ids is None else order.ids[rows]
    keep[rows[first_of_each(owner, numbers, quotas - before, order.seed)]] = True
    return keep


def _split(
    order: Order, strata: Strata, ends: UInt8[np.ndarray, " strata"], keep: Keep, rows: slice
) -> tuple[Int64[np.ndarray, " m"], Integer[np.ndarray, " m"]]:
    """Keep rows before the last place of their stratum; returns the rows at the last place, and their strata."""
    own, places = strata[rows], order.places(rows)
    last = look_up(ends, own)
    inside = np.flatnonzero(places == last)
    found = inside + rows.start, own[inside]
    np.less(places, last, out=keep[rows])
    return found


def look_up(table: UInt8[np.ndarray, " strata"], strata: Strata) -> UInt8[np.ndarray, " n"]:
    """Entry of a table for each sample; for bytes below 64 two at a time, from a table of pairs, in half the time."""
    if strata.dtype != np.uint8 or len(table) > 64 or len(strata) % 2:
        return table.take(strata, mode="clip")
    both = np.ascontiguousarray(strata).view(np.uint16)
    # The upper byte moves down by two bits: each unit of it loses 256 - 64.
    pairs = both - (both >> np.uint16(8)) * np.uint16(192)
    padded = np.zeros(64, np.uint16)
    padded[: len(table)] = table
    return (padded[:, np.newaxis] << 8 | padded).ravel().take(pairs, mode="clip").view(np.uint8)


def first_bytes(ids: Ids, seed: int) -> UInt8[np.ndarray, " n"]:
    """Highest byte of each id's hash: ids that differ in three bits share the eight bytes of a `random_keys`.

    So eight neighbours need only one such hash in a pass over all rows.
    """
    words = (ids >> 3).astype(np.uint64)
    hash_in_place(words, seed)
    words >>= (ids & 7).astype(np.uint64) << np.uint64(3)
    return words.astype(np.uint8)


def short_hash(ids: Ids, seed: int) -> Int64[np.ndarray, " n"]:
    """A uniform hash below 2³² per id: a shared byte, then three of its own."""
    own = (random_keys(ids, ~seed) >> np.uint64(40)).astype(np.int64)
    return first_bytes(ids, seed).astype(np.int64) << 24 | own


def first_of_each(strata: Strata, ids: Ids, missing: Counts, seed: int) -> Bool[np.ndarray, " m"]:
    """Mask of the `missing` smallest hashes of each stratum, equal ones by their ids."""
    owner = strata.astype(np.int64)
    keys = owner << 32 | short_hash(ids, seed)
    found = np.bincount(owner, minlength=len(missing))
    some = missing > 0
    limit = np.full(len(missing), -1)
    limit[some] = np.sort(keys)[(np.cumsum(found) - found + missing - 1)[some]]
    chosen = np.asarray(keys < limit[owner])
    ends = np.flatnonzero(keys == limit[owner])
    ends = ends[np.lexsort((ids[ends], owner[ends]))]
    rest = missing - np.bincount(owner[chosen], minlength=len(missing))
    held = np.bincount(owner[ends], minlength=len(missing))
    place = np.arange(len(ends)) - (np.cumsum(held) - held)[owner[ends]]
    chosen[ends] = place < rest[owner[ends]]
    return chosen
