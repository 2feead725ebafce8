"""Detection and counts of wrong labels, by out-of-fold predictions of a model.

The order of rows follows the log odds of another label against the given one; `wrong_counts.py` estimates the number
of wrong labels from the rows where the model is surest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Num, Shaped

from secateur.trainers.judging.local_units import local_units
from secateur.trainers.judging.steady import FAR
from secateur.trainers.judging.wrong_counts import how_many
from secateur.trainers.judging.wrong_number_counts import how_many_numbers

FLOOR = 0.01
"""Added to both probabilities, so that tiny ones do not decide the order."""
SURELY = 2.0
"""Standard errors above chance from which a model counts as informative."""
SHUFFLES = 5
"""Numbers of other rows compared with each prediction."""


@dataclass(frozen=True)
class WrongLabels:
    """Suspicion of every row, and the estimated number of wrong labels. Suggestions are for people: they change no
    label."""

    score: Float32[np.ndarray, " n"]
    """Larger means more likely wrong. The function that computes it documents the formula."""
    order: Int64[np.ndarray, " n"]
    """Row numbers, the most suspicious first; ties in row order."""
    count: float
    """Estimated number of wrong labels; NaN without an estimate, see `reason`."""
    low: float
    high: float
    """Ends of the interval of `count`."""
    level: float
    """Confidence level of the interval."""
    suggested: Shaped[np.ndarray, "n ..."]
    """The model's predictions: int64 `[n]` classes, float64 `[n, k]` numbers, bool `[n, labels]`."""
    accuracy: float
    """Share of the given labels that the model predicts; for numbers, the explained share of their variance."""
    reason: str
    """Explanation of the count, or of its absence, for people."""
    entries: Float32[np.ndarray, "n k"] | None = None
    """Suspicion of each label or number of a row with several, on the scale of `score`; None for one class."""


def wrong_labels(
    probabilities: Num[np.ndarray, "n classes"], labels: Int64[np.ndarray, " n"], *, seed: int = 0, level: float = 0.95
) -> WrongLabels:
    """One class per row; `score` is log((p + 0.01) / (q + 0.01)) with the best other class p and the given class q.

    `probabilities` must come from a model that was not trained on the row's own label (`cross_fitted`); they need not
    be calibrated. The count assumes that labels are as often wrong where the model is sure as elsewhere: it misses
    mistakes that people make on hard rows alone. Raises ValueError for values that are no probabilities, for labels
    that name no class, for fewer than two classes and for no rows.
    """
    given = checked(probabilities, labels)
    score = suspicion(probabilities, given)
    predicted = probabilities.argmax(axis=1)
    differs, ranks = predicted != labels, surest_first(probabilities, predicted)
    (count, low, high), part = how_many(ranks[differs], len(labels), seed=seed, level=level)
    reason = (
        f"of the {part:.0%} of rows of which the model is surest, {count / len(labels):.2%} have another label than it "
        f"predicts; the estimate is as large a share of all. It predicts {1 - differs.mean():.1%} of the labels"
    )
    if at_chance(predicted, labels, probabilities.shape[1]):
        count = low = high = float("nan")
        reason = f"the model predicts {1 - differs.mean():.1%} of them, no more than chance would"
    return WrongLabels(
        score=score,
        order=np.argsort(-score, kind="stable").astype(np.int64),
        count=count,
        low=low,
        high=high,
        level=level,
        suggested=predicted.astype(np.int64),
        accuracy=float(1 - differs.mean()),
        reason=reason,
    )


def at_chance(predicted: Int64[np.ndarray, " n"], labels: Int64[np.ndarray, " n"], classes: int) -> bool:
    """Whether predictions agree with labels hardly more often than by chance: Cohen's kappa (1960) is at most two of
    its standard errors under independence (Fleiss, Cohen and Everitt, 1969), as for a constant guess."""
    size = len(labels)
    rows, columns = (np.bincount(each, minlength=classes) / size for each in (labels, predicted))
    both = rows * columns
    expected = float(both.sum())
    agreed = float((predicted == labels).mean())
    spread = max(expected + expected**2 - float((both * (rows + columns)).sum()), 0.0)
    return bool(agreed < 1 and agreed - expected <= SURELY * np.sqrt(spread / size))


def checked(probabilities: Num[np.ndarray, "n classes"], labels: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """The labels; raises ValueError as `wrong_labels`."""
    if not len(labels):
        raise ValueError("wrong labels of no rows: give at least one")
    if probabilities.shape[1] < 2:
        raise ValueError("wrong labels of one class: no label can be another, give at least two classes")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(
            f"labels {labels.min()} … {labels.max()} name classes that {probabilities.shape[1]} columns of "
            "probabilities do not have"
        )
    sums = probabilities.sum(axis=1, dtype=np.float64)
    bad = ~np.isfinite(sums) | (probabilities.min(axis=1) < 0) | (abs(sums - 1) > 0.01)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"row {row}: its values are no probabilities, which are at least 0 and sum to 1; "
            f"these sum to {sums[row]:.4g}"
        )
    return labels


