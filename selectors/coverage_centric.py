"""Coverage-centric coreset selection (CCS): spread the budget over the whole range of a score.

Zheng, Liu, Lai, Prakash: "Coverage-centric Coreset Selection for High Pruning Rates", ICLR 2023, Algorithm 1.
"""

from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float64

from secateur.scorers.contract import Scores
from secateur.selectors.blocks import over_blocks
from secateur.selectors.contract import Ids, Keep, keep_smallest, selector
from secateur.selectors.quotas import water_filling
from secateur.selectors.strata import Strata, draw_from_strata

FINE = 1 << 7
"""Parts of a stratum that a score is first assigned to."""


def left_by_cutoff(count: int, *, cutoff: float) -> int:
    """Samples that stay when the fraction `cutoff` of all is cut; raises ValueError for one outside [0, 1)."""
    if not 0 <= cutoff < 1:
        raise ValueError(f"cutoff is the fraction of all samples that is cut, within [0, 1), got {cutoff}")
    return count - int(cutoff * count)


@selector(
    paper="Zheng et al., ICLR 2023, Algorithm 1 (arXiv 2210.15809)",
    draws=True,
    room=left_by_cutoff,
    tunable={"cutoff": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)},
)
def coverage_centric(
    scores: Scores, aum: Scores, budget: int, *, cutoff: float, strata: int = 50, seed: int, ids: Ids | None = None
) -> Keep:
    """Cut the hardest samples, then draw evenly from equal-width strata of the score.

    `cutoff` is the paper's beta, a fraction of *all* samples: the `int(cutoff * n)` of lowest area under the margin
    are cut, whichever score the strata are made of. Strata that hold fewer than their part are taken whole.
    Constant scores make one stratum, thus a random draw. Raises ValueError where the budget exceeds what the cut
    leaves.
    """
    if strata < 1:
        raise ValueError(f"strata must be at least 1, got {strata}")
    cut = len(aum) - left_by_cutoff(len(aum), cutoff=cutoff)
    dead = keep_smallest(aum, cut, seed=seed, ids=ids) if cut else None
    stratum = equal_width_strata(scores, strata, dead)
    return draw_from_strata(
        stratum, strata + 1, lambda sizes: np.append(water_filling(sizes[:-1], budget), 0), seed=seed + 1, ids=ids
    )


def equal_width_strata(scores: Scores, count: int, dead: Keep | None = None) -> Strata:
    """Stratum of each score among `count` of equal width between the lowest and the highest, the last one closed.

    Edges are `lowest + number * width` in float64. Samples that are `dead` are not looked at: their number is `count`.
    """
    found = over_blocks(len(scores), partial(extremes, scores, dead))
    lowest, highest = min(low for low, _ in found), max(high for _, high in found)
    edges = lowest + np.arange(1, count) * ((highest - lowest) / count)
    stratum = np.empty(len(scores), dtype=np.min_scalar_type(count))
    over_blocks(len(scores), partial(assign, scores, dead, lowest, highest, edges, stratum))
    return stratum


def extremes(scores: Scores, dead: Keep | None, rows: slice) -> tuple[float, float]:
    """Lowest and highest score among the rows that are not dead; infinities where none is."""
    own = scores[rows] if dead is None else scores[rows].compress(~dead[rows])
    return float(own.min(initial=np.inf)), float(own.max(initial=-np.inf))


def assign(
    scores: Scores,
    dead: Keep | None,
    lowest: float,
    highest: float,
    edges: Float64[np.ndarray, " inner"],
    stratum: Strata,
    rows: slice,
) -> None:
    """Write how many inner edges each score has reached: by division, and by comparison where rounding could decide.

    Places are in units of 1 / `FINE` of a stratum. Differences and quotients in float32 are off by a few parts in 10⁷
    of 256 · `FINE`, less than a unit; more strata, and ranges that float32 cannot hold, are divided in float64.
    """
    own, count = stratum[rows], len(edges) + 1
    if highest == lowest or count == 1:
        own[:] = 0
    else:
        narrow = 1e-30 < highest - lowest < 1e30 and count <= 256
        kind: Any = np.float32 if narrow else np.float64
        places = scores[rows] - kind(lowest)
        places *= kind(FINE * count / (highest - lowest))
        if dead is not None:
            np.clip(places, 2, FINE * count - 2, out=places)  # clear of edges: the cut samples stay out of `close`
        fine = places.astype(np.uint16 if narrow else np.int64)
        np.floor_divide(fine, FINE, out=own, casting="unsafe")
        fine += 1
        fine &= FINE - 2
        close = np.flatnonzero(fine == 0)
        own[close] = np.searchsorted(edges, scores[rows][close].astype(np.float64), side="right")
    if dead is not None:
        if own.dtype == np.uint8:
            np.maximum(own, dead[rows].view(np.uint8) * np.uint8(count), out=own)
        else:
            own[dead[rows]] = count
