"""Data in hand that a manifest of rows is applied to: as columns to hash, and as what gives the same kind back."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from secateur.pipelines.data import types
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import Hashes, content_hashes_of, hex_of, input_hashes, label_text
from secateur.pipelines.data.scan import cells_at
from secateur.pipelines.data.source_kinds.contract import check_names
from secateur.pipelines.data.source_kinds.parts import (
    PICTURES,
    ROWS,
    DatasetSplit,
    SourceFile,
    Types,
    needed,
    read_as,
    typed,
    with_nulls,
)
from secateur.pipelines.data.types import series_of
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.origin import Origin

KINDS = (
    "a datasets.Dataset or DatasetDict, a table of pandas, polars or Arrow, a list of dicts, a map-style torch "
    "Dataset, or the path of a file or folder"
)


@dataclass(frozen=True)
class Given:
    """Data in hand: its rows in batches, and what takes some of them, int64 ascending, in the data's own kind."""

    rows: SourceFile
    take: Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Blocks(SourceFile):
    """Rows that are in memory or are made as they are read, as Arrow tables of a bounded size from a row on."""

    name: str
    held: Sequence[str]
    tables: Callable[[Sequence[str]], Iterator[pa.Table]]

    @property
    def columns(self) -> Sequence[str]:
        return self.held

    def types(self, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, pa.DataType]:
        first = next(self.tables(names), None)
        if first is None:
            return dict.fromkeys(names, types.NOTHING)
        return {name: read_as(first.schema.field(name).type, name, self.name, self.tables([name])) for name in names}

    def batches(self, wanted: Types, start: int = 0) -> Iterator[pa.Table]:
        row = 0
        for table in self.tables(list(wanted)):
            own = {name: read_as(table.schema.field(name).type, name, self.name, [table]) for name in wanted}
            yield typed(table, own, self.name, row)
            row += table.num_rows


def given(target: Any, columns: Columns | None) -> Given:
    """Data in hand; `columns` say what items of a torch data set are. Raises ManifestError for anything else."""
    import datasets

    kind = type(target).__module__.partition(".")[0]
    if isinstance(target, datasets.Dataset):
        return Given(DatasetSplit("the data", target), target.select)
    if isinstance(target, pa.Table):
        return Given(_of_arrow(target), lambda rows: target.take(pa.array(rows)))
    if isinstance(target, pl.DataFrame):
        return Given(_of_arrow(target.to_arrow()), lambda rows: target[rows])
    if isinstance(target, pl.LazyFrame):
        whole = target.collect()
        return Given(_of_arrow(whole.to_arrow()), lambda rows: whole[rows].lazy())
    if kind == "pandas" and hasattr(target, "iloc") and hasattr(target, "columns"):
        return Given(_of_pandas(target), lambda rows: target.iloc[rows])
    if isinstance(target, list) and all(isinstance(row, Mapping) for row in target):
        return Given(_of_dicts(target), lambda rows: [target[row] for row in rows])
    if _is_map_style(target):
        from torch.utils.data import Subset

        return Given(_of_items(target, columns), lambda rows: Subset(target, rows.tolist()))
    raise ManifestError(f"rows are kept of {KINDS}, and this is a {type(target).__name__}")


def _of_arrow(table: pa.Table) -> SourceFile:
    def tables(names: Sequence[str]) -> Iterator[pa.Table]:
        chosen = table.select(list(names))
        for start in range(0, chosen.num_rows, ROWS):
            yield chosen.slice(start, ROWS)

    return Blocks("the data", list(table.column_names), tables)


def _of_pandas(table: Any) -> SourceFile:
    def tables(names: Sequence[str]) -> Iterator[pa.Table]:
        whole = pa.Table.from_pandas(table[list(names)], preserve_index=False)
        yield from _of_arrow(whole).batches({name: whole.schema.field(name).type for name in names})

    return Blocks("the data", [str(name) for name in table.columns], tables)


def _of_dicts(rows: Sequence[Mapping[str, Any]]) -> SourceFile:
    def tables(names: Sequence[str]) -> Iterator[pa.Table]:
        whole = {name: pa.array([row.get(name) for row in rows]) for name in names}
        yield from _of_arrow(pa.table(whole)).batches({name: values.type for name, values in whole.items()})

    return Blocks("the data", list(dict.fromkeys(name for row in rows for name in row)), tables)


def _is_map_style(target: Any) -> bool:
    """Whether it is a torch data set with a length, and items by number."""
    torch = sys.modules.get("torch")
    if torch is None:  # who holds a torch data set has loaded it
        return False
    kinds = torch.utils.data
    iterable = isinstance(target, kinds.IterableDataset)
    return isinstance(target, kinds.Dataset) and hasattr(target, "__len__") and not iterable


def _of_items(target: Any, columns: Columns | None) -> SourceFile:
    """Items of a torch data set: dicts by column, or pairs of an input, or of features in their order, and a target."""
    if columns is None:
        return Blocks("the data", (), lambda names: iter(()))
    first = target[0] if len(target) else None
    names = list(first) if isinstance(first, Mapping) else [*columns.inputs, *columns.labels]

    def tables(wanted: Sequence[str]) -> Iterator[pa.Table]:
        size = PICTURES if columns.image is not None else ROWS
        for start in range(0, len(target), size):
            rows = [_item(target[place], columns, place) for place in range(start, min(start + size, len(target)))]
            yield pa.table({name: _array([row.get(name) for row in rows]) for name in wanted})

    return Blocks("the data", names, tables)


def _array(values: list[Any]) -> pa.Array:
    pictures = any(isinstance(value, dict) for value in values)
    return pa.array(values, types.PICTURE) if pictures else pa.array(values)


