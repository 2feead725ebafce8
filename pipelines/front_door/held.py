"""A caller's data: a table, a data set, or the path of a file or folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from secateur.pipelines.data.array_files import array_at
from secateur.pipelines.data.codes import codes_of
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.profile import Place, files_at, find_data
from secateur.pipelines.data.source_kinds.csv import CsvFile
from secateur.pipelines.data.source_kinds.files import SourceError, at_hand
from secateur.pipelines.data.source_kinds.parquet import ParquetFile
from secateur.pipelines.data.source_kinds.parts import DatasetSplit, SourceFile, settled_types
from secateur.pipelines.data.types import series_of
from secateur.pipelines.manifests.given import Given, given
from secateur.pipelines.studies.rejections import did_you_mean

BATCH = 1 << 14
SHOWN = 5
"""Most rows in a message."""


@dataclass(frozen=True)
class Held:
    """Rows, in one or several files, whose columns are read on access.

    `take` returns some rows, int64 ascending and counted over all files, in the caller's own type; polars for a path.
    """

    name: str
    files: Sequence[SourceFile]
    take: Callable[[np.ndarray], Any]
    place: Place | None = None
    """The data's place, for a path."""
    items: int | None = None
    """Number of rows, for data in memory."""
    read: dict[str, pl.Series] = field(default_factory=dict)
    """Cache of columns."""

    @cached_property
    def columns(self) -> list[str]:
        """Names of the columns that all files have."""
        first, *others = [list(file.columns) for file in self.files]
        return [name for name in first if all(name in names for names in others)]

    def column(self, name: str, what: str) -> pl.Series:
        """A column; `what` names its use in messages. Raises SourceError where it is missing."""
        name = str(name)  # a column of pandas may be the number 0
        if name not in self.columns:
            near = did_you_mean(name, self.columns)
            raise SourceError(f"{what}: {self.name} has no column {name!r}; {near}there are: {', '.join(self.columns)}")
        if name not in self.read:
            kinds = settled_types(self.files, [name], ())
            chunks = [chunk for file in self.files for table in file.batches(kinds) for chunk in table[name].chunks]
            self.read[name] = series_of(pa.chunked_array(chunks, kinds[name])).rename(name)
        return self.read[name]

    def numbers(self, name: str, what: str) -> np.ndarray:
        """A column of numbers or booleans, int64 or float64 `[n]`; SourceError for other types and for nulls."""
        held = self.column(name, what)
        if held.dtype == pl.Boolean:
            held = held.cast(pl.Int64)
        if not held.dtype.is_numeric():
            long = ", or whole numbers beyond 64 bits" if held.dtype == pl.String else ""
            holds = f"column {name!r} of {self.name} holds {'texts' if long else held.dtype}{long}"
            raise SourceError(f"{what}: {holds}, and numbers are needed")
        self.refuse(held.is_null(), f"{what}: column {name!r}", "empty")
        if held.dtype.is_float():
            self.refuse(~held.is_finite(), f"{what}: column {name!r}", "NaN or infinite")
        return held.to_numpy().astype(np.float64 if held.dtype.is_float() else np.int64, copy=False)

    def codes(self, name: str, what: str) -> tuple[np.ndarray, pl.Series]:
        """Codes of a column's distinct values, int64 `[n]`, and these values in order; SourceError for nulls."""
        held = self.column(name, what)
        self.refuse(held.is_null(), f"{what}: column {name!r}", "empty")
        return codes_of(held)

    def refuse(self, wrong: pl.Series, what: str, fault: str) -> None:
        """Raise SourceError that counts and names the rows of a mask, if it has any."""
        if not (count := int(wrong.sum() or 0)):
            return
        rows = wrong.arg_true()[:SHOWN].to_list()
        named = ", ".join(self.shown(row) for row in rows) + (" …" if count > SHOWN else "")
        raise SourceError(
            f"{what} is {fault} in {count:,} of {len(wrong):,} rows: {named}; fill them, or leave them out"
        )

    def shown(self, row: int) -> str:
        """A row for a message: its number, with its file's name where there are several."""
        if len(self.files) == 1:
            return f"row {row}"
        for file, count in zip(self.files, self.sizes, strict=True):
            if row < count:
                return f"row {row} of {Path(file.name).name}"
            row -= count
        raise IndexError(row)

    @property
    def count(self) -> int:
        """Number of rows of all files."""
        return len(next(iter(self.read.values()))) if self.read else sum(self.sizes)

    @cached_property
    def sizes(self) -> list[int]:
        """Number of rows of each file."""
        return [self.items] if self.items is not None else [rows_of(file) for file in self.files]


