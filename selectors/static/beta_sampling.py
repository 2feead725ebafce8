"""DUAL's beta sampling: draw by score, with easier samples the more is pruned.

Cho et al., "Lightweight Dataset Pruning without Full Training via Example Difficulty and Prediction Uncertainty",
ICML 2025, its beta sampling.
"""

import math
from typing import Annotated

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from secateur.scorers.contract import Positive, Scores, rows_text
from secateur.selectors.contract import selector
from secateur.selectors.draws.ranks import Ids, Keep, keep_smallest, random_keys

CLOSEST = 1e-6
"""Least distance of mean probabilities from 0 and 1, where a beta density may be infinite."""


@selector(
    paper="Cho et al., DUAL, ICML 2025, beta sampling (arXiv 2502.06905)",
    draws=True,
    tunable={"exponent": (4.0, 5.5, 11.0)},
)
def beta_sampling(
    scores: Scores,
    mean_probability: Scores,
    budget: int,
    *,
    exponent: Positive,
    concentration: Annotated[float, Field(ge=1)] = 16.0,
    seed: int,
    ids: Ids | None = None,
) -> Keep:
    """Draw without replacement with weights `score * beta density of mean_probability`.

    The density has `b = (concentration - 1)(1 - m)(1 - p ** exponent)` and `a = concentration - b`, where `p` is the
    pruned fraction and `m` the mean `mean_probability` (of the label, over epochs, within [0, 1]) of the ten highest
    scores. The paper's `c_D` is `exponent`: 5.5 for CIFAR-10, 4 for CIFAR-100, 11 for ImageNet. Scores of zero or
    below have no weight: they are drawn, at random, only where the positive ones run out. Raises ValueError that
    names rows where `mean_probability` is no probability.

    >>> scores, confidence = np.float32([9, 8, 7, 0, 0, 0]), np.full(6, 0.5, dtype=np.float32)
    >>> beta_sampling(scores, confidence, 3, exponent=4.0, seed=0).nonzero()[0]
    array([0, 1, 2])
    """
    wrong = np.flatnonzero((mean_probability < 0) | (mean_probability > 1))
    if len(wrong):
        raise ValueError(f"'mean_probability' must lie within [0, 1], it does not at {rows_text(wrong)}")
    hardest = keep_smallest(-scores, min(10, len(scores)), seed=seed, ids=ids)
    mean = math.fsum(mean_probability[hardest].tolist()) / int(hardest.sum())
    b = (concentration - 1) * (1 - mean) * (1 - (1 - budget / len(scores)) ** exponent)
    inside = np.clip(mean_probability.astype(np.float64), CLOSEST, 1 - CLOSEST)
    weights = (concentration - b - 1) * np.log(inside) + (b - 1) * np.log1p(-inside)
    weights += np.log(scores, where=scores > 0, out=np.full(len(scores), -np.inf))
    return keep_smallest(arrival_times(weights, seed=seed + 1, ids=ids), budget, seed=seed, ids=ids)


def arrival_times(
    log_weights: Float64[np.ndarray, " n"], *, seed: int, ids: Ids | None = None
) -> Float64[np.ndarray, " n"]:
    """Logarithms of exponential times with the given rates: the first `m` are a draw of `m` without replacement.

    Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006. A weight of zero never arrives.
    """
    keys = random_keys(len(log_weights) if ids is None else ids, seed)
    uniform = ((keys >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return np.asarray(np.log(-np.log(uniform)) - log_weights)
