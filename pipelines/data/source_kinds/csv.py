"""CSV files."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.lazy import arrow_csv, pa, pl, types
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import SourceFile, Types, refuse_rounded
from secateur.pipelines.data.source_kinds.tables import TableSource, bounded
from secateur.trainers.modalities.spellings import marks_of

BLOCK, HEADER = 1 << 24, 1 << 23
"""Bytes of one parsed block, into which a record has to fit, and most bytes of a header."""


class Csv(TableSource):
    """CSV files with a header, also compressed (.csv.gz)."""

    kind: Literal["csv"]
    separator: str = Field(",", min_length=1, max_length=1, description="between the fields")
    charset: str = Field("utf-8", description="encoding of the files, such as latin-1 or cp1252")

    @field_validator("charset")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            return codecs.lookup(value).name
        except LookupError as error:
            raise ValueError(f"no encoding is called {value!r}; usual ones are utf-8, latin-1, cp1252") from error

    def file(self, path: Path, columns: Columns) -> CsvFile:
        return CsvFile(path, self.separator, self.charset, columns.features, columns.labels, columns.missing)


@dataclass(frozen=True)
class CsvFile(SourceFile):
    """One file: texts, until the types of its columns are settled; an empty field is a missing value."""

    path: Path
    separator: str = ","
    charset: str = "utf-8"
    features: Sequence[str] | None = None
    labels: Sequence[str] = ()
    missing: Sequence[str] | Mapping[str, Sequence[str]] | None = None
    """Texts that stand for a missing value in columns of features, by column where they differ."""
    verbatim: bool = False
    """Whether texts keep their spaces, even texts of spaces alone."""

    @staticmethod
    def joined(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
        return types.joined_files(one, other)

    @property
    def name(self) -> str:  # type: ignore[override]
        return str(self.path)

    @cached_property
    def columns(self) -> Sequence[str]:  # type: ignore[override]
        with self._in_one_sentence(), bounded(self.path) as stream:
            head = stream.read(HEADER)
            if len(head) == HEADER and not set(b"\r\n") & set(head):
                raise SourceError(
                    f"{self.path}: the first line, which names the columns, has more than {HEADER >> 20} MiB"
                )
            charset = "utf-8-sig" if self.charset == "utf-8" else self.charset
            lines = io.TextIOWrapper(io.BytesIO(head), charset, newline="")
            names = next((names for names in csv.reader(lines, delimiter=self.separator) if names), [])
        if not names:
            raise SourceError(f"{self.path}: the file is empty; its first line is a header that names the columns")
        # Columns behind a trailing separator have no name, and nobody reads them.
        if twice := next((name for name in names if name and names.count(name) > 1), None):
            raise SourceError(f"{self.path}: the header names column {twice!r} twice: rename one of the two")
        return names

    def types(self, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, pa.DataType]:
        chosen = {name: types.TEXT if name in texts else types.NOTHING for name in names}
        rows = 0
        for table in self._records(names):
            rows += table.num_rows
            for name in names:
                if chosen[name] != types.TEXT:
                    chosen[name] = types.joined_texts(chosen[name], types.type_of_texts(self._texts(table, name)))
        if not rows:
            raise SourceError(f"{self.path}: no rows below the header; leave this file out")
        return chosen

    def batches(self, wanted: Types, start: int = 0) -> Iterator[pa.Table]:
        row = 0
        for table in self._records(list(wanted)):
            first, row = row, row + table.num_rows
            if row > start:
                table, first = table.slice(max(0, start - first)), max(first, start)
                yield pa.table({name: self._values(table, name, kind, first) for name, kind in wanted.items()})

    def _values(self, table: pa.Table, name: str, kind: pa.DataType, first: int) -> pa.Array:
        texts = self._texts(table, name, kind)
        if kind == types.NUMBER:
            refuse_rounded(texts.str.strip_chars().cast(pl.Int64, strict=False), name, self.name, first)
        return types.from_texts(texts, kind).to_arrow().cast(kind)

    def spellings(self, name: str, kind: pa.DataType) -> dict[str, str]:
        from secateur.pipelines.data.identity import label_text

        found: dict[str, str] = {}
        for table in self._records([name]):
            texts = self._texts(table, name).str.strip_chars().drop_nulls().unique(maintain_order=True)
            for text, label in zip(label_text(types.from_texts(texts, kind).to_arrow()), texts, strict=True):
                found.setdefault(text, label)
        return found

    def _texts(self, table: pa.Table, name: str, kind: pa.DataType | None = None) -> pl.Series:
        texts = types.series_of(table[name])
        if self.verbatim and kind == types.TEXT:
            return texts.replace("", None)
        if name in (self.features or ()) or name in self.labels:
            marks = marks_of(self.missing or (), name) if name in (self.features or ()) else ()
            return types.without_missing(texts, marks)
        return texts.replace("", None)

    def _records(self, names: Sequence[str] = ()) -> Iterator[pa.Table]:
        """Fields as texts, in batches."""
        with self._in_one_sentence():
            yield from self._read(names, use_threads=True)

    @contextmanager
    def _in_one_sentence(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
            raise SourceError(f"{self.path}{self._fault(error)}") from error
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error}") from error

    def _read(self, names: Sequence[str], use_threads: bool) -> Iterator[pa.Table]:
        with bounded(self.path) as stream:
            reader = arrow_csv.open_csv(
                stream,
                arrow_csv.ReadOptions(
                    use_threads=use_threads,
                    block_size=BLOCK,
                    encoding=self.charset,
                ),
                arrow_csv.ParseOptions(delimiter=self.separator, newlines_in_values=True),
                arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, types.TEXT),
                    include_columns=list(names),
                    strings_can_be_null=False,
                ),
            )
            for batch in reader:
                yield pa.Table.from_batches([batch])

    def _fault(self, error: Exception) -> str:
        """Place of the fault in a file: the line of a byte outside its encoding, or the record."""
        with bounded(self.path) as stream:
            for number, line in enumerate(io.BufferedReader(stream), start=1):
                try:
                    line.decode(self.charset)
                except UnicodeDecodeError as fault:
                    wide = line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
                    return (
                        f" line {number}: byte 0x{line[fault.start]:02x} is not {self.charset}; write the encoding of "
                        f"the file as source.charset, {'utf-16' if wide else 'for example latin-1 or cp1252'}"
                    )
        try:
            for _ in self._read((), use_threads=False):
                pass
        except pa.ArrowInvalid as located:
            error = located
        return f": {error} (row 1 is the header); quote fields that hold {self.separator!r}"
