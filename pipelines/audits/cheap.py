"""The cheap model of an audit: its inputs from the rows, and the score of its predictions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Float, Float32, Float64

from secateur.pipelines.audits.contract import AuditRows

MOST_CATEGORIES = 250
"""Most values of a text column with a code of their own, the commonest; the others share one code."""
NAMES = {
    "text": "logistic regression of TF-IDF",
    "image": "ridge regression of edges and pixels",
    "features": "gradient boosting of the columns",
}
"""Description of the model by the kind of rows; for targets that are numbers, ridge replaces logistic regression."""


@dataclass(frozen=True)
class Cheap:
    """The cheap model's inputs, made from rows, and its description."""

    rows: AuditRows

    @property
    def name(self) -> str:
        """The model, in words."""
        name = NAMES[self.rows.kind]
        numbers = self.rows.task is not None and self.rows.task.target == "numbers"
        return name.replace("logistic", "ridge") if numbers else name

    @property
    def kind(self) -> Literal["text", "vectors", "features"]:
        """The kind of inputs for `cross_fitted`."""
        return {"text": "text", "image": "vectors", "features": "features"}[self.rows.kind]  # type: ignore[return-value]

    @cached_property
    def values(self) -> Any:
        """Inputs `[n, columns]`, sparse for texts, float32 otherwise."""
        from secateur.trainers.judging.cheap_values import picture_values, text_values

        if self.rows.kind == "text":
            return text_values(self.rows.texts.to_list())
        if self.rows.kind == "image":
            return picture_values(self.rows.seen.thumbnails.pixels)
        return self.columns[0]

    @cached_property
    def columns(self) -> tuple[Float32[np.ndarray, "n d"], list[int]]:
        """Feature columns as numbers, NaN for missing values, and the places of columns of codes."""
        return coded(self.rows.features)

    @property
    def categories(self) -> list[int]:
        """Places of columns of codes."""
        return self.columns[1] if self.rows.kind == "features" else []


def coded(features: pl.DataFrame) -> tuple[Float32[np.ndarray, "n d"], list[int]]:
    """Columns as float32, texts as codes of their commonest values, 0 for the most frequent; missing ones as NaN."""
    columns, categories = [], []
    for place, column in enumerate(features.get_columns()):
        if column.dtype == pl.String or column.dtype == pl.Null:
            categories.append(place)
            common = column.drop_nulls().value_counts(sort=True).to_series().head(MOST_CATEGORIES)
            codes = {value: float(code) for code, value in enumerate(common)}
            column = column.replace_strict(codes, default=float(len(codes)), return_dtype=pl.Float32)
            column = column.zip_with(features.to_series(place).is_not_null(), pl.Series([None], dtype=pl.Float32))
        columns.append(column.cast(pl.Float32).fill_null(np.nan).to_numpy())
    return np.stack(columns, axis=1).astype(np.float32), categories


def right(
    predicted: Float[np.ndarray, "m width"], targets: np.ndarray, target: str
) -> tuple[Float64[np.ndarray, " m"], str]:
    """The score of each row, and its name: whether the class is right, the share of right labels, or the absolute error
    of numbers.
    """
    if target == "class":
        return (predicted.argmax(axis=1) == targets).astype(np.float64), "accuracy"
    if target == "labels":
        return ((predicted > 0.5) == targets).mean(axis=1).astype(np.float64), "accuracy"
    return np.abs(predicted - targets).mean(axis=1).astype(np.float64), "mean absolute error"
