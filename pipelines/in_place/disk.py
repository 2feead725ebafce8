"""Data sets that the `datasets` library saved, in place: rows of their memory maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from secateur.pipelines.data.lazy import pa
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import DatasetSplit, SourceFile
from secateur.pipelines.data.sources import own_manners
from secateur.pipelines.files.addresses import Address, Options, folder_of
from secateur.pipelines.in_place.contract import Data, Item, TableReader

STATE = "state.json"


class Disk(TableReader):
    """A folder of `save_to_disk`, its Arrow files the shards; items are those of `datasets`, pictures decoded."""

    kind: ClassVar[str] = "disk"

    @classmethod
    def found(cls, data: Address | Sequence[Address], options: Options | None) -> Data | None:
        """A folder with a state.json."""
        if not isinstance(data, str | Path) or not (folder := folder_of(data, options)).there:
            return None
        if folder.at("dataset_dict.json").size() is not None:
            raise SourceError(f"{folder.address} holds several splits: name the folder of one, such as {data}/train")
        if folder.at(STATE).size() is None or folder.at("dataset_info.json").size() is None:
            return None
        if folder.store is not None:
            raise SourceError(f"{folder.address}: memory maps are of files: copy the folder here first")
        return Data(folder)

    @cached_property
    def rows_of(self) -> Any:
        """The data set."""
        import datasets

        with own_manners():
            return datasets.load_from_disk(self.data.folder.path)

    @cached_property
    def shards(self) -> Sequence[str]:
        return [Path(cached["filename"]).name for cached in self.rows_of.cache_files]

    @property
    def besides(self) -> Sequence[str]:
        return [STATE, "dataset_info.json"]

    @cached_property
    def rows(self) -> np.ndarray:
        sizes = []
        for name in self.shards:
            with pa.memory_map(str(Path(self.data.folder.path, name))) as file:
                reader = pa.ipc.open_stream(file)
                sizes.append(sum(batch.num_rows for batch in reader))
        return np.array(sizes, np.int64)

    @property
    def schema(self) -> pa.Schema:
        found: pa.Schema = self.rows_of.data.schema
        return found

    def positions(self, shard: int, rows: np.ndarray) -> np.ndarray:
        """Places in the data set of a shard's rows."""
        found: np.ndarray = self.starts[shard] + rows
        return found

    def read(self, shard: int, rows: np.ndarray, columns: Sequence[str] | None) -> Sequence[Item]:
        chosen = self.rows_of if columns is None else self.rows_of.select_columns(list(columns))
        found: list[Item] = chosen.__getitems__(self.positions(shard, rows).tolist())
        return found

    def table(self, shard: int, rows: np.ndarray, columns: Sequence[str] | None) -> pa.Table:
        chosen = self.rows_of if columns is None else self.rows_of.select_columns(list(columns))
        found: pa.Table = chosen.with_format("arrow")[self.positions(shard, rows)]
        return found

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        yield from self.rows_of.select_columns(list(columns)).with_format("arrow").iter(1 << 16)

    def as_file(self) -> SourceFile:
        return DatasetSplit(self.data.folder.address, self.rows_of)
