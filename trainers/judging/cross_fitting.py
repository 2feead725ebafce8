"""Out-of-fold predictions for every row by a cheap model, for finding wrong labels.

The kind of input decides the model: logistic regression on TF-IDF, boosted trees on the columns of a table, and ridge
regression on random Fourier features of vectors and pictures. None of them memorises labels as a network does. Rows of
equal content share a fold, because copies in other folds would leak labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64, Num, Shaped, UInt64

from secateur.selectors.draws.ranks import hash_in_place, random_keys
from secateur.trainers.judging.fourier_ridge import ridge_of_folds
from secateur.trainers.judging.steady import Predictions, steadied
from secateur.trainers.passes.folds import folds_of

MOST_ROWS, LEAST_ROWS, WORK = 20_000, 2_000, 1 << 39
"""Largest and smallest number of training rows; multiplications of the linear models of all folds."""
WEIGHT, ROUNDS = 1.0, 40
"""Weight of the losses against the penalty (scikit-learn's C), strong enough to prevent memorising of wrong labels;
passes over the rows."""
TREES = 100
"""Trees per model."""
BLOCK = 4096
"""Rows hashed per block."""
Kind = Literal["text", "vectors", "features"]
Task = Literal["class", "labels", "numbers"]
Values = Any
"""`[n, columns]`, an array or a sparse matrix of scipy."""


def cross_fitted(
    inputs: Values,
    targets: Shaped[np.ndarray, "n ..."],
    *,
    kind: Kind,
    task: Task = "class",
    width: int | None = None,
    folds: int = 5,
    groups: Int64[np.ndarray, " n"] | None = None,
    categories: Sequence[int] = (),
    seed: int = 0,
) -> Float32[np.ndarray, "n width"]:
    """Probabilities `[n, classes]` for `task` class, `[n, labels]` for labels, predictions `[n, k]` for numbers.

    `inputs` are a sparse matrix for `kind` text (`text_values`), float32 for vectors (`picture_values`, embeddings),
    and float32 for features, NaN where a value is missing, codes below 255 in the columns `categories`. `targets` are
    int64 `[n]` below `width`, bool `[n, labels]`, or float64 `[n, k]`. Rows of equal `groups` share a fold; without
    groups, rows of equal inputs do. A model trains on at most 20,000 rows of the other folds, drawn by the seed
    (vectors: on all); for numbers, training skips targets far from the rest, see `steadied`. Memory beside inputs and
    result: 20,000 rows, or for vectors a matrix of 2,048² per fold. Raises ValueError for fewer different rows than
    folds, and for different lengths.
    """
    rows = inputs.shape[0]
    if rows != len(targets):
        raise ValueError(f"{rows} rows of inputs for {len(targets)} targets: give as many")
    groups = equal_rows(inputs) if groups is None else groups
    different = len(np.unique(groups))
    if different < folds:
        raise ValueError(f"{folds} folds of {different} different rows: give more rows, or fewer folds")
    strata = targets.astype(np.int64) if task == "class" else np.zeros(rows, np.int64)
    fold = folds_of(groups, strata, folds, seed=seed)
    width = width or (int(targets.max()) + 1 if task == "class" else targets.shape[1])

    def told(known: Shaped[np.ndarray, "n ..."], teaches: Bool[np.ndarray, " n"] | None) -> Predictions:
        if kind == "vectors":
            return ridge_of_folds(inputs, known, fold, task=task, width=width, seed=seed, teaches=teaches)
        return in_turn(inputs, known, fold, kind, task, width, categories, seed=seed, teaches=teaches)

    return steadied(told, targets) if task == "numbers" else told(targets, None)


def in_turn(
    inputs: Values, targets: Shaped[np.ndarray, "n ..."], fold: Int64[np.ndarray, " n"], kind: Kind, task: Task,
    width: int, categories: Sequence[int], *, seed: int, teaches: Bool[np.ndarray, " n"] | None,
) -> Predictions:  # fmt: skip
    """Train one model after the other, each for its fold."""
    folds = int(fold.max()) + 1
    predictions = np.empty((len(targets), width), np.float32)
    most = rows_learned(inputs, width, folds) if kind == "text" else MOST_ROWS
    for number in range(folds):
        learned, held = np.flatnonzero((fold != number) & (True if teaches is None else teaches)), fold == number
        if len(learned) > most:
            learned = np.sort(learned[np.argsort(random_keys(learned, seed), kind="stable")[:most]])
        predictions[held] = predicted(inputs, targets, learned, np.flatnonzero(held), kind, task, width, categories)
    return predictions


def rows_learned(inputs: Values, width: int, folds: int) -> int:
    """Number of training rows that `WORK` allows linear models."""
    each = 4 * ROUNDS * folds * (1 if width == 2 else width) * max(1.0, inputs.nnz / max(1, inputs.shape[0]))
    return max(LEAST_ROWS, min(MOST_ROWS, int(WORK / each)))


def predicted(
    inputs: Values,
    targets: Shaped[np.ndarray, "n ..."],
    learned: Int64[np.ndarray, " m"],
    held: Int64[np.ndarray, " h"],
    kind: Kind,
    task: Task,
    width: int,
    categories: Sequence[int],
) -> Float32[np.ndarray, "h width"]:
    """Predictions for the held-out rows `held` by a model trained on the rows `learned`."""
    values, asked, known = inputs[learned], inputs[held], targets[learned]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Models warn that ROUNDS end before convergence, as intended.
        if task == "class":
            return of_classes(model_of(kind, "class", categories), values, known, asked, width)
        if task == "numbers":
            each = [model_of(kind, task, categories).fit(values, column).predict(asked) for column in known.T]
            return np.stack(each, axis=1).astype(np.float32)
        pairs = [
            of_classes(model_of(kind, task, categories), values, column.astype(np.int64), asked, 2)
            for column in known.T
        ]
    return np.stack([pair[:, 1] for pair in pairs], axis=1)


def model_of(kind: Kind, task: Task, categories: Sequence[int]) -> Any:
    """An untrained model."""
    if kind == "text":
        from sklearn.linear_model import LogisticRegression, Ridge

        return Ridge(1 / WEIGHT) if task == "numbers" else LogisticRegression(C=WEIGHT, max_iter=ROUNDS, tol=1e-3)
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    trees = HistGradientBoostingRegressor if task == "numbers" else HistGradientBoostingClassifier
    codes = list(categories) or None
    return trees(max_iter=TREES, categorical_features=codes, early_stopping=False, random_state=0)


def of_classes(
    model: Any, values: Values, labels: Int64[np.ndarray, " m"], asked: Values, width: int
) -> Float32[np.ndarray, "h width"]:
    """Probabilities of all classes, zero for classes without a training row."""
    known = np.unique(labels)
    probabilities = np.zeros((asked.shape[0], width), np.float32)
    probabilities[:, known] = model.fit(values, labels).predict_proba(asked) if len(known) > 1 else 1.0
    return probabilities


def equal_rows(inputs: Values) -> Int64[np.ndarray, " n"]:
    """A group number for each row, equal for equal values, by sums of hashes of value and column modulo 2⁶⁴."""
    if not isinstance(inputs, np.ndarray):
        return np.unique(sparse_hashes(inputs), return_inverse=True)[1].astype(np.int64)
    flat = inputs.reshape(len(inputs), -1)
    columns = random_keys(flat.shape[1], 1)
    hashes = np.empty(len(flat), np.uint64)
    for start in range(0, len(flat), BLOCK):
        hashes[start : start + BLOCK] = hashed(flat[start : start + BLOCK], columns).sum(axis=1)
    return np.unique(hashes, return_inverse=True)[1].astype(np.int64)


def hashed(values: Num[np.ndarray, " ..."], columns: UInt64[np.ndarray, " ..."]) -> UInt64[np.ndarray, " ..."]:
    """Hashes of values in their columns; 0.0 and -0.0 are equal."""
    words: Any = (np.ascontiguousarray(values).astype(np.float64) + 0.0).view(np.uint64) + columns
    hash_in_place(words.reshape(-1), 0)
    return np.asarray(words)


def sparse_hashes(inputs: Values) -> UInt64[np.ndarray, " n"]:
    """The same sums over the stored values of a sparse matrix."""
    keys = random_keys(inputs.shape[1], 1)
    sums = np.zeros(inputs.nnz + 1, np.uint64)
    np.cumsum(hashed(inputs.data, keys[inputs.indices]), out=sums[1:])
    return np.asarray(sums[inputs.indptr[1:]] - sums[inputs.indptr[:-1]])
