"""All attention heads but those with the highest scores."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool

from secateur.scorers.networks.retrieval_heads import HeadScores
from secateur.selectors.contract import mask_selector, resolve_keep

KeptHeads: TypeAlias = Bool[np.ndarray, "layers heads"]


@mask_selector("head", paper="Wu et al. 2025, arXiv 2404.15574, section 4")
def without_highest_heads(scores: HeadScores, keep: float, *, seed: int = 0) -> KeptHeads:
    """Mask the heads with the highest scores; among equals the first heads go first.

    >>> without_highest_heads(np.float32([[0.1, 0.9], [0.3, 0.2]]), 0.75, seed=0)
    array([[ True, False],
           [ True,  True]])
    """
    return without_top(scores, scores.size - resolve_keep(float(keep), scores.size))


def without_top(scores: HeadScores, count: int) -> KeptHeads:
    """All heads but the `count` with the highest scores; among equals the first heads go first."""
    keep = np.ones(scores.size, dtype=np.bool_)
    keep[np.argsort(-scores.ravel(), kind="stable")[:count]] = False
    return keep.reshape(scores.shape)
