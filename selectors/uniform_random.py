"""Keep samples uniformly at random: the baseline that every other selection stands beside."""

from secateur.selectors.contract import Ids, Keep, keep_smallest, random_keys, selector


@selector()
def uniform_random(ids: Ids, budget: int, *, seed: int) -> Keep:
    """Keep a uniform draw without replacement.

    >>> uniform_random(np.arange(6), 3, seed=1).sum()
    np.int64(3)
    """
    return keep_smallest(random_keys(ids, seed), budget, seed=seed, ids=ids)
