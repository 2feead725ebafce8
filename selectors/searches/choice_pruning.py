"""Prune choices from a search space by their contributions: the S3 of GBDT-NAS-S3 (Luo et al., arXiv 2007.04785,
section 3.3).

Both orders work on clean means over the evaluated architectures that use a choice. The published first-order code lets
the worst running mean of a prefix decide and can empty a position; here the mean is over all, and a position keeps a
choice. Pruning much at once cuts off the optimum: 2 choices per round is the default, where the paper prunes 20 of 147.
"""

from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import ConfigDict, Field

from secateur.scorers.architectures.accuracy_predictor import AccuracyPredictor
from secateur.scorers.architectures.choice_contributions import PairContributions
from secateur.scorers.architectures.encoding import Alive, ArchitectureSpace, Choices
from secateur.scorers.settings import Settings


class PruningSettings(Settings):
    """Number of choices to prune after each fit of the predictor, and the order of their contributions."""

    model_config = ConfigDict(frozen=True)

    per_round: Annotated[int, Field(ge=1, description="choices pruned after each fit")] = 2
    order: Annotated[Literal["first", "second"], Field(description="contributions of choices, or of their pairs")] = (
        "first"
    )


def prune(predictor: AccuracyPredictor, choices: Choices, alive: Alive, settings: PruningSettings) -> Alive:
    """Choices left after one round; `choices` are the architectures that the predictor was fitted to."""
    if settings.order == "first":
        return prune_first_order(predictor.space, predictor.first_order(choices), alive, settings.per_round)
    return prune_second_order(predictor.space, predictor.second_order(choices), alive, settings.per_round)


def prune_first_order(
    space: ArchitectureSpace, means: Float64[np.ndarray, " features"], alive: Alive, count: int
) -> Alive:
    """Remove the `count` choices of lowest mean contribution, among those below 0; earlier features go first."""
    left = alive.copy()
    for feature in np.argsort(means, kind="stable").tolist():
        if means[feature] >= 0 or np.sum(alive & ~left) == count:
            break
        take(space, left, feature)
    return left


def prune_second_order(space: ArchitectureSpace, pairs: PairContributions, alive: Alive, count: int) -> Alive:
    """Remove up to `count` choices, walking pairs from the lowest of their four means upwards.

    If both choices of a pair are left, both go where the mean of architectures that use both is below 0, else the first
    where the mean with it alone is below 0, else the second likewise. If one is gone, the other goes where the mean of
    both is below 0. Pairs at one position are left out: an architecture never uses both.
    """
    left = alive.copy()
    apart = space.group[pairs.pairs[:, 0]] != space.group[pairs.pairs[:, 1]]
    ordered, means = pairs.pairs[apart], pairs.means[apart]
    for place in np.argsort(means.min(axis=1), kind="stable").tolist():
        both, first, second, _ = means[place].tolist()
        one, two = ordered[place].tolist()
        if left[one] and left[two]:
            going = [one, two] if both < 0 else [one] if first < 0 else [two] if second < 0 else []
        else:
            going = [feature for feature in (one, two) if left[feature] and both < 0 and left[one] != left[two]]
        for feature in going:
            if np.sum(alive & ~left) < count:
                take(space, left, feature)
    return left


def take(space: ArchitectureSpace, left: Alive, feature: int) -> None:
    """Remove a choice in place, unless it is gone or the last one at its position."""
    place = space.group[feature]
    others = np.sum(left & (space.group == place)) - left[feature]
    if others or space.positions[place].silent:
        left[feature] = False
