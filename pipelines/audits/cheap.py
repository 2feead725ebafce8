"""The cheap model of an audit: what rows are to it, what it says of labels, and how well it does on the test."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Float, Float32, Float64

from secateur.pipelines.audits.contract import AuditRows

MOST_CATEGORIES = 250
"""Values of a column of texts that are told apart, the commonest."""
NAMES = {
    "text": "logistic regression of TF-IDF",
    "image": "ridge regression of edges and pixels",
    "features": "gradient boosting of the columns",
}
"""What the model is, by what it reads; of texts ridge regression where targets are numbers."""


@dataclass(frozen=True)
class Cheap:
    """Values of rows, and the model that reads them."""

    rows: AuditRows

    @property
    def name(self) -> str:
        """What it is, in words."""
        name = NAMES[self.rows.kind]
        numbers = self.rows.task is not None and self.rows.task.target == "numbers"
        return name.replace("logistic", "ridge") if numbers else name

    @property
    def kind(self) -> Literal["text", "vectors", "features"]:
        """As `cross_fitted` has it."""
        return {"text": "text", "image": "vectors", "features": "features"}[self.rows.kind]  # type: ignore[return-value]

    @cached_property
    def values(self) -> Any:
        """`[n, columns]`, sparse of texts, float32 otherwise."""
        from secateur.trainers.judging.cheap_values import picture_values, text_values

        if self.rows.kind == "text":
            return text_values(self.rows.texts.to_list())
        if self.rows.kind == "image":
            return picture_values(self.rows.seen.thumbnails.pixels)
        return self.columns[0]

    @cached_property
    def columns(self) -> tuple[Float32[np.ndarray, "n d"], list[int]]:
        """Feature columns as numbers, NaN where there is none, and which of them are codes."""
        return coded(self.rows.features)

    @property
    def categories(self) -> list[int]:
        """Columns that are codes."""
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
    """What each row scores, and what that is: whether its class is right, the share of its labels that is, or how far
    numbers are off."""
    if target == "class":
        return (predicted.argmax(axis=1) == targets).astype(np.float64), "accuracy"
    if target == "labels":
        return ((predicted > 0.5) == targets).mean(axis=1).astype(np.float64), "accuracy"
    return np.abs(predicted - targets).mean(axis=1).astype(np.float64), "mean absolute error"
