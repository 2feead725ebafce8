"""Coverage-centric coreset selection (CCS): spread the budget over the whole range of a score.

Zheng, Liu, Lai, Prakash: "Coverage-centric Coreset Selection for High Pruning Rates", ICLR 2023, Algorithm 1.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from secateur.scorers.contract import Bins, Scores
from secateur.selectors.contract import Cut, selector
from secateur.selectors.draws.blocks import over_blocks
from secateur.selectors.draws.quotas import water_filling
from secateur.selectors.draws.ranks import Ids, Keep, first_by_key, keep_smallest, rank_of
from secateur.selectors.draws.strata import Cells, Order, Strata, draw_in_order

Alive = Callable[[slice], Bool[np.ndarray, " m"]]
"""From a block of rows to the mask of those that the cut leaves."""


def left_by_cutoff(count: int, *, cutoff: float) -> int:
    """Samples that stay when the fraction `cutoff` of all is cut; raises ValueError for one outside [0, 1)."""
    if not 0 <= cutoff < 1:
        raise ValueError(f"cutoff is the fraction of all samples that is cut, within [0, 1), got {cutoff}")
    return count - int(cutoff * count)


@selector(
    paper="Zheng et al., ICLR 2023, Algorithm 1 (arXiv 2210.15809)",
    version="2",
    draws=True,
    room=left_by_cutoff,
    tunable={"cutoff": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)},
)
def coverage_centric(
    scores: Scores, aum: Scores, budget: int, *, cutoff: Cut, bins: Bins = 50, seed: int, ids: Ids | None = None
) -> Keep:
    """Cut the hardest samples, then draw evenly from equal-width bins of the score.

    `cutoff` is the paper's beta, a fraction of *all* samples: the `int(cutoff * n)` of lowest area under the margin
    are cut, whatever the score of the bins. Bins that hold fewer than their part stay whole. Constant scores make one
    bin, thus a random draw. Raises ValueError where the budget exceeds the samples that the cut leaves.

    >>> aum = np.arange(10, dtype=np.float32)
    >>> coverage_centric(-aum, aum, 4, cutoff=0.2, bins=4, seed=0).nonzero()[0]
    array([3, 5, 7, 8])
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    cut = len(aum) - left_by_cutoff(len(aum), cutoff=cutoff)
    order = Order(bins + 1, len(scores), seed + 1, ids)
    stratum, cells = strata_of_survivors(scores, aum, cut, bins, seed, order)
    return draw_in_order(
        order, stratum, cells, lambda sizes: np.append(water_filling(sizes[:-1], budget), 0), overwrite=True
    )


def strata_of_survivors(
    scores: Scores, aum: Scores, cut: int, count: int, seed: int, order: Order
) -> tuple[Strata, Cells]:
    """Strata and their cells, where the `cut` samples of lowest `aum` by `keep_smallest` are dead."""
    if not cut:
        return Intervals(scores, count).fill(order)
    ranked = rank_of(aum, cut)
    intervals = Intervals(scores, count, lambda rows: aum[rows] >= ranked.value)
    if scores is aum:
        highest = max(over_blocks(len(scores), lambda rows: float(scores[rows].max())))
        intervals.range = float(ranked.value), highest
    stratum, cells = intervals.fill(order)
    dead = first_by_key(ranked.tied, cut - ranked.below, seed, order.ids)
    if scores is not aum and np.isin(scores[dead], intervals.range).any():  # the range may have died with them
        gone = keep_smallest(aum, cut, seed=seed, ids=order.ids)
        return Intervals(scores, count, lambda rows: ~gone[rows]).fill(order)
    order.move(dead, stratum, count, cells)
    return stratum, cells


def equal_width_strata(scores: Scores, count: int, dead: Keep | None = None) -> Strata:
    """Stratum of each score among `count` of equal width between the lowest and the highest, the last one closed.

    Edges are `lowest + number * width` in float64. Samples that are `dead` do not count: their stratum is `count`.
    """
    order = Order(count + 1, len(scores), seed=0, bits=0)
    return Intervals(scores, count, None if dead is None else lambda rows: ~dead[rows]).fill(order)[0]


class Intervals:
    """Intervals of equal width between the lowest and the highest score of the rows that are alive, the last closed."""

    def __init__(self, scores: Scores, count: int, alive: Alive | None = None) -> None:
        self.scores = scores
        self.count = count
        self.alive = alive

    @cached_property
    def range(self) -> tuple[float, float]:
        """Lowest and highest score that is alive; NaN where none is."""
        lowest, highest = zip(*over_blocks(len(self.scores), self.extremes), strict=True)
        return float(np.fmin.reduce(lowest)), float(np.fmax.reduce(highest))

    def extremes(self, rows: slice) -> tuple[float, float]:
        own = self.scores[rows]
        if self.alive is None:
            return float(own.min()), float(own.max())
        # All bits set is NaN, which fmin and fmax ignore: several times as fast as a selection of the living.
        hidden = (self.alive(rows).astype(np.uint32) - np.uint32(1) | own.view(np.uint32)).view(np.float32)
        return float(np.fmin.reduce(hidden)), float(np.fmax.reduce(hidden))

    @cached_property
    def edges(self) -> Float64[np.ndarray, " inner"]:
        """Beginning of each interval but the first."""
        lowest, highest = self.range
        return lowest + np.arange(1, self.count) * ((highest - lowest) / self.count)

    def fill(self, order: Order) -> tuple[Strata, Cells]:
        """Interval of each score, `count` for the dead, and the number of samples of each interval by place."""
        stratum = np.empty(len(self.scores), dtype=np.min_scalar_type(self.count))
        _ = self.edges  # before threads need them

        def write(rows: slice) -> Cells:
            with np.errstate(invalid="ignore", over="ignore"):  # the dead lie anywhere
                self.assign(rows, stratum[rows])
            return order.cells_of(stratum[rows], rows)

        return stratum, np.asarray(sum(over_blocks(len(stratum), write, order.block)))

    def assign(self, rows: slice, own: Strata) -> None:
        """Write the number of inner edges below each score: by division; by comparison where rounding could decide.

        Places are in units of 1 / `fine` of an interval, at most 2¹⁶ in all. Differences and quotients in float32 are
        off by a few parts in 10⁷ of that, less than a unit; more than 256 intervals, and ranges that float32 cannot
        hold, are divided in float64.
        """
        (lowest, highest), count = self.range, self.count
        if highest == lowest or count == 1:
            own[:] = 0
        else:
            narrow = 1e-30 < highest - lowest < 1e30 and count <= 256
            kind: Any = np.float32 if narrow else np.float64
            bits = 16 - count.bit_length() if narrow else 7
            unit = (highest - lowest) / (count << bits)
            places = self.scores[rows] - kind(lowest - unit)
            places *= kind(1 / unit)
            fine = places.astype(np.uint16 if narrow else np.int64)
            np.right_shift(fine, bits, out=own, casting="unsafe")
            fine &= (1 << bits) - 2
            close = np.flatnonzero(fine == 0)
            own[close] = np.searchsorted(self.edges, self.scores[rows][close].astype(np.float64), side="right")
        if self.alive is not None:
            dead = self.alive(rows).astype(own.dtype)
            dead -= own.dtype.type(1)  # all bits set
            own |= dead
            dead &= ~own.dtype.type(count)
            own ^= dead
