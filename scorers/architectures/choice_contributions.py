"""Contributions of choices to a predicted accuracy: SHAP values and SHAP interaction values of boosted trees.

SHAP values are LightGBM's own (`pred_contrib`). It has no interaction values; this module computes them exactly. A leaf
is a game: a known feature multiplies it by 1 or 0 (it has the value that the path requires, or not), an unknown one by
the share of training rows that had the value (the path-dependent expectation of TreeSHAP: Lundberg et al., "From local
explanations to global understanding with explainable AI for trees", Nature Machine Intelligence 2020). The Shapley
interaction index is the integral over t in [0, 1] of the game's mixed second derivative with every feature known with
probability t (Grabisch and Roubens 1999), a polynomial that Gauss-Legendre nodes integrate without error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from secateur.scorers.architectures.boosted_trees import Leaf
from secateur.scorers.architectures.encoding import Features

BLOCK = 128
"""Architectures whose interaction values are in memory at a time."""


@dataclass(frozen=True)
class PairContributions:
    """Mean SHAP interaction value of each pair of features, by which of the two an architecture uses.

    `pairs` int64 `[pairs, 2]`, the lower feature first; `means` float64 `[pairs, 4]`: of architectures that
    use both, the first only, the second only and neither, in the unit of the prediction, 0 where there is none.
    """

    pairs: Int64[np.ndarray, "pairs 2"]
    means: Float64[np.ndarray, "pairs 4"]


def mean_where_used(
    contributions: Float64[np.ndarray, "n features"], features: Features
) -> Float64[np.ndarray, " features"]:
    """Mean SHAP value of each feature over the architectures that use it, 0 where none does.

    One-hot features that are off get SHAP values too, so a mean over all architectures would mean something else.
    """
    used = features > 0
    return np.asarray(np.where(used, contributions, 0.0).sum(axis=0) / np.maximum(used.sum(axis=0), 1))


def interactions(
    trees: Sequence[Sequence[Leaf]], features: Features, *, factor: float = 1.0
) -> Float64[np.ndarray, "n features features"]:
    """SHAP interaction values off the diagonal, half of a pair's index at either place; the diagonal is left at 0."""
    found = np.zeros((len(features), features.shape[1], features.shape[1]))
    used = features > 0
    for leaf in (leaf for leaves in trees for leaf in leaves if len(leaf.shares) > 1):
        names = np.array(list(leaf.shares))
        absent = np.array(list(leaf.shares.values()))
        present = np.stack([_agrees(used[:, name], leaf, name) for name in leaf.shares], axis=1)
        nodes, weights = np.polynomial.legendre.leggauss(len(names) // 2)
        for time, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            factors = absent + time * (present - absent)
            # Shares are never 0, so neither is a factor, and the product without a pair is the whole over the two.
            slopes = (present - absent) / factors
            whole = factors.prod(axis=1) * (weight * factor * leaf.value / 2)
            found[:, names[:, None], names] += whole[:, None, None] * slopes[:, :, None] * slopes[:, None, :]
    diagonal = np.arange(features.shape[1])
    found[:, diagonal, diagonal] = 0.0
    return found


def pair_contributions(
    trees: Sequence[Sequence[Leaf]], features: Features, *, factor: float = 1.0
) -> PairContributions:
    """Means of the interaction values over the architectures, by blocks of them."""
    count = features.shape[1]
    one, two = np.triu_indices(count, k=1)
    totals, numbers = np.zeros((len(one), 4)), np.zeros((len(one), 4))
    for start in range(0, len(features), BLOCK):
        part = features[start : start + BLOCK]
        values, used = interactions(trees, part, factor=factor)[:, one, two], part > 0
        kinds = (used[:, one] & used[:, two], used[:, one] & ~used[:, two], ~used[:, one] & used[:, two])
        for kind, chosen in enumerate((*kinds, ~(used[:, one] | used[:, two]))):
            totals[:, kind] += np.where(chosen, values, 0.0).sum(axis=0)
            numbers[:, kind] += chosen.sum(axis=0)
    pairs = np.stack([one, two], axis=1).astype(np.int64)
    return PairContributions(pairs, totals / np.maximum(numbers, 1))


def _agrees(used: Bool[np.ndarray, " n"], leaf: Leaf, feature: int) -> Float64[np.ndarray, " n"]:
    wanted = leaf.wants.get(feature)
    return np.ones(len(used)) if wanted is None else (used == wanted).astype(np.float64)
