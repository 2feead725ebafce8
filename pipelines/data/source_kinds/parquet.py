"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.lazy import pa, pc, pl, pq, types
from secateur.pipelines.data.source_kinds import tables
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import ROWS, SourceFile, Types, batch_rows, paths_in, read_as, typed
from secateur.pipelines.data.source_kinds.tables import TableSource

WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "BYTE_ARRAY": 4}
"""Bytes of a value in memory by the stored type; for texts and pictures the bytes of a dictionary index."""

WIDE = 64
"""Mean stored bytes of a text from which on a dictionary would be as large as the texts."""
TOGETHER = 1 << 24
"""Most bytes of batches joined into one."""


class Stored(NamedTuple):
    """Storage of a column in a file.

    Its values, also those within lists, take at least `least` bytes in memory; the file may hold a run of equal ones
    in no space. No value is longer than the `largest` part of a row group. `texts` are paths of texts and pictures to
    read as dictionaries; not those of `wide` texts, whose mean length shows that few can repeat.
    """

    least: int
    largest: int
    texts: list[str]
    listed: bool
    wide: bool


class Parquet(TableSource):
    """Parquet files."""

    kind: Literal["parquet"]

    def file(self, path: Path, columns: Columns) -> ParquetFile:
        return ParquetFile(path)


