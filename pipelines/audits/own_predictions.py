"""Predictions of the user's own model for the training rows, in place of the cheap model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from secateur.pipelines.audits.contract import TRAIN, AuditRows
from secateur.pipelines.data.array_files import array_at


def read_predictions(given: Any) -> Float64[np.ndarray, "n width"]:
    """Predictions from an array or a NumPy file (.npy); raises ValueError for anything else."""
    if isinstance(given, str | Path):
        given = array_at(given, "probabilities")
    values = np.asarray(given)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise ValueError(
            f"probabilities: {values.dtype} of shape {list(values.shape)}; give numbers, one row for each row"
        )
    return values.astype(np.float64)


def fit_to(values: Float64[np.ndarray, "n width"], rows: AuditRows) -> None:
    """Raise ValueError for predictions whose shape does not match the audit's training rows and classes."""
    if rows.task is None or rows.targets is None:
        raise ValueError("probabilities: no labels are known that they could be compared with; name the label")
    count, width = len(rows.splits[TRAIN]), rows.task.width
    if len(values) != count:
        raise ValueError(
            f"probabilities: {len(values):,} rows for {count:,} training rows; give one for each, in their order"
        )
    if values.shape[1] != width:
        order = f" ({', '.join(rows.label_names)})" if 0 < len(rows.label_names) <= 20 else ""
        raise ValueError(
            f"probabilities: {values.shape[1]} columns for {width} of the task {rows.task.name}; give one for each, in "
            f"their order{order}"
        )
    bad = ~np.isfinite(values).all(axis=1)
    if rows.task.target != "numbers":
        bad |= (values < 0).any(axis=1) | (values > 1).any(axis=1)
    if rows.task.target == "class":
        bad |= abs(values.sum(axis=1) - 1) > 0.01
    if bad.any():
        sums = " and sum to 1" if rows.task.target == "class" else ""
        what = (
            "are no numbers"
            if rows.task.target == "numbers"
            else f"are no probabilities, which are between 0 and 1{sums}"
        )
        raise ValueError(f"probabilities: values of row {int(bad.argmax())} {what}")
