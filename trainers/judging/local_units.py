"""The usual distance of a number from its prediction, by rows with similar predictions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

ALIKE = 200
"""Rows per group of similar predictions."""


def local_units(predicted: Float[np.ndarray, " n"], away: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Median distance over about 200 rows with the most similar predictions, at least a tenth of that of all rows."""
    order = np.argsort(predicted, kind="stable")
    groups = np.arange(len(order)) * max(1, len(order) // ALIKE) // len(order)
    starts = np.searchsorted(groups, np.arange(groups[-1] + 1))
    medians = np.array([np.median(part) for part in np.split(away[order], starts[1:])])
    overall = float(np.median(away)) or float(away.mean()) or 1.0
    units = np.empty(len(order))
    units[order] = np.maximum(medians, overall / 10)[groups]
    return units
