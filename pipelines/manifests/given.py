"""Data in memory that a manifest of rows is applied to: their columns for hashing, and a way to take rows of them."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from secateur.pipelines.data import types
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.parts import (
    PICTURES,
    ROWS,
    DatasetSplit,
    SourceFile,
    Types,
    read_as,
    typed,
)
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.readings import cell_of, picture_of

KINDS = (
    "a datasets.Dataset or DatasetDict, a table of pandas, polars or Arrow, a list of dicts, a map-style torch "
    "Dataset, or the path of a file or folder"
)


@dataclass(frozen=True)
class Given:
    """Data in memory: batches of rows, and a function that takes rows, int64, in order, and keeps the data's type."""

    rows: SourceFile
    take: Callable[[np.ndarray], Any]
    count: int
    """Rows, or items of a torch data set."""


@dataclass(frozen=True)
class Blocks(SourceFile):
    """Rows in memory, or made on reading, as Arrow tables of a bounded size from a given row on."""

    name: str
    held: Sequence[str]
    tables: Callable[[Sequence[str]], Iterator[pa.Table]]

    @property
    def columns(self) -> Sequence[str]:
        return self.held

    @property
    def narrow(self) -> Collection[str]:  # type: ignore[override]
        first = next(self.tables(self.held), None)
        return [] if first is None else [field.name for field in first.schema if pa.types.is_float32(field.type)]

    def types(self, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, pa.DataType]:
        first = next(self.tables(names), None)
        if first is None:
            return dict.fromkeys(names, types.NOTHING)
        kinds = {name: first.schema.field(name).type for name in names}
        return {name: read_as(kind, name, self.name, self.tables([name]), texts) for name, kind in kinds.items()}

    def batches(self, wanted: Types, start: int = 0) -> Iterator[pa.Table]:
        row, texts = 0, [name for name, kind in wanted.items() if kind == types.TEXT]
        for table in self.tables(list(wanted)):
            own = {name: read_as(table.schema.field(name).type, name, self.name, [table], texts) for name in wanted}
            yield typed(table, own, self.name, row)
            row += table.num_rows


def given(target: Any, columns: Columns | None) -> Given:
    """Wrap data in memory; `columns` name the items of a torch data set. Raises ManifestError for other types."""
    import datasets

    kind = type(target).__module__.partition(".")[0]
    if isinstance(target, datasets.Dataset):
        return Given(DatasetSplit("the data", target), target.select, len(target))
    if isinstance(target, pa.Table):
        return Given(_of_arrow(target), lambda rows: target.take(pa.array(rows)), len(target))
    if isinstance(target, pl.DataFrame):
        return Given(_of_series(target.get_columns()), lambda rows: target[rows], len(target))
    if isinstance(target, pl.LazyFrame):
        whole = target.collect()
        return Given(_of_series(whole.get_columns()), lambda rows: whole[rows].lazy(), len(whole))
    if kind == "pandas" and hasattr(target, "iloc") and hasattr(target, "columns"):
        columns_held = [column for _, column in target.items()]
        return Given(_of_series(columns_held), lambda rows: target.iloc[rows], len(target))
    if isinstance(target, list) and all(isinstance(row, Mapping) for row in target):
        return Given(_of_dicts(target), lambda rows: [target[row] for row in rows], len(target))
    if _is_map_style(target):
        from torch.utils.data import Subset

        return Given(_of_items(target, columns), lambda rows: Subset(target, rows.tolist()), len(target))
    raise ManifestError(f"rows are kept of {KINDS}, and this is a {type(target).__name__}")


