"""Numbers from a user's file, matched to the rows of the data by id, by content hash, or by row.

A file for other rows raises an error: every row of the data needs one number, every number one row, and a file without
a key must belong to the present revision of the data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from secateur.pipelines.data.array_files import array_at
from secateur.pipelines.data.profile import files_at, find_data
from secateur.pipelines.data.source_kinds.contract import check_names
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import SourceFile, settled_types
from secateur.pipelines.data.types import series_of

SHOWN = 5
"""Rows, or keys, that a message names."""
LARGEST = float(np.finfo(np.float32).max)
"""Largest number: manifests hold 32 bits."""
HASHED = "content_hash"
"""The column that identifies rows in tables that secateur wrote."""


@dataclass(frozen=True)
class DataRows:
    """The rows of the data that need numbers.

    `places` are their places among all `count` rows of the files, int64 `[n]` ascending; `hashes` their content hashes,
    `ids` the values of the study's id column, if it names one; `column` returns a column of the data, None where there
    is none, and `shown` names rows for a message. `revision` is that of the files, `name` their name in messages.
    `every` returns a column of all rows of the files, with rows held or left out; None where it is unknown.
    """

    name: str
    revision: str
    count: int
    places: np.ndarray
    hashes: pl.Series
    ids: pl.Series | None
    id_column: str | None
    column: Callable[[str], pl.Series | None]
    shown: Callable[[np.ndarray, int], str]
    every: Callable[[str], pl.Series | None] = lambda name: None


@dataclass(frozen=True)
class Join:
    """How to match the rows of a file to those of the data: see `places_for`.

    `drop` leaves out rows of the file that match no row of the data. `noted` is the revision of the data at an earlier
    reading of this very file, empty at the first; None where such a note does not suffice to match row by row.
    """

    key: str | None = None
    fingerprint: str | None = None
    drop: bool = False
    noted: str | None = None


Differ = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From two arrays of rows of a file, int64 `[m]` each, to whether their values differ, bool `[m]`."""


@dataclass(frozen=True)
class NumbersFile:
    """A file of numbers: a table (Parquet, CSV, JSON lines), or an array `.npy`."""

    path: Path
    what: str
    """Name of the setting in messages."""

    @property
    def is_array(self) -> bool:
        """Whether it is an array without columns."""
        return self.path.suffix in (".npy", ".safetensors")

    def table(self) -> SourceFile:
        """The file with its reader; raises SourceError where it is unreadable."""
        try:
            place = find_data(str(self.path))
        except SourceError as error:
            raise SourceError(f"{self.what}.file: {error}") from error
        if not self.path.is_file():
            raise SourceError(f"{self.what}.file: {self.path} is a folder; name one file")
        try:
            [[file], _] = files_at(replace(place, train=str(self.path), test=None, first=self.path, others=()))
            file.columns  # noqa: B018 - read from the file, which may be broken
        except SourceError as error:
            raise SourceError(f"{self.what}.file: {error}") from error
        return file

    def array(self) -> np.ndarray:
        """The array; raises SourceError for a file that holds none."""
        return array_at(self.path, f"{self.what}.file")

    def refuse(self, wrong: pl.Series, fault: str) -> None:
        """Raise SourceError that counts and names rows of this file, if the mask has any."""
        if count := int(wrong.sum() or 0):
            rows = ", ".join(map(str, wrong.arg_true()[:SHOWN].to_list())) + (", …" if count > SHOWN else "")
            raise SourceError(
                f"{self.what}: {fault} in {count:,} of {len(wrong):,} rows of {self.path.name}: row {rows}"
            )


def column_of(file: SourceFile, name: str, what: str) -> pl.Series:
    """A column of a table; raises SourceError that lists the columns."""
    check_names(file.columns, [name], f"{what}: {Path(file.name).name}")
    return column_over([file], name)


def column_over(files: Sequence[SourceFile], name: str) -> pl.Series:
    """A column over several files, in the type that they have in common."""
    kinds = settled_types(files, [name], ())
    chunks = [chunk for file in files for table in file.batches(kinds) for chunk in table[name].chunks]
    return series_of(pa.chunked_array(chunks, kinds[name])).rename(name)


