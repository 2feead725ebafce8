"""The effect of copies: the share of the test accuracy that rests on leaked rows; the cost of copies in training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

LEVEL = 0.95
BATCH = 32
"""Default number of samples per optimiser step."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Resting:
    """A model's score on test rows, with and without those that are also in training.

    Values are means over rows of `measure`; larger is better for an accuracy, smaller for an error. `whole` is the mean
    over all rows, `clean` over rows that are not in training, `leaked` over the others. `rests` is `whole` minus
    `clean`, with a 95% interval, None where either has a single row and values are not shares. `refitted` is the mean
    over all rows for a model that learned from no leaked row, None without such a model.
    """

    model: str
    measure: str
    rows: int
    leaked_rows: int
    whole: float
    clean: float
    leaked: float
    rests: float
    low: float | None
    high: float | None
    refitted: float | None = None

    @property
    def share(self) -> float | None:
        """Share of the accuracy that rests on leaked rows; None for an error."""
        return self.rests / self.whole if self.measure == "accuracy" and self.whole else None

    @property
    def sentence(self) -> str:
        """The result in a sentence."""
        whole, clean, refitted = (self.shown(each) for each in (self.whole, self.clean, self.refitted))
        first = f"{self.model[0].upper()}{self.model[1:]} gets {self.measure} {whole} on {self.rows:,} test rows"
        scale, unit = (100.0, " points") if self.measure == "accuracy" else (1.0, "")
        digits = ".2f" if self.measure == "accuracy" else ".3g"
        if self.low is None or self.high is None:
            rests = f"{scale * self.rests:{digits}}{unit} of it rest on leaked rows; one row has no interval"
        else:
            low, high = (f"{scale * each:{digits}}" for each in (self.low, self.high))
            rests = f"{low} to {high}{unit} of it rest on leaked rows, at {LEVEL:.0%}"
        again = f"; fitted without the training rows that leak it gets {refitted} on all" if refitted else ""
        return f"{first} and {clean} without the {self.leaked_rows:,} that training has: {rests}{again}"

    def shown(self, value: float | None) -> str:
        """A value of the measure; empty for None."""
        if value is None:
            return ""
        return f"{100 * value:.1f}%" if self.measure == "accuracy" else f"{value:.4g}"

    def content(self) -> dict[str, Any]:
        """The result as JSON-able data."""
        return vars(self) | {"share": self.share, "sentence": self.sentence}


def resting(
    scores: Float64[np.ndarray, " m"], leaked: Bool[np.ndarray, " m"], *, model: str, measure: str,
    refitted: float | None = None,
) -> Resting | None:  # fmt: skip
    """The result from the score of each test row; None where no row leaked, or all did.

    The difference is the share of leaked rows times the difference of the two means, whose interval is Newcombe's
    (1998, method 10) for shares, and Welch's for other numbers.
    """
    if not leaked.any() or leaked.all():
        return None
    theirs, clean = scores[leaked], scores[~leaked]
    share = float(leaked.mean())
    interval = newcombe(theirs, clean) if measure == "accuracy" and is_share(scores) else welch(theirs, clean)
    return Resting(
        model=model,
        measure=measure,
        rows=len(scores),
        leaked_rows=int(leaked.sum()),
        whole=float(scores.mean()),
        clean=float(clean.mean()),
        leaked=float(theirs.mean()),
        rests=float(scores.mean() - clean.mean()),
        low=share * interval[0] if interval else None,
        high=share * interval[1] if interval else None,
        refitted=refitted,
    )


def is_share(scores: Float64[np.ndarray, " m"]) -> bool:
    """Whether each row is either right or wrong."""
    return bool(np.isin(scores, (0.0, 1.0)).all())


def newcombe(left: Float64[np.ndarray, " a"], right: Float64[np.ndarray, " b"]) -> Interval:
    """Interval of the difference of two shares, from Wilson's intervals of each."""
    from scipy.stats import binomtest

    one, other = (binomtest(int(each.sum()), len(each)) for each in (left, right))
    wilson = [each.proportion_ci(LEVEL, method="wilson") for each in (one, other)]
    first, second = float(left.mean()), float(right.mean())
    difference = first - second
    low = difference - math.hypot(first - wilson[0].low, wilson[1].high - second)
    high = difference + math.hypot(wilson[0].high - first, second - wilson[1].low)
    return low, high


def welch(left: Float64[np.ndarray, " a"], right: Float64[np.ndarray, " b"]) -> Interval | None:
    """Interval of the difference of two means, by Student's t with the degrees of freedom of Welch (1947); None where
    one of them is of a single row."""
    from scipy.stats import t

    if min(len(left), len(right)) < 2:
        return None
    errors = [float(each.var(ddof=1)) / len(each) for each in (left, right)]
    difference = float(left.mean() - right.mean())
    if not sum(errors):
        return difference, difference
    freedom = sum(errors) ** 2 / sum(e**2 / (len(each) - 1) for e, each in zip(errors, (left, right), strict=True))
    half = float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(sum(errors))
    return difference - half, difference + half


@dataclass(frozen=True)
class Saving:
    """The saving of a training without copies of training rows."""

    rows: int
    of: int
    batch_size: int
    epochs: int

    @property
    def steps(self) -> int:
        """Saved optimiser steps over all epochs."""
        return self.epochs * (math.ceil(self.of / self.batch_size) - math.ceil((self.of - self.rows) / self.batch_size))

    @property
    def sentence(self) -> str:
        """The saving in a sentence."""
        epochs = "an epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return (
            f"Without copies {self.rows:,} of {self.of:,} training rows would go ({self.rows / self.of:.1%}), "
            f"{self.steps:,} step{'' if self.steps == 1 else 's'} less in {epochs} of batches of {self.batch_size}"
        )

    def content(self) -> dict[str, Any]:
        """The saving as JSON-able data."""
        return vars(self) | {"steps": self.steps, "sentence": self.sentence}
