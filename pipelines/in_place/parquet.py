"""Parquet files in place: of each file only the row groups with kept rows are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from secateur.pipelines.data.lazy import pa, pq
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parquet import ParquetFile
from secateur.pipelines.data.source_kinds.parts import ROWS, SourceFile
from secateur.pipelines.files.addresses import Address, Options, Stored, folder_of, found_files
from secateur.pipelines.in_place.contract import Data, TableReader


class Parquet(TableReader):
    """Files, their row groups the blocks."""

    kind: ClassVar[str] = "parquet"
    random: ClassVar[bool] = False

    @classmethod
    def found(cls, data: Address | Sequence[Address], options: Options | None) -> Data | None:
        """Files that end in .parquet."""
        first = data if isinstance(data, str | Path) else next(iter(data), "")
        folder = folder_of(first, options)
        held = folder.there and folder.names(".parquet")
        if not held and not str(first).partition("?")[0].endswith(".parquet"):
            return None
        root, names = found_files(data, ".parquet", options)
        return Data(root, tuple(names))

    @property
    def shards(self) -> Sequence[str]:
        return self.data.names

    @cached_property
    def _groups(self) -> list[np.ndarray]:
        """Starts of the row groups of each file, and the end of the last."""
        found = []
        for shard in range(len(self.shards)):
            told = self._file(shard).metadata
            sizes = [told.row_group(group).num_rows for group in range(told.num_row_groups)]
            found.append(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
        return found

    @property
    def rows(self) -> np.ndarray:
        return np.array([starts[-1] for starts in self._groups], np.int64)

    def blocks(self, shard: int) -> np.ndarray:
        """Starts of the row groups, and the end of the last."""
        return self._groups[shard]

    def sizes(self, shard: int) -> np.ndarray:
        """Stored bytes of each row group of a file, int64."""
        told = self._file(shard).metadata
        groups = [told.row_group(group) for group in range(told.num_row_groups)]
        return np.array(
            [sum(each.column(place).total_compressed_size for place in range(each.num_columns)) for each in groups],
            np.int64,
        )

    @cached_property
    def schema(self) -> pa.Schema:
        return self._file(0).schema_arrow

    def table(self, shard: int, rows: np.ndarray, columns: Sequence[str] | None) -> pa.Table:
        """Read rows from the row groups that hold them."""
        starts, file = self._groups[shard], self._file(shard)
        groups = np.searchsorted(starts, rows, side="right") - 1
        parts = []
        for group in np.unique(groups).tolist():
            whole = file.read_row_group(group, columns=None if columns is None else list(columns))
            parts.append(whole.take(pa.array(rows[groups == group] - starts[group])))
        return pa.concat_tables(parts) if parts else self.schema.empty_table()

    def as_file(self) -> SourceFile:
        whole = len(self.shards) == 1 and self.data.folder.store is None
        return ParquetFile(Path(self.data.folder.at(self.shards[0]).path)) if whole else super().as_file()

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        for shard in range(len(self.shards)):
            for batch in self._file(shard).iter_batches(ROWS, columns=list(columns)):
                yield pa.Table.from_batches([batch])

    def _file(self, shard: int) -> pq.ParquetFile:
        return self.opened(shard, lambda: self._opened(self.data.folder.at(self.shards[shard])))

    def _opened(self, stored: Stored) -> pq.ParquetFile:
        try:
            source = stored.path if stored.store is None else stored.open()
            return pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(
                f"{stored.name} is not a readable Parquet file: {' '.join(str(error).split())}"
            ) from error