@dataclass(frozen=True)
class ParquetFile(SourceFile):
    """One file, read by row groups, with a check of every page's checksum."""

    path: Path

    @property
    def name(self) -> str:  # type: ignore[override]
        return str(self.path)

    @cached_property
    def footer(self) -> tuple[pa.Schema, int]:
        """Schema and number of rows; SourceError for a file whose footer declares a far larger unpacked size."""
        with self._opened() as file:
            groups = [file.metadata.row_group(place) for place in range(file.metadata.num_row_groups)]
            self._refuse(sum(group.total_byte_size for group in groups))
            return file.schema_arrow, file.metadata.num_rows

    @cached_property
    def _stored(self) -> Mapping[str, Stored]:
        """Storage of each column."""
        found, place = {}, 0
        with self._opened() as file:
            groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            for field in file.schema_arrow:
                own = range(place, place := place + leaves_of(field.type))
                kinds = {leaf: file.schema.column(leaf) for leaf in own}
                parts = [{leaf: group.column(leaf) for leaf in own} for group in groups]
                widths = {leaf: WIDTHS.get(kind.physical_type, 8) for leaf, kind in kinds.items()}
                texts = [
                    kind.path
                    for kind in kinds.values()
                    if kind.physical_type == "BYTE_ARRAY" and kind.logical_type.type != "DECIMAL"
                ]
                plain = len(kinds) == 1 and bool(texts) and (pa.types.is_string(field.type) or field.type == types.TEXT)
                chunks = [each for part in parts for each in part.values()] if plain else []
                wide = plain and all(each.total_uncompressed_size >= WIDE * each.num_values for each in chunks)
                found[field.name] = Stored(
                    least=sum(each.num_values * widths[leaf] for part in parts for leaf, each in part.items()),
                    largest=max((sum(each.total_uncompressed_size for each in p.values()) for p in parts), default=0),
                    texts=[] if wide or pa.types.is_struct(field.type) else texts,
                    listed=types.is_list(field.type),
                    wide=wide,
                )
        return found

    @property
    def columns(self) -> Sequence[str]:
        names = self.footer[0].names
        if not self.footer[1]:
            raise SourceError(f"{self.path}: no rows; leave this file out")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise SourceError(f"{self.path}: two columns are called {twice!r}: rename one")
        return list(names)

    @cached_property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:  # type: ignore[override]
        """Class names of columns that the `datasets` library wrote as ClassLabel."""
        import datasets

        if b"huggingface" not in (self.footer[0].metadata or {}):
            return {}
        features = datasets.Features.from_arrow_schema(self.footer[0])
        named = {name: getattr(getattr(of, "feature", of), "names", None) for name, of in features.items()}
        return {name: tuple(names) for name, names in named.items() if names}

    def types(self, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, pa.DataType]:
        self._refuse(sum(self._stored[name].least for name in names))
        schema = self.footer[0]
        return {name: read_as(schema.field(name).type, name, self.name, self._column(name), texts) for name in names}

    def picture_paths(self, name: str, base: Path) -> Iterator[pl.Series]:
        kind = self.types([name])[name]
        if kind == types.TEXT:
            yield from super().picture_paths(name, base)
        elif kind == types.PICTURE:
            for group in self.with_outside(name):
                with self._opened() as file:
                    cells = file.read_row_group(group, columns=[name])[name]
                yield paths_in(cells)

    def with_outside(self, name: str) -> list[int]:
        """Row groups with pictures that may lie in files of their own, by the statistics, without reading pictures."""
        with self._opened() as file:
            places = [at for at in range(len(file.schema)) if file.schema.column(at).path == f"{name}.bytes"]
            groups = range(file.metadata.num_row_groups if places else 0)
            told = [file.metadata.row_group(group).column(places[0]).statistics for group in groups]
        return [group for group, known in enumerate(told) if known is None or known.null_count != 0]

    def _column(self, name: str) -> Iterator[pa.RecordBatch]:
        with self._opened() as file:
            yield from file.iter_batches(ROWS, columns=[name])

    def batches(self, wanted: Types, start: int = 0) -> Iterator[pa.Table]:
        stored = {name: self._stored[name] for name in wanted}
        whole = [each.largest for name, each in stored.items() if wanted[name] == types.PICTURE or each.wide]
        # A row group may store a picture, or a text, once for many rows.
        size = min(batch_rows(wanted), max(1, self._limit // max([1, *whole])))
        with self._opened([path for each in stored.values() for path in each.texts]) as file:
            every = list(range(file.metadata.num_row_groups))
            # Dictionaries within lists do not cross row groups.
            apart = any(each.listed and each.texts for each in stored.values())
            groups = [[one] for one in every] if apart else [every]
            parts = (file.iter_batches(size, some, list(wanted)) for some in groups)
            first = unpacked = 0
            # Read from the first row whatever the start: batches cross row groups, and must be the same each time.
            for batches in gathered(chain.from_iterable(parts), batch_rows(wanted)):
                table = pa.Table.from_batches(batches)
                row, first = first, first + table.num_rows
                unpacked += sum(bytes_of(values) for batch in batches for values in batch)
                self._refuse(unpacked)
                if first > start:
                    yield typed(table.slice(max(0, start - row)), wanted, self.name, max(row, start))

    @property
    def _limit(self) -> int:
        """Bytes that the file may unpack to."""
        return max(tables.UNPACKED, tables.RATIO * self.path.stat().st_size)

    def _refuse(self, unpacked: int) -> None:
        """Raise SourceError where that many bytes exceed the file's limit."""
        if unpacked > self._limit:
            size = self.path.stat().st_size
            raise SourceError(
                f"{self.path}: {size} bytes that unpack to {unpacked} or more, which no study reads: name a part of it"
            )

    @contextmanager
    def _opened(self, texts: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
        """The file; texts and pictures at these paths come as dictionaries, which hold a repeated one once."""
        try:
            # With read-ahead, row groups would stay in memory until the last.
            with pq.ParquetFile(
                self.path, page_checksum_verification=True, pre_buffer=False, read_dictionary=list(texts)
            ) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{self.path} is not a readable Parquet file: {' '.join(str(error).split())}") from error


def gathered(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[list[pa.RecordBatch]]:
    """Lists of batches with at least that many rows, or `TOGETHER` bytes: small batches take as long to process as
    large ones."""
    together: list[pa.RecordBatch] = []
    held = size = 0
    for batch in batches:
        together.append(batch)
        held, size = held + batch.num_rows, size + batch.nbytes
        if held >= rows or size >= TOGETHER:
            yield together
            together, held, size = [], 0, 0
    if together:
        yield together


def leaves_of(kind: pa.DataType) -> int:
    """Number of Parquet columns that hold a column of an Arrow type."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return sum(leaves_of(kind.field(place).type) for place in range(kind.num_fields)) or 1


def bytes_of(values: pa.Array) -> int:
    """Bytes of values without a dictionary, those in lists and pictures included."""
    if pa.types.is_struct(values.type):
        return sum(map(bytes_of, values.flatten()))
    if types.is_list(values.type):
        return bytes_of(values.flatten())
    if not pa.types.is_dictionary(values.type):
        return int(values.nbytes)
    lengths = pc.binary_length(values.dictionary)
    return int(pc.sum(lengths.take(values.indices)).as_py() or 0)