def numbers_of_column(name: str, rows: DataRows, what: str) -> np.ndarray:
    """Numbers or booleans of a column of the data, int64 or float64 `[n]`; SourceError for a missing column or another
    type, and for gaps, NaN and infinity, whose rows it counts and names."""
    values = rows.column(name)
    if values is None:
        raise SourceError(f"{what}.column: {rows.name} has no column {name!r}: correct it, or name a file")
    if values.dtype == pl.Boolean:
        values = values.cast(pl.Int64)
    refuse_rows(values.is_null(), f"{what}: column {name!r} is empty", rows)
    if not values.dtype.is_numeric():
        raise SourceError(f"{what}: column {name!r} of {rows.name} holds {values.dtype}, and numbers are needed")
    if values.dtype.is_float():
        wrong = ~(values.abs() <= LARGEST)
        refuse_rows(wrong, f"{what}: column {name!r} is NaN, infinite or beyond {LARGEST:.2g}", rows)
    return values.to_numpy()


def numbers_for(file: NumbersFile, rows: DataRows, join: Join, column: str | None) -> np.ndarray:
    """One number for each row of the data, int64 or float64 `[n]`; see `places_for`.

    Raises SourceError that counts and names rows without a match, gaps, NaN and infinite numbers.
    """
    if file.is_array:
        refuse_names(file, join, column)
        values = finite(file, pl.Series(checked_array(file)))
    else:
        values = finite(file, column_of(file.table(), named(file, column), file.what))
    numbers = values.to_numpy()
    return np.asarray(
        numbers[places_for(file, rows, join, len(numbers), lambda one, other: numbers[one] != numbers[other])]
    )


def named(file: NumbersFile, column: str | None) -> str:
    """The column to read; raises SourceError where the study names none."""
    if column is None:
        raise SourceError(f"{file.what}.column: name the column to read, one of {', '.join(file.table().columns)}")
    return column


def refuse_names(file: NumbersFile, join: Join, column: str | None) -> None:
    """Raise SourceError for names of columns of an array, which has none."""
    if column is not None or join.key is not None:
        raise SourceError(f"{file.what}: {file.path.name} is an array without columns: leave column and key out")


def places_for(file: NumbersFile, rows: DataRows, join: Join, count: int, differ: Differ) -> np.ndarray:
    """The row of a file of `count` rows for each row of the data, int64 `[n]`.

    The study names the key: `content_hash`, a column of the data by the same name, or the data's id column. Without one
    the key is the id column, or `content_hash`, if the file has such a column. Otherwise rows match in order, for which
    the fingerprint must be the revision of the data. `differ` tells which rows of the file hold different values.

    Raises SourceError that counts and names rows without a match.
    """
    table = None if file.is_array else file.table()
    key = join.key or next((name for name in (rows.id_column, HASHED) if table and name in table.columns), None)
    if table is None or key is None:
        refuse_other_data(file, count, rows, join)
        return rows.places
    if join.fingerprint is not None:
        raise SourceError(f"{file.what}.fingerprint: rows are matched by {key!r}: leave it out")
    keys = column_of(table, key, file.what)
    file.refuse(keys.is_null(), f"key {key!r} is empty")
    if key == HASHED and rows.id_column != HASHED:
        return joined(file, keys, rows.hashes, rows, join, differ)
    own = rows.column(key)
    own = rows.ids if own is None else own
    if own is None:
        raise SourceError(
            f"{file.what}.key: the data has no column {key!r}, and columns.id names none: name the column of ids in "
            "the data as columns.id"
        )
    return joined(file, keys, own, rows, join, None)


def checked_array(file: NumbersFile) -> np.ndarray:
    """One number per row; raises SourceError for any other array."""
    found = file.array()
    if found.ndim != 1 or found.dtype.kind not in "fiub":
        raise SourceError(f"{file.what}: {file.path.name} holds {found.dtype} {list(found.shape)}, and one number per "
                          "row is needed")  # fmt: skip
    return found.astype(np.int64) if found.dtype.kind in "iub" else found.astype(np.float64)


def finite(file: NumbersFile, values: pl.Series) -> pl.Series:
    """The same numbers; raises SourceError for other types, and for gaps, NaN and infinity, whose rows it names."""
    if values.dtype == pl.Boolean:
        values = values.cast(pl.Int64)
    name = f"column {values.name!r} is " if values.name else "its number is "
    file.refuse(values.is_null(), f"{name}empty")
    if not values.dtype.is_numeric():
        raise SourceError(f"{file.what}: {name}{values.dtype} in {file.path.name}, and numbers are needed")
    if values.dtype.is_float():
        file.refuse(~(values.abs() <= LARGEST), f"{name}NaN, infinite or beyond {LARGEST:.2g}")
    return values