def suspicion(
    probabilities: Num[np.ndarray, "n classes"], labels: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, " n"]:
    """Log odds of the best other class against the given one."""
    rows = np.arange(len(labels))
    given = probabilities[rows, labels].astype(np.float64)
    top = np.partition(probabilities, -2, axis=1)[:, -2:].astype(np.float64)
    other = np.where(given >= top[:, 1], top[:, 0], top[:, 1])
    return np.asarray(np.log((other + FLOOR) / (given + FLOOR)), np.float32)


def surest_first(
    probabilities: Num[np.ndarray, "n classes"], predicted: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Place of each row among the rows of its predicted class, 0 … 1, the largest margin first."""
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    return ranked_within(predicted, top[:, 0].astype(np.float64) - top[:, 1])


def ranked_within(groups: Int64[np.ndarray, " n"], values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Place of each value in its group, 0 … 1, the smallest first, so that each group counts by its size."""
    order = np.lexsort((values, groups))
    sizes = np.unique(groups, return_counts=True)[1]
    places = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    ranks = np.empty(len(order))
    ranks[order] = (places + 0.5) / np.repeat(sizes, sizes)
    return ranks


def wrong_label_sets(
    probabilities: Num[np.ndarray, "n labels"],
    targets: Bool[np.ndarray, "n labels"],
    *,
    seed: int = 0,
    level: float = 0.95,
) -> WrongLabels:
    """Several labels per row: `score` is the largest score of `wrong_labels` over the labels, each present or absent.

    `count` counts wrong entries of the table of rows and labels, not rows. Raises ValueError for values beyond 0 … 1
    and for no rows.
    """
    if not targets.size:
        raise ValueError("wrong labels of no rows: give at least one row and one label")
    bad = ~((probabilities >= 0) & (probabilities <= 1)).all(axis=1)
    if bad.any():
        raise ValueError(f"row {int(bad.argmax())}: its values are no probabilities, which are between 0 and 1")
    sure = probabilities.astype(np.float64)
    given = np.where(targets, sure, 1 - sure)
    entries = np.log((1 - given + FLOOR) / (given + FLOOR)).astype(np.float32)
    score = entries.max(axis=1)
    predicted = sure > 0.5
    codes = 2 * np.arange(targets.shape[1]) + predicted
    ranks = ranked_within(codes.ravel(), -abs(sure - 0.5).ravel())
    differs = (predicted != targets).ravel()
    (count, low, high), part = how_many(ranks[differs], targets.size, seed=seed, level=level)
    return WrongLabels(
        score=score,
        order=np.argsort(-score, kind="stable").astype(np.int64),
        count=count,
        low=low,
        high=high,
        level=level,
        suggested=predicted,
        accuracy=float(1 - differs.mean()),
        reason=f"of the {part:.0%} of entries (a row's label, there or not) of which the model is surest, "
        f"{count / targets.size:.2%} are not as it predicts; the estimate is as large a share of all. It predicts "
        f"{1 - differs.mean():.1%} of the entries",
        entries=entries,
    )


def wrong_numbers(
    predictions: Num[np.ndarray, "n k"], targets: Num[np.ndarray, "n k"], *, seed: int = 0, level: float = 0.95
) -> WrongLabels:
    """Numbers: `score` is the largest distance of a target from its prediction over the k numbers, in units of the
    median distance of the rows with the most similar predictions.

    `count` is that of `how_many_numbers`: it assumes that right numbers have no heavier tails than Student's t with 3
    degrees of freedom, and that wrong ones are other rows' numbers or lie beyond that scatter. `accuracy` uses medians,
    which wrong numbers hardly move. Raises ValueError for values that are not finite.
    """
    if not targets.size:
        raise ValueError("wrong numbers of no rows: give at least one")
    bad = ~(np.isfinite(predictions) & np.isfinite(targets)).all(axis=1)
    if bad.any():
        raise ValueError(f"row {int(bad.argmax())}: a number or its prediction is not finite; leave such rows out")
    told, known = predictions.astype(np.float64), targets.astype(np.float64)
    units = np.stack([local_units(one, abs(y - one)) for one, y in zip(told.T, known.T, strict=True)], axis=1)
    entries = abs(known - told) / units
    away = entries.max(axis=1)
    random = np.random.default_rng(seed)
    right = np.flatnonzero(away <= FAR)  # Numbers beyond are hardly right for any row.
    others = [
        (abs(known[random.permutation(np.resize(random.permutation(right), len(known)))] - told) / units).max(axis=1)
        for _ in range(SHUFFLES)
    ]
    count, low, high = how_many_numbers(away, np.concatenate(others), width=known.shape[1], level=level)
    spread = np.median(abs(known - np.median(known, axis=0)), axis=0)
    left = np.median(abs(known - told), axis=0)
    explained = float(1 - np.mean((left / np.maximum(spread, 1e-300)) ** 2)) if spread.any() else 0.0
    reason = (
        "the likeliest share of numbers that are another row's, or off by more than the others scatter about their "
        "predictions; where few are another's, most of these lie within that scatter. The model explains "
        f"{explained:.1%} of the spread, by medians"
    )
    if explained <= 0:
        count = low = high = float("nan")
        reason = "the model is no nearer to half of the numbers than their median is"
    return WrongLabels(
        score=away.astype(np.float32),
        order=np.argsort(-away, kind="stable").astype(np.int64),
        count=count,
        low=low,
        high=high,
        level=level,
        suggested=told,
        accuracy=explained,
        reason=reason,
        entries=entries.astype(np.float32),
    )
