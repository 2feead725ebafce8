"""Convert conversations, and pictures in a folder without classes, into tables of texts or pictures.

Rows keep their numbers, so a row of the table is that row of the user's file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from secateur.pipelines.data import types
from secateur.pipelines.data.conversations import as_text, turns_of
from secateur.pipelines.data.profile import Place, files_at, pictures_in
from secateur.pipelines.data.source_kinds.files import SourceError, files_in
from secateur.pipelines.data.source_kinds.jsonl import JsonlFile
from secateur.pipelines.data.source_kinds.parquet import ParquetFile
from secateur.pipelines.data.source_kinds.parts import DatasetSplit, SourceFile
from secateur.pipelines.data.types import series_of
from secateur.pipelines.front_door.held import batches_of

USUAL = ("messages", "conversations", "conversation")
"""Usual names of columns of conversations, which come before other such columns."""


def chats_in(place: Place) -> tuple[list[SourceFile], dict[str, tuple[str, str]]]:
    """The files of a place, and its columns of conversations with the names in a turn; empty without any."""
    if place.kind not in ("jsonl", "parquet", "disk"):
        return [], {}
    files, _ = files_at(place)
    return files, {name: found for name, kind in stored(files[0]).items() if (found := turns_of(kind))}


def stored(file: SourceFile) -> Mapping[str, pa.DataType]:
    """Types of columns as stored in a file."""
    if isinstance(file, JsonlFile):
        return file.stored_types()
    schema = file.footer[0] if isinstance(file, ParquetFile) else file.rows.data.schema  # type: ignore[attr-defined]
    return {field.name: field.type for field in schema}


@dataclass(frozen=True)
class Flat:
    """A place whose conversations are texts, the user's names of files where these differ, and the column.

    Without conversations it is the place unchanged.
    """

    place: Place
    names: tuple[str, ...] = ()
    column: str | None = None


def flattened(place: Place, folder: Path, name: str, wanted: str | None) -> Flat:
    """The place with a column of conversations as texts, one turn a line after its speaker, written below `folder`.

    `wanted` is the column to read; by default the first with a usual name, else the first of all.
    """
    files, chats = chats_in(place)
    usual = [one for one in USUAL if one in chats]
    column = wanted if wanted in chats else next(iter([*usual, *chats]), None)
    if column is None or (wanted != column and wanted in files[0].columns):
        return Flat(place)
    at = folder / f"{name}_chats"
    at.mkdir()
    for number, file in enumerate(files):
        write_texts(file, column, chats[column], at / f"{number:05}.parquet")
    paths = sorted(at.iterdir())
    train = str(paths[0]) if len(paths) == 1 else str(at / "*.parquet")
    return Flat(Place("parquet", train, first=paths[0]), tuple(file.shown(Path.cwd()) for file in files), column)


def chats_in_hand(data: Any, path: Path) -> Path | None:
    """Data in memory with a column of conversations, written as a file; None for other data."""
    kind = type(data).__module__.partition(".")[0]
    if isinstance(data, list) and data and all(isinstance(row, Mapping) for row in data):
        first = data[0]
        if not any(isinstance(value, list) and value and isinstance(value[0], Mapping) for value in first.values()):
            return None
        table = pl.DataFrame(data, infer_schema_length=None)
    elif isinstance(data, pa.Table | pl.DataFrame) or kind == "pandas":
        table = pl.DataFrame(data)
    else:
        return None
    if not any(turns_of(field.type) for field in table.head(0).to_arrow().schema):
        return None
    table.write_parquet(path)
    return path


def write_texts(file: SourceFile, column: str, turn: tuple[str, str], path: Path) -> None:
    """Write a file with one column of conversations as texts, and the other columns that a study can read."""
    kept = [name for name, kind in stored(file).items() if name == column or types.canonical(kind) is not None]
    writer: pq.ParquetWriter | None = None
    first = 0
    for table in tables_of(file):
        texts = as_text(series_of(table[column]), turn, file.name, first).to_arrow().cast(types.TEXT)
        table = table.select(kept)
        table = table.set_column(table.schema.get_field_index(column), column, pa.chunked_array([texts]))
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table.cast(writer.schema))
        first += table.num_rows
    if writer is None:
        raise SourceError(f"{file.name}: no rows")
    writer.close()


def tables_of(file: SourceFile) -> Iterable[pa.Table]:
    """All columns in batches, in their stored types."""
    return file.rows.with_format("arrow").iter(1 << 14) if isinstance(file, DatasetSplit) else batches_of(file)


def listed_pictures(folder: Path, path: Path) -> Path | None:
    """Write a file of the absolute paths, in the order of names, of pictures in a folder without folders of classes;
    None for any other folder.
    """
    inside = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    if any(entry.is_dir() for entry in inside) or any(entry.stem == "metadata" for entry in inside):
        return None
    pictures = set(pictures_in(folder))
    paths = [str(one.absolute()) for one in files_in(folder) if one in pictures]
    if not paths:
        return None
    pl.DataFrame({"image": paths}).write_parquet(path)
    return path
