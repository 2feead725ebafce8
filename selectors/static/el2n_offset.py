"""EL2N with an offset: the hardest samples without the very hardest, which are often noise.

Paul, Ganguli, Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021, section 4 (noise) and its offset subsets.
"""

from secateur.scorers.contract import Scores
from secateur.selectors.contract import Cut, selector
from secateur.selectors.draws.ranks import Ids, Keep, keep_between


def left_by_offset(count: int, *, offset: float) -> int:
    """Samples that stay when the fraction `offset` of all is skipped; raises ValueError for one outside [0, 1)."""
    if not 0 <= offset < 1:
        raise ValueError(f"offset is the fraction of all samples that is skipped, within [0, 1), got {offset}")
    return count - int(offset * count)


@selector(
    paper="Paul et al., NeurIPS 2021, section 4 (arXiv 2107.07075)",
    monotone=True,
    room=left_by_offset,
    tunable={"offset": (0.0, 0.05, 0.1, 0.2, 0.3)},
)
def el2n_offset(el2n: Scores, budget: int, *, offset: Cut, seed: int = 0, ids: Ids | None = None) -> Keep:
    """Skip the `int(offset * n)` samples of highest EL2N and keep the next highest.

    `seed` draws among equal values. Raises ValueError where the budget exceeds the samples that the offset leaves.

    >>> el2n_offset(np.arange(10, dtype=np.float32), 3, offset=0.2).nonzero()[0]
    array([5, 6, 7])
    """
    skipped = len(el2n) - left_by_offset(len(el2n), offset=offset)
    return keep_between(-el2n, skipped, budget, seed=seed, ids=ids)