def _of_arrow(table: pa.Table) -> Blocks:
    if len(set(names := table.column_names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ManifestError(f"two columns are called {twice!r}: rename one")

    def tables(names: Sequence[str]) -> Iterator[pa.Table]:
        chosen = table.select(list(names))
        for start in range(0, chosen.num_rows, ROWS):
            yield chosen.slice(start, ROWS)

    return Blocks("the data", list(table.column_names), tables)


def _of_series(columns: Sequence[Any]) -> SourceFile:
    """Columns of polars or of pandas."""
    named = {str(column.name): column for column in columns}
    if len(named) < len(columns):
        names = [str(column.name) for column in columns]
        twice = next(name for name in names if names.count(name) > 1)
        raise ManifestError(f"two columns are called {twice!r}: rename one")

    def tables(names: Sequence[str]) -> Iterator[pa.Table]:
        yield from _of_arrow(pa.table({name: _array(name, named[name]) for name in names})).tables(names)

    return Blocks("the data", list(named), tables)


def _of_dicts(rows: Sequence[Mapping[str, Any]]) -> SourceFile:
    def tables(names: Sequence[str]) -> Iterator[pa.Table]:
        yield from _of_arrow(pa.table({name: _array(name, [row.get(name) for row in rows]) for name in names})).tables(
            names
        )

    return Blocks("the data", list(dict.fromkeys(name for row in rows for name in row)), tables)


def _array(name: str, values: Any) -> pa.Array:
    """A column as Arrow; whole numbers beyond 64 bits as their texts in a CSV."""
    if isinstance(values, pl.Series) and values.dtype in (pl.Int128, pl.UInt128):
        values = values.cast(pl.String)
    if type(getattr(values, "dtype", None)).__name__ == "SparseDtype":
        values = values.sparse.to_dense()
    try:
        if isinstance(values, pl.Series):
            return values.to_arrow()
        pictures = isinstance(values, list) and any(isinstance(value, dict) for value in values)
        return pa.array(values, types.PICTURE) if pictures else pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        held = list(values)
        if all(value is None or isinstance(value, int | np.integer) for value in held):
            return pa.array([None if value is None else str(value) for value in held])
        known = [None if isinstance(value, float) and np.isnan(value) else value for value in held]
        if all(value is None or isinstance(value, str) for value in known):  # pandas has NaN for a missing text
            return pa.array(known, types.TEXT)
        kinds = sorted({type(value).__name__ for value in held})
        raise ManifestError(f"column {name!r} holds values of the types {', '.join(kinds[:5])}: make it one") from error


def _is_map_style(target: Any) -> bool:
    """Whether it is a torch data set with a length, and items by number."""
    torch = sys.modules.get("torch")
    if torch is None:  # an instance exists only where torch is loaded
        return False
    kinds = torch.utils.data
    iterable = isinstance(target, kinds.IterableDataset)
    return isinstance(target, kinds.Dataset) and hasattr(target, "__len__") and not iterable


def _of_items(target: Any, columns: Columns | None) -> SourceFile:
    """Items of a torch data set: dicts by column, or pairs of an input, or of features in order, and a target."""
    if columns is None:
        return Blocks("the data", (), lambda names: iter(()))
    first = target[0] if len(target) else None
    names = list(first) if isinstance(first, Mapping) else [*columns.inputs, *columns.labels]

    def tables(wanted: Sequence[str]) -> Iterator[pa.Table]:
        size = PICTURES if columns.image is not None else ROWS
        for start in range(0, len(target), size):
            rows = [_item(target[place], columns, place) for place in range(start, min(start + size, len(target)))]
            yield pa.table({name: _array(name, [row.get(name) for row in rows]) for name in wanted})

    return Blocks("the data", names, tables)


def _item(item: Any, columns: Columns, place: int) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return {name: _plain(value, place, name == columns.image) for name, value in item.items()}
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise ManifestError(f"item {place} of the data is no dict of columns and no pair of input and target")
    several = columns.features is not None and len(columns.inputs) > 1
    pictured = columns.image is not None
    inputs = [_plain(part, place) for part in item[0]] if several else [_plain(item[0], place, pictured)]
    targets = list(_plain(item[1], place)) if len(columns.labels) > 1 else [_plain(item[1], place)]
    if len(inputs) != len(columns.inputs) or len(targets) != len(columns.labels):
        raise ManifestError(
            f"item {place} of the data has {len(inputs)} inputs and {len(targets)} targets, and the columns are "
            f"{', '.join(columns.inputs)} and {', '.join(columns.labels)}"
        )
    return dict(zip([*columns.inputs, *columns.labels], [*inputs, *targets], strict=True))


def _plain(value: Any, place: int, pictured: bool = False) -> Any:
    """A value of an item for Arrow: pictures as cells, other tensors and arrays as numbers or lists."""
    if pictured and hasattr(value, "__array__") and not hasattr(value, "getpixel"):
        value = picture_of(np.asarray(value), hasattr(value, "permute"), place)
    if hasattr(value, "save") and hasattr(value, "getpixel"):
        return cell_of(value)
    return value.tolist() if hasattr(value, "tolist") else value
