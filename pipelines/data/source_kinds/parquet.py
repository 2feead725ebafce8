"""Parquet files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from secateur.pipelines.data import types
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds import tables
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import ROWS, SourceFile, Types, batch_rows, read_as, typed
from secateur.pipelines.data.source_kinds.tables import TableSource


class Parquet(TableSource):
    """Parquet files."""

    kind: Literal["parquet"]

    def file(self, path: Path, columns: Columns) -> "ParquetFile":
        return ParquetFile(path)


@dataclass(frozen=True)
class ParquetFile(SourceFile):
    """One file, read by row groups; every page is read with its checksum."""

    path: Path

    @property
    def name(self) -> str:  # type: ignore[override]
        return str(self.path)

    @cached_property
    def footer(self) -> tuple[pa.Schema, int]:
        """Schema and rows; SourceError for a file that says of itself that it unpacks to far more than it is."""
        with self._opened() as file:
            groups = [file.metadata.row_group(place) for place in range(file.metadata.num_row_groups)]
            self._refuse(sum(group.total_byte_size for group in groups))
            return file.schema_arrow, file.metadata.num_rows

    @property
    def columns(self) -> Sequence[str]:
        names = self.footer[0].names
        if not self.footer[1]:
            raise SourceError(f"{self.path}: no rows")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise SourceError(f"{self.path}: two columns are called {twice!r}: rename one")
        return list(names)

    @cached_property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:  # type: ignore[override]
        """Of columns that the `datasets` library wrote as ClassLabel."""
        import datasets

        if b"huggingface" not in (self.footer[0].metadata or {}):
            return {}
        features = datasets.Features.from_arrow_schema(self.footer[0])
        named = {name: getattr(getattr(of, "feature", of), "names", None) for name, of in features.items()}
        return {name: tuple(names) for name, names in named.items() if names}

    def types(self, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, pa.DataType]:
        kinds = [self.footer[0].field(name).type for name in names]
        # A run of equal numbers takes no room in the file, whatever its length.
        self._refuse(self.footer[1] * sum(kind.bit_width for kind in kinds if pa.types.is_primitive(kind)) // 8)
        return {name: read_as(self.footer[0].field(name).type, name, self.name, self._column(name)) for name in names}

    def _column(self, name: str) -> Iterator[pa.RecordBatch]:
        with self._opened() as file:
            yield from file.iter_batches(ROWS, columns=[name])

    def batches(self, wanted: Types, start: int = 0) -> Iterator[pa.Table]:
        size = batch_rows(wanted)
        texts = [name for name, kind in wanted.items() if kind == types.TEXT]
        with self._opened(texts) as file:
            first = unpacked = 0
            # From the first row on, whatever the start: batches cross row groups, and must be the same ones again.
            for batch in file.iter_batches(size, columns=list(wanted)):
                row, first = first, first + batch.num_rows
                unpacked += sum(bytes_of(batch[name]) for name in texts)
                self._refuse(unpacked)
                if first > start:
                    table = pa.Table.from_batches([batch.slice(max(0, start - row))])
                    yield typed(table, wanted, self.name, max(row, start))

    def _refuse(self, unpacked: int) -> None:
        """SourceError where that many bytes are far more than the file is."""
        size = self.path.stat().st_size
        if unpacked > max(tables.UNPACKED, tables.RATIO * size):
            raise SourceError(
                f"{self.path}: {size} bytes that unpack to {unpacked} or more, which no study reads: name a part of it"
            )

    @contextmanager
    def _opened(self, texts: Sequence[str] = ()) -> Iterator[pyarrow.parquet.ParquetFile]:
        """The file; columns of texts come as places in a dictionary, so that a long one which recurs is held once."""
        try:
            # Read ahead, row groups would stay in memory until the last.
            with pyarrow.parquet.ParquetFile(
                self.path, page_checksum_verification=True, pre_buffer=False, read_dictionary=list(texts)
            ) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{self.path} is not a readable Parquet file: {' '.join(str(error).split())}") from error


def bytes_of(texts: pa.Array) -> int:
    """Bytes that texts take once each of them stands for itself."""
    if not pa.types.is_dictionary(texts.type):
        return int(texts.nbytes)
    lengths = pc.binary_length(texts.dictionary)
    return int(pc.sum(lengths.take(texts.indices)).as_py() or 0)
