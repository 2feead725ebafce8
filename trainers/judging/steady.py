"""Robust predictions of numbers: a few wrong training targets would spoil a least squares fit for all rows.

Numbers far from their prediction are pulled towards it and the model is trained again, as long as the median distance
falls (pseudo-values of Huber's M-estimate: Robust Statistics, 1981, section 7.8). The last training uses the original
numbers of the rows that are not far.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped

from secateur.trainers.judging.local_units import local_units

PULLED, FAR, FENCE = 2.0, 6.0, 4.5
"""Thresholds in median distances: from its prediction, beyond which a number is pulled in, and beyond which training
skips it; from the median of all, beyond which it is pulled in at the start."""
FEW = 0.001
"""Share of the rows that may be far without harm."""
ROUNDS, BETTER = 6, 0.97
"""Largest number of repeated trainings, and the largest ratio of distances that counts as progress."""
Predictions = Float32[np.ndarray, "n width"]
Learner = Callable[[Shaped[np.ndarray, "n ..."], Bool[np.ndarray, " n"] | None], Predictions]
"""From targets and a mask of training rows (None: all) to out-of-fold predictions of every row."""


def steadied(told: Learner, targets: Float64[np.ndarray, "n k"]) -> Predictions:
    """Predictions of numbers by models trained on the rows whose numbers are not far from their predictions."""
    found = told(targets, None)
    within = fenced(targets)
    if (within != targets).any():  # Numbers of another order of magnitude may mask each other.
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
    """Largest distance over the numbers of each row, in the units of `units_of`."""
    return np.asarray((abs(targets - found) / units_of(found, targets)).max(axis=1))


def typical(found: Predictions, targets: Float64[np.ndarray, "n k"]) -> float:
    """Median distance in units of the targets' spread, as a mean over numbers."""
    spread = np.median(abs(targets - np.median(targets, axis=0)), axis=0)
    return float(np.mean(np.median(abs(targets - found), axis=0) / np.where(spread > 0, spread, 1.0)))
