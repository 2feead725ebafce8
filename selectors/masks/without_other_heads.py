"""All attention heads but as many that copy nothing: a control for the removal of heads with high scores."""

from typing import Literal

import numpy as np

from secateur.scorers.contract import Share
from secateur.scorers.networks.retrieval_heads import HeadScores
from secateur.selectors.contract import mask_selector, resolve_keep
from secateur.selectors.masks.without_highest_heads import KeptHeads, without_top

Control = Literal["random", "earlier", "later"]
PLACES: dict[Control, int] = {"random": 1, "earlier": 2, "later": 3}
"""Part of the seed, which makes the draws of the controls differ."""


@mask_selector("head", draws=True, exact=False, paper="Wu et al. 2025, arXiv 2404.15574, section 4")
def without_other_heads(
    scores: HeadScores, keep: float, *, control: Control = "random", threshold: Share = 0.1, seed: int
) -> KeptHeads:
    """Mask random heads that are neither above the threshold nor among the highest, all of them if there are few.

    `earlier` and `later` draw from the layers before and behind the one whose scores sum up highest.

    >>> without_other_heads(np.float32([[0.05, 0.9], [0.3, 0.2]]), 0.75, seed=0)
    array([[False,  True],
           [ True,  True]])
    """
    count = scores.size - resolve_keep(float(keep), scores.size)
    others = others_of(scores, count, control, threshold)
    generator = np.random.default_rng([seed, count, PLACES[control]])
    return without(scores, others, min(count, len(others)), generator)


def others_of(scores: HeadScores, count: int, control: Control, threshold: float) -> np.ndarray:
    """Places of the heads that a control for the `count` highest may mask, int64."""
    layer = np.arange(len(scores))[:, None]
    pivot = int(np.argmax(scores.sum(axis=1, dtype=np.float64)))
    where = {"random": layer >= 0, "earlier": layer < pivot, "later": layer > pivot}[control]
    return np.flatnonzero(where & (scores <= threshold) & without_top(scores, count))


def without(scores: HeadScores, others: np.ndarray, count: int, generator: np.random.Generator) -> KeptHeads:
    """All heads but `count` of the others, drawn at random."""
    keep = np.ones(scores.size, dtype=np.bool_)
    keep[generator.choice(others, count, replace=False)] = False
    return keep.reshape(scores.shape)
