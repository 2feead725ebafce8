"""What a check of an audit is: a function that looks at the rows and says which of them are odd, and why.

A check is one decorated function in a file of this room. It gets the audit's rows and yields what it finds.
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
"""Spreads between the quartiles that a value may lie beyond them (far out: Tukey, Exploratory Data Analysis, 1977)."""
Kind = Literal["text", "image", "features"]


@dataclass(frozen=True)
class Odd:
    """Rows that are odd in one way, or a sentence about all of them.

    `says` follows "3 train rows of 90: " where there are rows, and is a whole sentence where there are none. `rows` are
    numbers of the audit, int64 `[m]`, in the order that people should look at them.
    """

    kind: str
    says: str
    rows: Int64[np.ndarray, " m"] | None = None


Check = Callable[[Any], Iterator[Odd]]
"""From `AuditRows`."""
_DECLARED: dict[str, tuple[frozenset[str], Check]] = {}


def check(*kinds: Kind) -> Callable[[Check], Check]:
    """Declare a check of rows of these kinds, of every kind where none is named."""

    def declare(function: Check) -> Check:
        _DECLARED[function.__name__] = (frozenset(kinds or ("text", "image", "features")), function)
        return function

    return declare


@cache
def checks() -> Mapping[str, tuple[frozenset[str], Check]]:
    """Every check of this room by name, with the kinds of rows that it reads."""
    for name in modules_of(sys.modules[__package__ or ""]):
        importlib.import_module(name)
    return dict(sorted(_DECLARED.items()))


def fences(values: Float64[np.ndarray, " n"], least: float) -> tuple[float, float]:
    """What lies below the one or above the other is far out of what the values are among themselves: three spreads
    between the quartiles, each at least `least`, beyond the quartiles."""
    low, high = np.quantile(values, [0.25, 0.75])
    reach = FAR * max(float(high - low), least)
    return float(low) - reach, float(high) + reach
