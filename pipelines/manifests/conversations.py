"""Read a column of conversations as texts, as the audit that wrote a manifest did."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from secateur.pipelines.data import types
from secateur.pipelines.data.conversations import as_text, turns_of
from secateur.pipelines.data.source_kinds.contract import check_names
from secateur.pipelines.data.source_kinds.parquet import ParquetFile
from secateur.pipelines.data.source_kinds.parts import DatasetSplit, SourceFile, Types
from secateur.pipelines.data.types import series_of
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.given import Blocks

BATCH = 1 << 14
"""Rows per read."""


@dataclass(frozen=True)
class Conversations(SourceFile):
    """A file or data in memory whose `column` of lists of turns is read as texts."""

    rows: SourceFile
    column: str
    turn: tuple[str, str]

    @classmethod
    def of(cls, rows: SourceFile, column: str) -> Conversations:
        """Raises SourceError without the column, ManifestError where it holds no conversations."""
        check_names(rows.columns, [column], rows.name)
        first = next(stored(rows, column), None)
        kind = pa.null() if first is None else first.schema.field(column).type
        turn = turns_of(kind)
        if turn is None:
            raise ManifestError(
                f"column {column!r} of {rows.name} holds {kind}, and the manifest was made of conversations: lists of "
                "turns, each with role and content, or from and value"
            )
        return cls(rows, column, turn)

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.rows.name

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:  # type: ignore[override]
        return self.rows.label_names

    @property
    def narrow(self) -> Collection[str]:  # type: ignore[override]
        return self.rows.narrow

    @property
    def columns(self) -> Sequence[str]:
        return self.rows.columns

    def types(self, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, pa.DataType]:
        others = [name for name in names if name != self.column]
        found = self.rows.types(others, texts) if others else {}
        return {name: types.TEXT if name == self.column else found[name] for name in names}

    def batches(self, wanted: Types, start: int = 0) -> Iterator[pa.Table]:
        if start:  # found_rows reads every batch from row 0
            raise ValueError(f"{self.name}: conversations are read from their first row")
        others = {name: kind for name, kind in wanted.items() if name != self.column}
        if len(others) == len(wanted):
            yield from self.rows.batches(wanted)
            return
        texts = self.texts()
        waiting = pl.Series(self.column, [], dtype=pl.String)
        if not others:
            for part in texts:
                yield pa.table({self.column: as_arrow(part)})
            return
        for table in self.rows.batches(others):
            while len(waiting) < table.num_rows:
                waiting = pl.concat([waiting, next(texts)])
            mine, waiting = waiting[: table.num_rows], waiting[table.num_rows :]
            yield table.append_column(self.column, as_arrow(mine)).select(list(wanted))

    def texts(self) -> Iterator[pl.Series]:
        """Conversations as texts, batch by batch; raises SourceError for turns that hold no text."""
        row = 0
        for table in stored(self.rows, self.column):
            yield as_text(series_of(table[self.column]), self.turn, self.name, row).alias(self.column)
            row += table.num_rows


def as_arrow(texts: pl.Series) -> pa.Array:
    """Texts as an Arrow array, like the other columns of a batch."""
    return texts.to_arrow().cast(types.TEXT)


def stored(rows: SourceFile, column: str) -> Iterator[pa.Table]:
    """A column in its stored type, in batches."""
    if isinstance(rows, DatasetSplit):
        yield from rows.rows.select_columns([column]).with_format("arrow").iter(BATCH)
    elif isinstance(rows, Blocks):
        yield from rows.tables([column])
    elif isinstance(rows, ParquetFile):
        with pq.ParquetFile(rows.path) as file:
            for batch in file.iter_batches(BATCH, columns=[column]):
                yield pa.Table.from_batches([batch])
    else:
        yield from rows.batches({column: rows.stored_types()[column]})
