"""What reads rows of data where they lie: one class per format, in the file of its name.

A reader knows the shards of some data (files, or what the format has instead), how many rows each has, and gives some
rows of a shard. What is kept, the loaders and the checks are the same for every format.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, TypeVar

import numpy as np

from secateur.pipelines.data.lazy import pa
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import SourceFile
from secateur.pipelines.files.addresses import Address, Folder, Options

Item = Mapping[str, Any]
Open = TypeVar("Open")
ITEMS = 4096
"""Rows of a batch that is made of items."""


@dataclass(frozen=True)
class Data:
    """Where data lie: the folder and names of files in it that hold rows, in their order. `version` of Lance."""

    folder: Folder
    names: tuple[str, ...] = ()
    version: int | None = None


class Reader(ABC):
    """Rows of some data; row numbers are those within a shard, from 0."""

    kind: ClassVar[str]
    random: ClassVar[bool] = True
    """Whether one row costs little to read by itself; otherwise a block is read whole."""
    key: ClassVar[str] = ""
    """What ids of a manifest are looked up in, where the data have no columns."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self._open: dict[tuple[int, int], Any] = {}

    @classmethod
    @abstractmethod
    def found(cls, data: Address | Sequence[Address], options: Options | None) -> Data | None:
        """Where the data lie if they are of this format, else None."""

    @property
    @abstractmethod
    def shards(self) -> Sequence[str]:
        """Names of the files that hold rows, from the data's folder, in their order."""

    @property
    @abstractmethod
    def rows(self) -> np.ndarray:
        """How many rows each shard has, int64 `[shards]`."""

    @property
    def besides(self) -> Sequence[str]:
        """Names of further files without which rows are others, such as an index."""
        return ()

    def blocks(self, shard: int) -> np.ndarray:
        """Where the parts of a shard that are read at once begin, and where the last one ends, int64."""
        return np.array([0, self.rows[shard]], np.int64)

    @abstractmethod
    def read(self, shard: int, rows: np.ndarray, columns: Sequence[str] | None) -> Sequence[Item]:
        """Rows of a shard, int64 ascending, with some of their columns, or all where they are None."""

    @abstractmethod
    def keys(self, name: str) -> Sequence[Any]:
        """Ids of all rows, shard after shard; `name` is a column. Raises SourceError where there are none."""

    def as_file(self) -> SourceFile:
        """All rows as columns, to find kept ones by their content; SourceError where the format has no columns."""
        raise SourceError(
            f"{self.data.folder.address}: {self.kind} has no columns to find rows by their content: give the study a "
            f"column of ids (columns: id), which are looked up in {self.key!r}"
        )

    @property
    def starts(self) -> np.ndarray:
        """Where each shard begins if all are read one after another, int64 `[shards + 1]`."""
        return np.concatenate([[0], np.cumsum(self.rows)]).astype(np.int64)

    def opened(self, shard: int, anew: Callable[[], Open]) -> Open:
        """What this process has open of a shard. One that was forked shares the place in its parent's files, and would
        move it: each opens its own.
        """
        mine = (os.getpid(), shard)
        if mine not in self._open:
            self._open[mine] = anew()
        found: Open = self._open[mine]
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open."""
        return {"data": self.data, "_open": {}}


class ItemReader(Reader):
    """A reader of dicts, one for each row, of a format without a list of rows to read: a thin data set over its own."""

    @abstractmethod
    def item(self, shard: int, row: int) -> Item:
        """One row as the format's own reader gives it."""

    def read(self, shard: int, rows: np.ndarray, columns: Sequence[str] | None) -> Sequence[Item]:
        """See `Reader.read`."""
        items = [self.item(shard, row) for row in rows.tolist()]
        return items if columns is None else [{name: item[name] for name in columns} for item in items]

    def _all(self) -> Iterator[Item]:
        for shard, count in enumerate(self.rows.tolist()):
            for row in range(count):
                yield self.item(shard, row)

    def keys(self, name: str) -> Sequence[Any]:
        """See `Reader.keys`: all rows are read."""
        found = []
        for item in self._all():
            if name not in item:
                raise SourceError(
                    f"{self.data.folder.address}: there is no column {name!r} of ids; there are "
                    f"{', '.join(map(repr, item))}"
                )
            found.append(item[name])
        return found

    def as_file(self) -> SourceFile:
        """See `Reader.as_file`: all rows are read."""
        from secateur.pipelines.manifests.given import Blocks

        def tables(names: Sequence[str]) -> Iterator[pa.Table]:
            items = self._all()
            while some := list(islice(items, ITEMS)):
                yield pa.table({name: pa.array([item[name] for item in some]) for name in names})

        return Blocks(self.data.folder.address, list(next(self._all(), {})), tables)


class TableReader(Reader):
    """A reader of columns, which gives Arrow tables."""

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """Columns of the data."""

    @abstractmethod
    def table(self, shard: int, rows: np.ndarray, columns: Sequence[str] | None) -> pa.Table:
        """See `read`."""

    @abstractmethod
    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of all rows, shard after shard, in batches of a bounded size."""

    def read(self, shard: int, rows: np.ndarray, columns: Sequence[str] | None) -> Sequence[Item]:
        """See `Reader.read`."""
        found: list[Item] = self.table(shard, rows, columns).to_pylist()
        return found

    def keys(self, name: str) -> Sequence[Any]:
        """See `Reader.keys`."""
        if name not in self.schema.names:
            raise SourceError(
                f"{self.data.folder.address}: there is no column {name!r} of ids; there are "
                f"{', '.join(map(repr, self.schema.names))}"
            )
        return [value for table in self.tables([name]) for value in table[name].to_pylist()]

    def as_file(self) -> SourceFile:
        """See `Reader.as_file`."""
        from secateur.pipelines.manifests.given import Blocks

        return Blocks(self.data.folder.address, list(self.schema.names), self.tables)
