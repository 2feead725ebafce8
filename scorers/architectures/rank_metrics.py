"""Quality of the order of architectures by predicted accuracies."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

FOLDS, TOP = 5, 0.1
Values = Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class RankMetrics:
    """Agreement of two orders; correlations are None where one side is constant and orders nothing."""

    kendall: float | None
    spearman: float | None
    precision_of_top: float
    count: int


def rank_metrics(true: Values, predicted: Values) -> RankMetrics:
    """Kendall's tau-b, Spearman's rho, and the share of the truly best among the ones predicted best.

    A share of `TOP` counts as best, at least one architecture; ties for a place among them go to earlier rows. Raises
    ValueError for fewer than two architectures and for NaN.
    """
    from scipy import stats

    if len(true) < 2 or len(true) != len(predicted):
        raise ValueError(f"ranks need two architectures and one prediction for each, got {len(true)}, {len(predicted)}")
    if not (np.isfinite(true).all() and np.isfinite(predicted).all()):
        raise ValueError("accuracies and predictions must be finite")
    best = max(1, round(TOP * len(true)))
    first, second = (set(np.argsort(-values, kind="stable")[:best].tolist()) for values in (true, predicted))
    precision = len(first & second) / best
    if np.ptp(true) == 0 or np.ptp(predicted) == 0:
        return RankMetrics(None, None, precision, len(true))
    return RankMetrics(
        kendall=float(stats.kendalltau(true, predicted).statistic),
        spearman=float(stats.spearmanr(true, predicted).statistic),
        precision_of_top=precision,
        count=len(true),
    )


def out_of_fold(
    fit_predict: Callable[[Int64[np.ndarray, " train"], Int64[np.ndarray, " test"]], Values],
    groups: Int64[np.ndarray, " n"],
) -> Values:
    """A prediction of each row by a model that never saw it.

    `fit_predict(training rows, rows to predict)` is called once per fold. Rows of equal `groups` (isomorphic
    architectures) share a fold, or the model would predict networks of its training set. With fewer groups than folds,
    each group is a fold. Raises ValueError for fewer than three groups: a model needs two or more.
    """
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < 3:
        raise ValueError(f"{len(names)} different architectures cannot be predicted from each other; evaluate three")
    folds = min(FOLDS, len(names))
    fold = np.random.default_rng((0, FOLDS)).permutation(len(names))[member] % folds
    predicted = np.empty(len(groups))
    for number in range(folds):
        test = np.flatnonzero(fold == number).astype(np.int64)
        predicted[test] = fit_predict(np.flatnonzero(fold != number).astype(np.int64), test)
    return predicted
