"""Coverage-centric coreset selection (CCS): spread the budget over the whole range of a score.

Zheng, Liu, Lai, Prakash: "Coverage-centric Coreset Selection for High Pruning Rates", ICLR 2023, Algorithm 1.
"""

from functools import partial

import numpy as np
from jaxtyping import Float64

from secateur.scorers.contract import Scores
from secateur.selectors.blocks import over_blocks
from secateur.selectors.contract import Ids, Keep, keep_smallest, selector
from secateur.selectors.quotas import water_filling
from secateur.selectors.strata import Strata, draw_from_strata, sizes_of


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
    quotas = np.append(water_filling(sizes_of(stratum, strata + 1)[:strata], budget), 0)
    return draw_from_strata(stratum, quotas, seed=seed + 1, ids=ids)


def equal_width_strata(scores: Scores, count: int, alive: Keep | None = None) -> Strata:
    """Stratum of each score among `count` of equal width between the lowest and the highest, the last one closed.

    Edges are `lowest + number * width` in float64. Samples outside `alive` get the number `count`.
    """
    found = over_blocks(len(scores), partial(extremes, scores, alive))
    lowest, highest = min(low for low, _ in found), max(high for _, high in found)
    edges = lowest + np.arange(1, count) * ((highest - lowest) / count)
    stratum = np.empty(len(scores), dtype=np.min_scalar_type(count))
    over_blocks(len(scores), lambda rows: assign(stratum[rows], scores[rows], lowest, highest, edges))
    if alive is not None:
        stratum[~alive] = count
    return stratum


def extremes(scores: Scores, alive: Keep | None, rows: slice) -> tuple[float, float]:
    """Lowest and highest score among the rows that are alive; infinities where none is."""
    kept = scores[rows] if alive is None else scores[rows][alive[rows]]
    return float(kept.min(initial=np.inf)), float(kept.max(initial=-np.inf))


def assign(
    stratum: Strata, scores: Scores, lowest: float, highest: float, edges: Float64[np.ndarray, " inner"]
) -> None:
    """Write how many inner edges each score has reached: by division, and by comparison where rounding could decide."""
    if highest == lowest or not len(edges):
        stratum[:] = 0
        return
    places = scores - np.float64(lowest)
    places *= (len(edges) + 1) / (highest - lowest)
    stratum[:] = np.clip(places, 0, len(edges))
    close = np.flatnonzero(np.abs(places - np.rint(places)) < 1e-6)
    stratum[close] = np.searchsorted(edges, scores[close].astype(np.float64), side="right")