def refuse_other_data(file: NumbersFile, count: int, rows: DataRows, join: Join) -> None:
    """Raise SourceError unless a file without a key has as many rows as the data, and the user's fingerprint, or the
    note of an earlier reading, has their revision.
    """
    if count != rows.count:
        raise SourceError(f"{file.what}: {file.path.name} has {count:,} rows, and {rows.name} has {rows.count:,}")
    if join.fingerprint is None and join.noted is None:
        raise SourceError(
            f"{file.what}: nothing in {file.path.name} says which row is which: add a column of ids and name it as "
            f"key, or, if its rows are those of {rows.name} in their order, write fingerprint: {rows.revision}"
        )
    if join.fingerprint not in (None, rows.revision):
        raise SourceError(
            f"{file.what}.fingerprint: {file.path.name} was made for other data: {rows.name} has the fingerprint "
            f"{rows.revision} now, and the study says {join.fingerprint}; make it again, and write the new one"
        )
    if join.fingerprint is None and join.noted not in ("", rows.revision):
        raise SourceError(
            f"{file.what}: {rows.name} has changed since {file.path.name} was read, and {file.path.name} has not: make "
            f"it again, or, if its rows still are those of {rows.name}, write fingerprint: {rows.revision}"
        )


def joined(
    file: NumbersFile, keys: pl.Series, own: pl.Series, rows: DataRows, join: Join, differ: Differ | None
) -> np.ndarray:
    """The row of the file for each row of the data, by its key; with `differ` several rows may share a key, on both
    sides, as long as their values are equal."""
    keys, own = comparable(file, keys, own)
    table = pl.DataFrame({"key": keys}).with_row_index("place").with_columns(pl.col("place").cast(pl.Int64))
    firsts = table.unique("key", keep="first", maintain_order=True)
    again = ~keys.is_first_distinct()
    if differ is not None and again.any():
        first = table.join(firsts, on="key", how="left", maintain_order="left")["place_right"].to_numpy()
        again = pl.Series(differ(np.arange(len(keys)), first))
    file.refuse(again, f"key {keys.name!r} is that of an earlier row" + (" with another value" if differ else ""))
    if differ is None:
        refuse_rows(own.is_null(), f"{file.what}: column {own.name!r} is empty", rows)
        refuse_rows(~own.is_first_distinct(), f"{file.what}: {own.name!r} is that of an earlier row", rows)
    found = pl.DataFrame({"key": own}).join(firsts, on="key", how="left", maintain_order="left")["place"]
    if (missing := found.is_null()).any():
        some = ", ".join(map(repr, own.filter(missing)[:SHOWN].to_list()))
        refuse_rows(missing, f"{file.what}: {file.path.name} has no row of key {keys.name!r} ({some})", rows)
    used = np.zeros(len(keys), np.bool_)
    used[found.to_numpy()] = True
    if not join.drop and not used[firsts["place"].to_numpy()].all():
        every = rows.every(own.name)
        known = own if every is None else comparable(file, keys, every.drop_nulls())[1]
        beyond = ~keys.is_in(known.unique().implode())
        some = ", ".join(map(repr, keys.filter(beyond)[:SHOWN].to_list()))
        file.refuse(
            beyond, f"key {keys.name!r} is that of no row of {rows.name} ({some}; unmatched: drop ignores them)"
        )
    return found.to_numpy()


def refuse_rows(wrong: pl.Series, fault: str, rows: DataRows) -> None:
    """Raise SourceError that counts and names rows of the data, if the mask has any."""
    if count := int(wrong.sum() or 0):
        where = rows.shown(wrong.arg_true()[:1000].to_numpy().astype(np.int64), count)
        raise SourceError(f"{fault} for {count:,} of {len(wrong):,} rows of the data, {where}")


def comparable(file: NumbersFile, keys: pl.Series, own: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Keys of both sides as one type: whole numbers, or texts where one side holds texts; SourceError for others."""
    for side, where in ((keys, file.path.name), (own, "the data")):
        if not (side.dtype.is_integer() or side.dtype == pl.String):
            raise SourceError(
                f"{file.what}.key: {side.name!r} of {where} holds {side.dtype}; keys are texts or whole numbers"
            )
    if keys.dtype.is_integer() and own.dtype.is_integer():
        return keys.cast(pl.Int64), own.cast(pl.Int64)
    return keys.cast(pl.String), own.cast(pl.String)
