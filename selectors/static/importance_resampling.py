"""Draw rows with a probability by their likelihood ratio between a target and the pool (DSIR).

Xie et al., NeurIPS 2023 (arXiv 2302.03169): the highest log weights with Gumbel noise are a draw without replacement
with probabilities in proportion to the weights of the remaining rows (Kool et al., ICML 2019).
"""

from typing import Literal

import numpy as np
from jaxtyping import Num

from secateur.selectors.contract import selector
from secateur.selectors.draws.ranks import Ids, Keep, keep_largest, random_keys


@selector(paper="Xie et al., NeurIPS 2023 (arXiv 2302.03169)", draws=True, monotone=True)
def importance_resampling(
    target_log_ratios: Num[np.ndarray, " n"],
    ngram_counts: Num[np.ndarray, " n"],
    budget: int,
    *,
    length: Literal["own", "equal"] = "own",
    noise: bool = True,
    seed: int,
    ids: Ids | None = None,
) -> Keep:
    """Keep the highest log weights, with Gumbel noise from `seed` unless `noise` is false.

    Weights are sums over a text's n-grams, as published (`length: own`): long texts are hundreds of nats apart, so that
    the noise decides nothing. `equal` weighs each text as if it had the median number of n-grams, like chunks of equal
    length; the weights of texts of a few words are then mostly chance.

    >>> ratios, counts = np.float32([0.1, -0.2, 0.3]), np.float32([10, 10, 10])
    >>> importance_resampling(ratios, counts, 1, noise=False, seed=0)
    array([False, False,  True])
    """
    weights = target_log_ratios.astype(np.float64)
    if length == "equal":
        weights = weights / np.maximum(ngram_counts, 1) * np.median(ngram_counts)
    if noise:
        # 53 bits and a half: within (0, 1), so that both logarithms are finite.
        keys = random_keys(len(weights) if ids is None else ids, seed)
        weights = weights - np.log(-np.log(((keys >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53))
    return keep_largest(weights, budget, seed=seed, ids=ids)