def _item(item: Any, columns: Columns, place: int) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return {name: _plain(value) for name, value in item.items()}
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise ManifestError(f"item {place} of the data is no dict of columns and no pair of input and target")
    several = columns.features is not None and len(columns.inputs) > 1
    inputs = [_plain(part) for part in item[0]] if several else [_plain(item[0])]
    targets = list(_plain(item[1])) if len(columns.labels) > 1 else [_plain(item[1])]
    if len(inputs) != len(columns.inputs) or len(targets) != len(columns.labels):
        raise ManifestError(
            f"item {place} of the data has {len(inputs)} inputs and {len(targets)} targets, and the columns are "
            f"{', '.join(columns.inputs)} and {', '.join(columns.labels)}"
        )
    return dict(zip([*columns.inputs, *columns.labels], [*inputs, *targets], strict=True))


def _plain(value: Any) -> Any:
    """A value of an item as Arrow takes it: pictures as cells, tensors and arrays as numbers or lists."""
    if hasattr(value, "save") and hasattr(value, "getpixel"):
        import io

        file = io.BytesIO()
        value.save(file, "PNG" if value.mode in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA") else "TIFF")
        return {"bytes": file.getvalue(), "path": None}
    return value.tolist() if hasattr(value, "tolist") else value


@dataclass(frozen=True)
class HashedRows:
    """Hashes of inputs, uint64 `[n, 2]`, and labels of data in hand, from which content hashes are made.

    Labels may stand there in another form than in the source's files: numbers for the names that the study or the data
    has for them. `contents` gives the hashes of one form after another, the data's own first.
    """

    inputs: Hashes
    labels: pa.Table
    columns: Columns
    own_names: Mapping[str, tuple[str, ...]]
    label_names: Sequence[str]
    fault: str = ""
    """Why the first input that cannot be read cannot."""

    def contents(self) -> Iterator[pl.Series]:
        """Content hashes, String `[n]`, of each form that labels may have."""
        yield self._hashes(self.labels, self.own_names)
        name = self.columns.labels[0] if self.columns.labels else None
        if self.columns.target not in (None, "class") or name is None:
            return
        values = self.labels[name]
        if self.label_names and pa.types.is_integer(values.type):
            yield self._hashes(self.labels, {name: tuple(self.label_names)})
        names = self.own_names.get(name) if pa.types.is_integer(values.type) else self.label_names
        if names and pa.types.is_integer(values.type):
            yield self._hashes(self.labels, {})
        elif names:
            numbers = label_text(values).replace_strict(
                {text: str(number) for number, text in enumerate(names)}, default=None, return_dtype=pl.String
            )
            yield self._hashes(pa.table({name: numbers.to_arrow()}), {})

    def _hashes(self, labels: pa.Table, names: Mapping[str, Sequence[str]]) -> pl.Series:
        return series_of(hex_of(content_hashes_of(self.inputs, labels, self.columns, names)))


def hashed(rows: SourceFile, columns: Columns, origin: Origin, folder: Path) -> HashedRows:
    """Hash data in hand as the source's files were, in batches; relative paths of pictures start from `folder`.

    Texts are read as the types that the manifest says, so that a CSV whose fields are all texts is what it was. Raises
    SourceError for columns that are not there, ManifestError for values of another type.
    """
    names = [*columns.inputs, *columns.labels]
    check_names(rows.columns, names, rows.name)
    told = {name: kind for name, kind in origin.kinds.items() if name in names}
    held = rows.types(names, [name for name, kind in told.items() if kind == types.TEXT])
    inputs, labels, faults = [np.zeros((0, 2), np.uint64)], [], list[str]()
    for table in rows.batches(held):
        read = _as_told(table, told, columns)
        if columns.image is not None and read.schema.field(columns.image).type == types.TEXT:
            cells = cells_at(read[columns.image], folder)
            read = read.set_column(read.schema.get_field_index(columns.image), columns.image, cells)
        read = with_nulls(read, columns)
        hashes, wrong = input_hashes(read, columns)
        inputs.append(hashes)
        labels.append(read.select(list(dict.fromkeys(columns.labels))))
        faults += wrong.drop_nulls().head(1).to_list()
    empty = pa.table({name: pa.array([], types.TEXT) for name in columns.labels})
    together = pa.concat_tables(labels, promote_options="permissive") if labels else empty
    own = rows.label_names
    return HashedRows(np.concatenate(inputs), together, columns, own, origin.label_names, next(iter(faults), ""))


def _as_told(table: pa.Table, told: Types, columns: Columns) -> pa.Table:
    """Texts as the values that they stood for in the source; labels may be names of what were numbers there."""
    for name, kind in told.items():
        place = table.schema.get_field_index(name)
        if table.schema.field(place).type != types.TEXT or kind not in (types.BOOLEAN, types.INTEGER, types.NUMBER):
            continue
        texts = types.without_missing(series_of(table[name]), ())
        try:
            values = types.from_texts(texts, kind)
        except (pl.exceptions.PolarsError, ValueError) as error:
            if name in columns.labels:
                continue
            raise ManifestError(f"column {name!r} holds texts that are no {types.shown_type(kind)}") from error
        table = table.set_column(place, name, values.to_arrow().cast(kind))
    return table


def unlike(rows: SourceFile, columns: Columns, origin: Origin) -> str:
    """What to say of columns that hold other types than in the source's files; empty where none does."""
    told = origin.kinds
    for name in needed(columns):
        if name in told and name in rows.columns:
            held = rows.types([name], [name] if told[name] == types.TEXT else [])[name]
            if types.joined(held, told[name]) is None and types.PICTURE not in (held, told[name]):
                return (
                    f"; column {name!r} holds {types.shown_type(held)} here and {types.shown_type(told[name])} there: "
                    "read it as that"
                )
    return ""
