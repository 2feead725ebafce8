"""Table columns with little information: constant, nearly constant, mostly missing, or different in every row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from secateur.pipelines.audits.checks.contract import Odd, check
from secateur.pipelines.audits.contract import TRAIN, AuditRows
from secateur.pipelines.data.check import many

ALIKE, MISSING = 0.99, 0.5
"""Least share of rows with one value for a nearly constant column, and of rows without a value for a missing one."""


@check("features")
def odd_columns(rows: AuditRows) -> Iterator[Odd]:
    """Uninformative columns of the training rows."""
    span = rows.span(TRAIN)
    copies = span.stop - span.start - len(np.unique(rows.inputs[span, 1]))
    yield from of_columns(rows.features[span], copies)


def of_columns(features: pl.DataFrame, copies: int = 0) -> Iterator[Odd]:
    """A sentence for each uninformative column; `copies` rows equal others and have no id of their own."""
    height = len(features)
    for column in features.get_columns():
        values = column.fill_nan(None) if column.dtype.is_float() else column
        there = values.drop_nulls()
        missing = height - len(there)
        if missing >= MISSING * height:
            share = "all" if missing == height else f"{missing / height:.0%}"
            yield Odd(
                "mostly missing", f"column {column.name!r} has no value in {share} of the {height:,} training rows"
            )
        if not len(there):
            continue
        common = there.value_counts(sort=True).row(0)
        beside = "" if not missing else f" in every row that has one ({len(there):,} of {height:,})"
        if common[1] == len(there):
            yield Odd("constant", f"column {column.name!r} holds {common[0]!r}{beside or ' in every training row'}")
        elif common[1] >= ALIKE * height:
            other = many(height - common[1], "training row")
            yield Odd("near-constant", f"column {column.name!r} holds {common[0]!r} but in {other} of {height:,}")
        elif not values.dtype.is_float() and height - copies > 1 and values.n_unique() == height - copies:
            but = f" but {many(copies, 'copy', 'copies')}" if copies else ""
            says = f"column {column.name!r} has another value in every training row{but}, as identifiers have"
            yield Odd("identifier", says)
