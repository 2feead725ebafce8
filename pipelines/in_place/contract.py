"""The contract of readers of rows in place: one class per format, in the file of its name.

A reader knows the shards of some data (files, or the format's own parts), the number of rows of each, and reads some
rows of a shard. Selection, loaders and checks are the same for every format.
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
"""Rows of a batch made of items."""


@dataclass(frozen=True)
class Data:
    """The place of data: the folder and names of files in it that hold rows, in their order. `version` of Lance."""

    folder: Folder
    names: tuple[str, ...] = ()
    version: int | None = None


class Reader(ABC):
    """Rows of some data; row numbers are those within a shard, from 0."""

    kind: ClassVar[str]
    random: ClassVar[bool] = True
    """Whether reading a single row is cheap; otherwise a block is read whole."""
    key: ClassVar[str] = ""
    """The key in which ids of a manifest are looked up, for data without columns."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self._open: dict[tuple[int, int], Any] = {}

    @classmethod
    @abstractmethod
    def found(cls, data: Address | Sequence[Address], options: Options | None) -> Data | None:
        """The place of the data if they are of this format, else None."""

    @property
    @abstractmethod
    def shards(self) -> Sequence[str]:
        """Names of the files that hold rows, from the data's folder, in their order."""

    @property
    @abstractmethod
    def rows(self) -> np.ndarray:
        """Number of rows of each shard, int64 `[shards]`."""

    @property
    def besides(self) -> Sequence[str]:
        """Names of further files on which the rows depend, such as an index."""
        return ()

    def blocks(self, shard: int) -> np.ndarray:
        """Starts of a shard's blocks, which are read at once, and the end of the last, int64."""
        return np.array([0, self.rows[shard]], np.int64)

    @abstractmethod
    def read(self, shard: int, rows: np.ndarray, columns: Sequence[str] | None) -> Sequence[Item]:
        """Rows of a shard, int64 ascending, with some of their columns, or all for None."""

    @abstractmethod
    def keys(self, name: str) -> Sequence[Any]:
        """Ids of all rows, shard after shard; `name` is a column. Raises SourceError for data without them."""

    def as_file(self) -> SourceFile:
        """All rows as columns, to find kept ones by their content; SourceError for a format without columns."""
        raise SourceError(
            f"{self.data.folder.address}: {self.kind} has no columns to find rows by their content: give the study a "
            f"column of ids (columns: id), which are looked up in {self.key!r}"
        )

    @property
    def starts(self) -> np.ndarray:
        """Start of each shard if all are read one after another, int64 `[shards + 1]`."""
        return np.concatenate([[0], np.cumsum(self.rows)]).astype(np.int64)

    def opened(self, shard: int, anew: Callable[[], Open]) -> Open:
        """This process's open handle of a shard. A forked process shares the position in its parent's files, and would
        move it: each opens its own.
        """
        mine = (os.getpid(), shard)
        if mine not in self._open:
            self._open[mine] = anew()
        found: Open = self._open[mine]
        return found

    def __getstate__(self) -> dict[str, Any]:
        """The state without open files."""
        return {"data": self.data, "_open": {}}


class ItemReader(Reader):
    """A reader of dicts, one for each row, for a format that reads single rows: a thin data set over its reader."""

    @abstractmethod
    def item(self, shard: int, row: int) -> Item:
        """One row from the format's own reader."""

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
    """A reader of columns, which returns Arrow tables."""

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
