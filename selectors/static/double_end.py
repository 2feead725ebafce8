"""Double-end pruning (ELFS): cut the hardest, then the easiest.

Zheng, Tsai et al., "ELFS: Label-Free Coreset Selection with Proxy Training Dynamics", ICLR 2025.
"""

from secateur.scorers.contract import Scores
from secateur.selectors.contract import Cut, selector
from secateur.selectors.draws.ranks import Ids, Keep, keep_between
from secateur.selectors.static.coverage_centric import left_by_cutoff


@selector(
    paper="Zheng et al., ELFS, ICLR 2025 (arXiv 2406.04273)",
    monotone=True,
    room=left_by_cutoff,
    tunable={"cutoff": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)},
)
def double_end(aum: Scores, budget: int, *, cutoff: Cut, seed: int = 0, ids: Ids | None = None) -> Keep:
    """Cut the `int(cutoff * n)` samples of lowest area under the margin and keep the next lowest.

    `cutoff` is a fraction of *all* samples. `seed` draws among equal values. Raises ValueError where the budget
    exceeds the samples that the cut leaves.

    >>> double_end(np.arange(10, dtype=np.float32), 3, cutoff=0.2).nonzero()[0]
    array([2, 3, 4])
    """
    cut = len(aum) - left_by_cutoff(len(aum), cutoff=cutoff)
    return keep_between(aum, cut, budget, seed=seed, ids=ids)