def names_of(given: str | int | Sequence[str | int] | None) -> tuple[str, ...]:
    """Columns in a caller's argument: one, several, or none; numbers, which pandas allows, as texts."""
    if given is None:
        return ()
    return (str(given),) if isinstance(given, str | int) else tuple(str(name) for name in given)


def held(data: Any) -> Held:
    """A caller's data: see `select`; raises SourceError for other types."""
    if isinstance(data, str | Path):
        return of_path(at_hand(data))
    hand = in_hand(data, None)
    return Held("the data", [hand.rows], hand.take, items=hand.count)


def in_hand(data: Any, columns: Columns | None) -> Given:
    """Data in memory as columns; raises SourceError, with a remedy, for other types."""
    import datasets

    if isinstance(data, datasets.DatasetDict):
        raise SourceError(f"this is a DatasetDict: give one split of it, such as data[{next(iter(data), 'train')!r}]")
    if isinstance(data, datasets.IterableDataset | datasets.IterableDatasetDict):
        raise SourceError(
            "this is an IterableDataset, whose rows are known one after another: write them to a Parquet file and give "
            "its path, or load them without streaming=True"
        )
    if isinstance(data, Mapping):
        raise SourceError("this is a mapping: give a table of it, such as polars.DataFrame(data), or a list of dicts")
    try:
        return given(data, columns)
    except ValueError as error:
        said = str(error).replace("rows are kept of", "give").replace("Dataset or DatasetDict", "Dataset")
        raise SourceError(said) from error


def of_path(path: Path) -> Held:
    """A file, or a folder of files or one that `datasets` saved; raises SourceError like `find_data`."""
    place = find_data(str(path))
    if place.kind in ("imagefolder", "digits", "diabetes"):
        raise SourceError(f"{path}: pictures in folders are no table; name a file that lists them, or write a study")
    if path.is_file():  # without its neighbours
        place = alone(place, path)
    files, _ = files_at(place)

    return Held(str(path), files, lambda rows: taken(files, rows), place)


def alone(place: Place, path: Path) -> Place:
    """One file of a place, without its neighbours."""
    return replace(place, train=str(path), test=None, first=path, others=())


def taken(files: Sequence[SourceFile], rows: np.ndarray) -> pl.DataFrame:
    """Some rows, int64 ascending and counted over all files, with all columns; for Parquet in the stored types."""
    parts, start = [], 0
    for file in files:
        for table in batches_of(file):
            here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + table.num_rows)]
            parts.append(table.take(pa.array(here - start)))
            start += table.num_rows
    return pl.DataFrame(pl.from_arrow(pa.concat_tables(parts, promote_options="permissive")))


def batches_of(file: SourceFile) -> Iterator[pa.Table]:
    """All columns of a file, batch by batch."""
    if not isinstance(file, ParquetFile):
        yield from file.batches(file.stored_types())
        return
    with pq.ParquetFile(file.path) as opened:
        for batch in opened.iter_batches(BATCH):
            yield pa.Table.from_batches([batch])


def rows_of(file: SourceFile) -> int:
    """Number of rows of a file; SourceError for an empty one."""
    if isinstance(file, ParquetFile | DatasetSplit):
        if not (count := file.footer[1] if isinstance(file, ParquetFile) else len(file.rows)):
            raise SourceError(f"{file.name}: no rows")
        return count
    names = file.columns[:1]
    kinds = file.types(names, texts=names) if isinstance(file, CsvFile) else file.stored_types()
    return sum(table.num_rows for table in file.batches({name: kinds[name] for name in names}))


def vectors_of(rows: Held, given: Any, selector: str) -> np.ndarray:
    """Embeddings float32 `[n, d]`; a `.npy` file is a memory map."""
    if given is None:
        raise ValueError(f"embeddings: selector {selector!r} reads vectors; give an array, a .npy file or a column")
    if isinstance(given, str | Path) and Path(given).suffix == ".npy":
        found = array_at(given, "embeddings")
    elif isinstance(given, str):
        column = rows.column(given, "embeddings")
        lengths = column.list.len().unique() if isinstance(column.dtype, pl.List) else None
        if lengths is None or len(lengths) != 1:
            raise SourceError(f"embeddings: column {given!r} of {rows.name} needs lists of one length")
        found = column.explode().to_numpy().reshape(len(column), -1)
    else:
        found = np.asarray(given)
    if found.ndim != 2 or found.dtype.kind not in "fiu":
        raise ValueError(f"embeddings: numbers [rows, dimensions] are needed, got {found.shape} of {found.dtype}")
    return np.asarray(found.astype(np.float32, copy=False))
