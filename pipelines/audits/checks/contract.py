"""The contract of an audit's checks: a function that reads the rows and yields odd ones, with the reason.

A check is one decorated function in a file of this folder. It gets the audit's rows and yields `Odd`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64

from secateur.scorers.contract import modules_of

FAR = 3.0
"""Reach beyond the quartiles, in interquartile ranges (far out: Tukey, Exploratory Data Analysis, 1977)."""
Kind = Literal["text", "image", "features"]


@dataclass(frozen=True)
class Odd:
    """Rows that are odd in one way, or a sentence about all of them.

    `says` follows "3 train rows of 90: " where there are rows, and is a whole sentence where there are none. `rows` are
    numbers of the audit, int64 `[m]`, in the order in which people should look at them.
    """

    kind: str
    says: str
    rows: Int64[np.ndarray, " m"] | None = None


Check = Callable[[Any], Iterator[Odd]]
"""A function of `AuditRows`."""
_DECLARED: dict[str, tuple[frozenset[str], Check]] = {}


def check(*kinds: Kind) -> Callable[[Check], Check]:
    """Declare a check of rows of these kinds, or of every kind where none is named."""

    def declare(function: Check) -> Check:
        _DECLARED[function.__name__] = (frozenset(kinds or ("text", "image", "features")), function)
        return function

    return declare


@cache
def checks() -> Mapping[str, tuple[frozenset[str], Check]]:
    """Every check of this folder by name, with the kinds of rows that it reads."""
    for name in modules_of(sys.modules[__package__ or ""]):
        importlib.import_module(name)
    return dict(sorted(_DECLARED.items()))


def fences(values: Float64[np.ndarray, " n"], least: float) -> tuple[float, float]:
    """Lower and upper fence for outliers: three interquartile ranges, each at least `least`, beyond the quartiles."""
    low, high = np.quantile(values, [0.25, 0.75])
    reach = FAR * max(float(high - low), least)
    return float(low) - reach, float(high) + reach
