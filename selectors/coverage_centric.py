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
    alive = ~keep_smallest(aum, cut, seed=seed, ids=ids) if cut else None
    stratum = equal_width_strata(scores, strata, alive)
    return draw_from_strata(
        stratum, strata + 1, lambda sizes: np.append(water_filling(sizes[:-1], budget), 0), seed=seed + 1, ids=ids
    )


def equal_width_strata(scores: Scores, count: int, alive: Keep | None = None) -> Strata:
    """Stratum of each score among `count` of equal width between the lowest and the highest, the last one closed.

    Edges are `lowest + number * width` in float64. Samples outside `alive` get the number `count`.
    """
    found = over_blocks(len(scores), partial(extremes, scores, alive))
    lowest, highest = min(low for low, _ in found), max(high for _, high in found)
    edges = lowest + np.arange(1, count) * ((highest - lowest) / count)
    stratum = np.empty(len(scores), dtype=np.min_scalar_type(count))
    over_blocks(len(scores), partial(assign, scores, alive, lowest, highest, edges, stratum))
    return stratum


def extremes(scores: Scores, alive: Keep | None, rows: slice) -> tuple[float, float]:
    """Lowest and highest score among the rows that are alive; infinities where none is."""
    if alive is None:
        return float(scores[rows].min()), float(scores[rows].max())
    kept, dead = scores[rows].copy(), ~alive[rows]
    np.putmask(kept, dead, np.inf)
    lowest = float(kept.min())
    np.putmask(kept, dead, -np.inf)
    return lowest, float(kept.max())


def assign(
    scores: Scores,
    alive: Keep | None,
    lowest: float,
    highest: float,
    edges: Float64[np.ndarray, " inner"],
    stratum: Strata,
    rows: slice,
) -> None:
    """Write how many inner edges each score has reached: by division, and by comparison where rounding could decide.

    Differences and quotients in float32 are off by a few parts in 10⁷ of their number of strata; ranges that float32
    cannot hold are divided in float64.
    """
    if highest == lowest or not len(edges):
        stratum[rows] = 0
    else:
        kind: Any = np.float32 if 1e-30 < highest - lowest < 1e30 and len(edges) < 1000 else np.float64
        places = scores[rows] - kind(lowest)
        places *= kind((len(edges) + 1) / (highest - lowest))
        off = np.rint(places)
        off -= places  # before clipping, which would bring all cut samples to an edge
        close = np.flatnonzero(np.abs(off, out=off) < 4e-7 * (len(edges) + 1))
        stratum[rows] = np.clip(places, 0, len(edges), out=places)
        stratum[rows][close] = np.searchsorted(edges, scores[rows][close].astype(np.float64), side="right")
    if alive is not None:
        np.putmask(stratum[rows], ~alive[rows], len(edges) + 1)
