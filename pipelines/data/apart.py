"""Rows that a study sets apart from the splits of a source, by their values in some columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Bool

from secateur.pipelines.data import types
from secateur.pipelines.data.source_kinds.contract import check_names
from secateur.pipelines.data.source_kinds.parts import SourceFile, settled_types

APART = "target"
"""The name of these rows in place of a split's."""


@dataclass(frozen=True)
class Apart:
    """Filter: each column of `wanted` must hold one of its values. `besides` are further columns to read."""

    wanted: Mapping[str, Sequence[Any]]
    besides: tuple[str, ...] = ()

    @property
    def read(self) -> list[str]:
        """Columns to read, each once."""
        return list(dict.fromkeys([*self.wanted, *self.besides]))

    def __call__(self, table: pa.Table) -> Bool[np.ndarray, " n"]:
        """Mask of a batch; ValueError for a value that a column of its type cannot hold."""
        mask = np.ones(table.num_rows, np.bool_)
        for name, values in self.wanted.items():
            mask &= same(types.series_of(table[name]), name, values)
        return mask


def same(column: pl.Series, name: str, values: Sequence[Any]) -> Bool[np.ndarray, " n"]:
    """Mask of the rows of a column that hold one of `values`, as a study writes them."""
    if column.dtype == pl.String:
        wanted = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    else:
        wanted = list(values)
        fits = bool if column.dtype == pl.Boolean else (int, float)
        for value in wanted:
            if not isinstance(value, fits) or (isinstance(value, bool) and column.dtype != pl.Boolean):
                raise ValueError(f"target.filter: column {name!r} holds {column.dtype}, and {value!r} is none of these")
    if column.dtype.is_numeric():
        column, wanted = column.cast(pl.Float64), [float(value) for value in wanted]
    return column.is_in(pl.Series(wanted, dtype=column.dtype).implode()).fill_null(False).to_numpy()


def check_apart(files: Sequence[SourceFile], apart: Apart | None) -> None:
    """Raise SourceError where a file lacks a column of the filter."""
    for file in files if apart else ():
        check_names(file.columns, apart.read if apart else (), f"target.filter: {file.name}")


def apart_types(files: Sequence[SourceFile], apart: Apart | None) -> dict[str, pa.DataType]:
    """Types of the columns of the filter; SourceError where a file lacks one."""
    check_apart(files, apart)
    return settled_types(files, apart.read, ()) if apart else {}
