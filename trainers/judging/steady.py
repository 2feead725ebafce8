"""Predictions of numbers that wrong ones among those learned from do not bend: some of them would spoil a least squares
fit for all rows.

Numbers far from their prediction are pulled towards it, and the model learns again, as long as that brings it nearer to
half of the rows (pseudo-values of Huber's M-estimate: Robust Statistics, 1981, section 7.8). At last it learns from the
numbers as they are, of the rows that are not far.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped

from secateur.trainers.judging.local_units import local_units

PULLED, FAR, FENCE = 2.0, 6.0, 4.5
"""Median distances from its prediction beyond which a number is pulled in, and beyond which it does not teach; from the
median of all, beyond which it is pulled in at the start."""
FEW = 0.001
"""Share of the rows that may be far without harm."""
ROUNDS, BETTER = 6, 0.97
"""Times that a model learns again at most, and the share of the distance that each must leave at most."""
Predictions = Float32[np.ndarray, "n width"]
Learner = Callable[[Shaped[np.ndarray, "n ..."], Bool[np.ndarray, " n"] | None], Predictions]
"""From targets, and which rows teach (None: all), to predictions of every row by models that did not learn from it."""


def steadied(told: Learner, targets: Float64[np.ndarray, "n k"]) -> Predictions:
    """Predictions of numbers by models that learned from the rows whose number is not far from its prediction."""
    found = told(targets, None)
    within = fenced(targets)
    if (within != targets).any():  # numbers of another size altogether, which may hide each other
        again = told(within, None)
        if typical(again, targets) < BETTER * typical(found, targets):
            found = again
    distance = far_in(found, targets)
    if (distance > FAR).mean() <= FEW:
        return found
    for _ in range(ROUNDS):
        reach = PULLED * units_of(found, targets)
        again = told(found + np.clip(targets - found, -reach, reach), None)
        if typical(again, targets) > BETTER * typical(found, targets):
            break
        found = again
    return told(targets, far_in(found, targets) <= FAR)


def fenced(targets: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
    """Numbers pulled in to `FENCE` median distances from their median."""
    middle = np.median(targets, axis=0)
    reach = FENCE * np.median(abs(targets - middle), axis=0)
    return np.where(reach > 0, np.clip(targets, middle - reach, middle + reach), targets)


def units_of(found: Predictions, targets: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
    """Usual distances of rows with similar predictions."""
    return np.stack([local_units(one, abs(y - one)) for one, y in zip(found.T, targets.T, strict=True)], axis=1)


def far_in(found: Predictions, targets: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
    """Distance of each row in these units, the largest of its numbers."""
    return np.asarray((abs(targets - found) / units_of(found, targets)).max(axis=1))


def typical(found: Predictions, targets: Float64[np.ndarray, "n k"]) -> float:
    """Median distance, in units of the targets' own spread, the mean over numbers."""
    spread = np.median(abs(targets - np.median(targets, axis=0)), axis=0)
    return float(np.mean(np.median(abs(targets - found), axis=0) / np.where(spread > 0, spread, 1.0)))
