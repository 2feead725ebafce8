"""Lance data sets in place: rows of one version, which Lance reads one by one; a score becomes a column of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from secateur.pipelines.data.lazy import pa
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.files.addresses import Address, Options, folder_of
from secateur.pipelines.in_place.contract import Data, TableReader
from secateur.scorers.lazy import not_installed

ROW_ID = "_rowid"
ROWS = 1 << 16


class Lance(TableReader):
    """A data set of Lance at one of its versions, whose files never change; the fragments are the shards.

    Rows are counted over all fragments without deleted ones, like in `take` of Lance. `_rowid` is a key.
    """

    kind: ClassVar[str] = "lance"

    @classmethod
    def found(cls, data: Address | Sequence[Address], options: Options | None) -> Data | None:
        """A folder that holds `_versions`, at its newest version."""
        if not isinstance(data, str | Path):
            return None
        folder = folder_of(data, options)
        if folder.store is not None:
            if str(data).rstrip("/").endswith(".lance"):
                raise SourceError(f"{folder.address}: Lance is read in place from folders: copy it here first")
            return None
        if not Path(folder.path, "_versions").is_dir():
            return None
        return Data(folder, version=int(_library(folder.address).dataset(folder.path).version))

    @cached_property
    def of_version(self) -> Any:
        """The data set at the version; SourceError where Lance has removed it."""
        try:
            return _library(self.data.folder.address).dataset(self.data.folder.path, version=self.data.version)
        except (ValueError, OSError) as error:
            raise SourceError(
                f"{self.data.folder.address}: version {self.data.version}, of which rows were kept, cannot be read: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error

    @cached_property
    def _fragments(self) -> list[Any]:
        found: list[Any] = self.of_version.get_fragments()
        return found

    @cached_property
    def shards(self) -> Sequence[str]:
        return [f"data/{fragment.data_files()[0].path}" for fragment in self._fragments]

    @cached_property
    def rows(self) -> np.ndarray:
        return np.array([fragment.count_rows() for fragment in self._fragments], np.int64)

    @property
    def besides(self) -> Sequence[str]:
        """Files of columns that were added later, and of deleted rows."""
        added = [f"data/{file.path}" for fragment in self._fragments for file in fragment.data_files()[1:]]
        deleted = [name for fragment in self._fragments if (name := fragment.deletion_file()) is not None]
        return [*added, *deleted]

    @property
    def schema(self) -> pa.Schema:
        found: pa.Schema = self.of_version.schema
        return found

    def table(self, shard: int, rows: np.ndarray, columns: Sequence[str] | None) -> pa.Table:
        places = (self.starts[shard] + rows).tolist()
        found: pa.Table = self.of_version.take(places, columns=None if columns is None else list(columns))
        return found

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        own = [name for name in columns if name != ROW_ID]
        scanner = self.of_version.scanner(
            columns=own, with_row_id=ROW_ID in columns, scan_in_order=True, batch_size=ROWS
        )
        for batch in scanner.to_batches():
            yield pa.Table.from_batches([batch]).select(list(columns))

    def keys(self, name: str) -> Sequence[Any]:
        if name == ROW_ID:
            return [value for table in self.tables([name]) for value in table[name].to_pylist()]
        return super().keys(name)

    def add_column(self, name: str, values: np.ndarray, positions: np.ndarray) -> int:
        """Add a column of float32 with `values` at rows, int64 ascending, and null elsewhere; returns the new version.

        The rows' own files are not changed. Raises SourceError where the data set has the column, or a later version.
        """
        newest = _library(self.data.folder.address).dataset(self.data.folder.path)
        if newest.version != self.data.version:
            raise SourceError(
                f"{self.data.folder.address} is at version {newest.version}, and rows were kept of version "
                f"{self.data.version}: keep rows of it as it is"
            )
        if name in newest.schema.names:
            raise SourceError(f"{self.data.folder.address} has a column {name!r} already: name another")
        schema, count = pa.schema([pa.field(name, pa.float32())]), int(self.starts[-1])

        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, count, ROWS):
                size = min(ROWS, count - start)
                low, high = np.searchsorted(positions, [start, start + size])
                held, missing = np.zeros(size, np.float32), np.ones(size, np.bool_)
                held[positions[low:high] - start] = values[low:high]
                missing[positions[low:high] - start] = False
                yield pa.record_batch([pa.array(held, mask=missing)], schema=schema)

        newest.add_columns(pa.RecordBatchReader.from_batches(schema, batches()))
        return int(_library(self.data.folder.address).dataset(self.data.folder.path).version)


def _library(where: str) -> Any:
    """The package pylance; SourceError where it is not installed."""
    try:
        import lance
    except ImportError as error:
        raise SourceError(f"{where} is a data set of Lance, and {not_installed('pylance', 'lance')}") from error
    return lance
