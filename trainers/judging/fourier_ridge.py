"""Ridge regression on random Fourier features, one fold after the other (Rahimi and Recht, NeurIPS 2007).

A kernel machine in closed form: one pass sums the features' products for every fold, and the sums of all other folds
give each fold's model. A rotation first reduces vectors to at most 128 principal directions; the kernel's width is the
median distance in a sample of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Num, Shaped

FEATURES, DIRECTIONS, SAMPLE, BLOCK = 2048, 128, 5000, 4096
"""Largest numbers of random features and principal directions; sample size for directions and width; rows per block."""
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Candidate penalties per row; the best on the first fold is used for all folds."""
TEMPERATURES = np.geomspace(0.01, 1.0, 25)
"""Candidate temperatures of the softmax that turns predicted class indicators into probabilities."""
Features = Callable[[Num[np.ndarray, "rows columns"]], Float32[np.ndarray, "rows features"]]
"""Rows to features. A block's features and sums are in single precision, sums of blocks in double."""


def ridge_of_folds(
    inputs: Num[np.ndarray, "n columns"],
    targets: Shaped[np.ndarray, "n ..."],
    fold: Int64[np.ndarray, " n"],
    *,
    task: str,
    width: int,
    seed: int,
    teaches: Bool[np.ndarray, " n"] | None = None,
) -> Float32[np.ndarray, "n width"]:
    """Predictions for each row by the model of the other folds, see `cross_fitted`; `teaches` masks training rows."""
    outcomes = outcomes_of(targets, task, width)
    features = features_of(inputs, seed)
    folds = int(fold.max()) + 1
    teaching = np.ones(len(inputs), np.bool_) if teaches is None else teaches
    products, sums, moments, means = gathered(inputs, outcomes, np.where(teaching, fold, -1), features, folds)
    raw = np.empty((len(inputs), width))
    penalty: float | None = None
    for number in range(folds):
        held = np.flatnonzero(fold == number)
        rest = [other for other in range(folds) if other != number]
        count = int(((fold != number) & teaching).sum())
        centre, average = sums[rest].sum(axis=0) / count, means[rest].sum(axis=0) / count
        gram = products[rest].sum(axis=0) - count * np.outer(centre, centre)
        cross = moments[rest].sum(axis=0) - count * np.outer(centre, average)
        penalties = PENALTIES if penalty is None else (penalty,)
        weights = np.stack([solved(gram, cross, one * count) for one in penalties])
        tried = told(inputs, held, features, weights, centre, average)
        missed = outcomes(held)[teaching[held]]
        errors = [float(((one[teaching[held]] - missed) ** 2).sum()) for one in tried]
        penalty, raw[held] = penalties[int(np.argmin(errors))], tried[int(np.argmin(errors))]
    return (raw if task == "numbers" else probabilities_of(raw, targets, task)).astype(np.float32)


def outcomes_of(
    targets: Shaped[np.ndarray, "n ..."], task: str, width: int
) -> Callable[[Int64[np.ndarray, " rows"]], Float64[np.ndarray, "rows width"]]:
    """A function of row numbers to regression targets: indicators of classes, labels, or numbers."""
    if task == "class":
        return lambda rows: (targets[rows, None] == np.arange(width)).astype(np.float64)
    return lambda rows: targets[rows].astype(np.float64)


def features_of(inputs: Num[np.ndarray, "n columns"], seed: int) -> Features:
    """The feature map: principal directions, then cosines of random projections."""
    random = np.random.default_rng(seed)
    sample = inputs[np.sort(random.permutation(len(inputs))[:SAMPLE])].astype(np.float64)
    centre = sample.mean(axis=0)
    rotation = np.linalg.svd(sample - centre, full_matrices=False)[2][:DIRECTIONS].T
    points = (sample - centre) @ rotation
    left, right = points[random.permutation(len(points))], points[random.permutation(len(points))]
    spread = float(np.median(((left - right) ** 2).sum(axis=1))) or 1.0
    count = int(np.clip(len(inputs) // 4, 64, FEATURES))
    directions = (random.normal(size=(points.shape[1], count)) * np.sqrt(2 / spread)).astype(np.float32)
    shifts = random.uniform(0, 2 * np.pi, count).astype(np.float32)
    turned = rotation.astype(np.float32)

    def features(rows: Num[np.ndarray, "rows columns"]) -> Float32[np.ndarray, "rows features"]:
        angles = ((rows - centre).astype(np.float32) @ turned) @ directions
        angles += shifts
        return np.asarray(np.cos(angles, out=angles))

    return features


def blocks_of(rows: Int64[np.ndarray, " rows"]) -> Iterator[Int64[np.ndarray, " block"]]:
    """Row numbers in blocks of `BLOCK`."""
    yield from (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))


def gathered(
    inputs: Num[np.ndarray, "n columns"],
    outcomes: Callable[..., Float64[np.ndarray, "rows width"]],
    fold: Int64[np.ndarray, " n"],
    features: Features,
    folds: int,
) -> tuple[Any, Any, Any, Any]:
    """Per fold, the sums of products of features, of features, of features times outcomes, and of outcomes."""
    size, width = features(inputs[:1]).shape[1], outcomes(np.arange(1)).shape[1]
    products, sums = np.zeros((folds, size, size)), np.zeros((folds, size))
    moments, means = np.zeros((folds, size, width)), np.zeros((folds, width))
    for number in range(folds):
        for rows in blocks_of(np.flatnonzero(fold == number)):
            values, known = features(inputs[rows]), outcomes(rows)
            products[number] += values.T @ values
            sums[number] += values.sum(axis=0)
            moments[number] += values.T @ known.astype(np.float32)
            means[number] += known.sum(axis=0)
    return products, sums, moments, means


def solved(
    gram: Float64[np.ndarray, "features features"], cross: Float64[np.ndarray, "features width"], penalty: float
) -> Float64[np.ndarray, "features width"]:
    """Weights of the features by the normal equations."""
    from scipy.linalg import solve

    return np.asarray(solve(gram + penalty * np.eye(len(gram)), cross, assume_a="pos"))


def told(
    inputs: Num[np.ndarray, "n columns"],
    held: Int64[np.ndarray, " rows"],
    features: Features,
    weights: Float64[np.ndarray, "models features width"],
    centre: Float64[np.ndarray, " features"],
    average: Float64[np.ndarray, " width"],
) -> Float64[np.ndarray, "models rows width"]:
    """Predictions of some rows by each of several models."""
    found = np.empty((len(weights), len(held), weights.shape[2]))
    for start in range(0, len(held), BLOCK):
        values = features(inputs[held[start : start + BLOCK]]) - centre
        found[:, start : start + BLOCK] = values @ weights + average
    return found


def probabilities_of(
    raw: Float64[np.ndarray, "n width"], targets: Shaped[np.ndarray, "n ..."], task: str
) -> Float64[np.ndarray, "n width"]:
    """A softmax, or a logistic function for each label, with the one temperature of highest likelihood over all
    rows."""
    from scipy.special import expit, log_softmax, softmax

    rows = np.arange(len(raw))
    if task == "class":
        losses = [-log_softmax(raw / one, axis=1)[rows, targets].mean() for one in TEMPERATURES]
        return np.asarray(softmax(raw / TEMPERATURES[int(np.argmin(losses))], axis=1))
    centred = 2 * (raw - 0.5)
    losses = [np.logaddexp(0, -np.where(targets, centred, -centred) / one).mean() for one in TEMPERATURES]
    return np.asarray(expit(centred / TEMPERATURES[int(np.argmin(losses))]))
