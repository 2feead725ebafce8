"""Kept rows of data that stay where they are: as items of a map-style data set, a stream, a table or a lazy frame."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from secateur.pipelines.data.lazy import pa, pl
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.files.addresses import is_url, refuse_secret
from secateur.pipelines.files.objects import Upload
from secateur.pipelines.files.whole_files import new_file, refuse_existing
from secateur.pipelines.in_place.contract import Item, Reader, TableReader
from secateur.pipelines.in_place.kept import Kept, Told, seals_of, written

if TYPE_CHECKING:
    from secateur.pipelines.in_place.stream import Stream
    from secateur.selectors.samplers.contract import Shard

HELD = 1 << 28
"""Bytes of kept rows that stay in memory, for formats that cannot read single rows."""
MANY = 3.0
"""Ratio of read bytes to bytes of kept rows from which on an export is better than reading in place."""


class InPlace:
    """Kept rows of data, in the order of the data: a map-style data set for torch's DataLoader.

    `view[i]` is a dict of columns (or members, for WebDataset); `columns` selects some. `weights` are float32
    `[len(view)]` or None. A view holds row numbers and open files; workers of a loader open their own.
    """

    def __init__(self, reader: Reader, kept: Kept, told: Told, columns: Sequence[str] | None = None) -> None:
        self.reader, self.kept, self.told = reader, kept, told
        self.columns = None if columns is None else list(columns)
        if columns is not None and isinstance(reader, TableReader):
            for name in columns:
                if name not in reader.schema.names:
                    raise SourceError(
                        f"{reader.data.folder.address}: there is no column {name!r}; there are "
                        f"{', '.join(map(repr, reader.schema.names))}"
                    )
        self._held: OrderedDict[int, pa.Table] = OrderedDict()

    @classmethod
    def of(cls, reader: Reader, kept: Kept, columns: Sequence[str] | None = None) -> InPlace:
        """Kept rows that are in no file yet."""
        told = {"kind": reader.kind, "data": "", "version": reader.data.version, "shards": (), **kept.of}
        return cls(reader, kept, Told.model_validate(told), columns)

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, place: int) -> Item:
        if not -len(self) <= place < len(self):
            raise IndexError(f"item {place} of {len(self)} kept rows")
        return self.__getitems__([place % len(self)])[0]

    def __getitems__(self, places: Sequence[int]) -> list[Item]:
        """Items at some places, in their order; torch's loader calls it for a batch."""
        wanted = np.asarray(places, np.int64)
        found: list[Item] = [{}] * len(wanted)
        for block in np.unique(blocks := np.searchsorted(self.bounds, wanted, side="right") - 1).tolist():
            mine = np.flatnonzero(blocks == block)
            for place, item in zip(mine.tolist(), self._items(block, wanted[mine]), strict=True):
                found[place] = item
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_held": OrderedDict()}

    @property
    def weights(self) -> np.ndarray | None:
        """Weight of each kept row, float32, or None for equal weights."""
        return self.kept.weights

    @property
    def scores(self) -> Mapping[str, np.ndarray]:
        """Scores of kept rows by name (`score_el2n`), float32; only for a manifest, as a saved file has none."""
        return self.kept.scores

    @property
    def places(self) -> pl.DataFrame:
        """The place of each kept row: `shard`, the name of its file, and `row` in it, from 0."""
        names = pl.Series(list(self.reader.shards), dtype=pl.String)
        return pl.DataFrame({"shard": names.gather(self.kept.shard), "row": self.kept.row})

    @cached_property
    def bounds(self) -> np.ndarray:
        """Starts, among all kept rows, of those of each block that has some, and the end of the last, int64."""
        numbers = np.full(len(self), -1, np.int64)
        for shard, mine in self._by_shard():
            starts = self.reader.blocks(shard)
            numbers[mine] = np.searchsorted(starts, self.kept.row[mine], side="right") - 1
        changes = (np.diff(numbers) != 0) | (np.diff(self.kept.shard) != 0)
        edges = [0, *(np.flatnonzero(changes) + 1).tolist(), *([len(self)] if len(self) else [])]
        return np.array(edges, np.int64)

    def _by_shard(self) -> Iterator[tuple[int, slice]]:
        """Each shard with kept rows, and their slice among all."""
        shards, starts = np.unique(self.kept.shard, return_index=True)
        for shard, (start, stop) in zip(shards.tolist(), pairwise([*starts.tolist(), len(self)]), strict=True):
            yield shard, slice(start, stop)

    def _items(self, block: int, places: np.ndarray) -> Sequence[Item]:
        """Items of one block at places among all kept rows, in any order."""
        if not isinstance(self.reader, TableReader) or self.reader.random:
            order = np.unique(places)
            read = self.read(order)
            return [read[at] for at in np.searchsorted(order, places).tolist()]
        start, stop = self.bounds[block : block + 2].tolist()
        if block not in self._held:
            shard = int(self.kept.shard[start])
            self._held[block] = self.reader.table(shard, self.kept.row[start:stop], self.columns)
            while len(self._held) > 1 and sum(table.nbytes for table in self._held.values()) > HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(block)
        found: list[Item] = self._held[block].take(pa.array(places - start)).to_pylist()
        return found

    def read(self, places: np.ndarray) -> Sequence[Item]:
        """Items at places of one shard, int64 ascending."""
        return self.reader.read(int(self.kept.shard[places[0]]), self.kept.row[places], self.columns)

    def stream(
        self,
        *,
        shuffle: bool = False,
        seed: int = 0,
        shard: Shard | None = None,
        window: int = 4,
    ) -> Stream:
        """The items as an IterableDataset, block after block, divided among processes and workers: see `Stream`."""
        from secateur.pipelines.in_place.stream import Stream

        return Stream(self, shuffle=shuffle, seed=seed, shard=shard, window=window)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Kept rows as Arrow tables, one for each block that holds some; SourceError for data without columns."""
        reader = self._table_reader()
        chosen = self.columns if columns is None else list(columns)
        for start, stop in zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True):
            yield reader.table(int(self.kept.shard[start]), self.kept.row[start:stop], chosen)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All kept rows as an Arrow table, which `to_pandas()` and `polars.from_arrow` take."""
        found = list(self.batches(columns))
        return pa.concat_tables(found, promote_options="permissive") if found else self._schema.empty_table()

    def lazy(self) -> pl.LazyFrame:
        """Kept rows as a lazy frame of polars, which reads the blocks, and the columns, that a query needs."""
        from polars.io.plugins import register_io_source

        def blocks(
            columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _: int | None
        ) -> Iterator[pl.DataFrame]:
            left = len(self) if rows is None else rows
            for table in self.batches(columns):
                frame = pl.DataFrame(pl.from_arrow(table)).head(left)
                left -= frame.height
                yield frame if predicate is None else frame.filter(predicate)
                if left <= 0:
                    return

        empty = pl.DataFrame(pl.from_arrow(self._schema.empty_table()))
        frame: pl.LazyFrame = register_io_source(blocks, schema=empty.schema)
        return frame

    @property
    def _schema(self) -> pa.Schema:
        whole = self._table_reader().schema
        return whole if self.columns is None else pa.schema([whole.field(name) for name in self.columns])

    def _table_reader(self) -> TableReader:
        if not isinstance(self.reader, TableReader):
            raise SourceError(f"{self.reader.kind} has no columns: take items, or a stream of them")
        return self.reader

    def dataset(self) -> Any:
        """Kept rows of a folder that `datasets` saved, as a `datasets.Dataset` over the same memory maps."""
        from secateur.pipelines.in_place.disk import Disk

        if not isinstance(self.reader, Disk):
            raise SourceError(f"data of {self.reader.kind} are no folder that `datasets` saved: take a table, or items")
        rows = self.reader.starts[self.kept.shard] + self.kept.row
        chosen = self.reader.rows_of if self.columns is None else self.reader.rows_of.select_columns(self.columns)
        return chosen.select(
            range(rows[0], rows[-1] + 1) if len(rows) and rows[-1] - rows[0] == len(rows) - 1 else rows
        )

    def add_column(self, name: str, values: np.ndarray | None = None) -> int:
        """Add a column of float32 to a Lance data set, null at rows that are not kept; returns its new version.

        `values`, one for each kept row, default to the score of that name. Raises SourceError for data of another
        format and for an existing column.
        """
        from secateur.pipelines.in_place.lance import Lance

        if not isinstance(self.reader, Lance):
            raise SourceError(f"a column is added to data of Lance alone, and this is {self.reader.kind}")
        if values is None and name not in self.scores:
            raise SourceError(f"there is no score {name!r} of kept rows: {', '.join(self.scores) or 'there is none'}")
        held = np.asarray(self.scores[name] if values is None else values, np.float32)
        if held.shape != (len(self),):
            raise SourceError(f"{name}: one value for each of {len(self)} kept rows is needed, got {list(held.shape)}")
        return self.reader.add_column(name, held, self.reader.starts[self.kept.shard] + self.kept.row)

    @property
    def bytes_read(self) -> tuple[int, int] | None:
        """Bytes of the blocks with kept rows, and the kept rows' part of them; None if the format reads single rows."""
        from secateur.pipelines.in_place.parquet import Parquet

        if not isinstance(self.reader, Parquet):
            return None
        read, own = 0, 0.0
        for shard, mine in self._by_shard():
            starts, sizes = self.reader.blocks(shard), self.reader.sizes(shard)
            rows = np.diff(starts)
            kept = np.diff(np.searchsorted(self.kept.row[mine], starts)) if len(rows) else rows
            read += int(sizes[kept > 0].sum())
            own += float((sizes * kept / np.maximum(rows, 1)).sum())
        return read, round(own)

    @property
    def advice(self) -> str:
        """The alternative where reading in place reads far more than the kept rows; empty where it does not."""
        if not len(self) or (found := self.bytes_read) is None or found[0] <= MANY * max(found[1], 1):
            return ""
        return (
            f"kept rows lie in row groups of {found[0]:,} bytes, {found[0] / max(found[1], 1):.1f} times their own: "
            "where they are read often, write them as parquet"
        )

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path | str:
        """Write the positions of the kept rows, not the rows: at most 8 bytes a row and 64 kB.

        This includes 110 bytes and the name of each shard with kept rows; more than 500 shards with fewer than 25 kept
        rows each may take more. `path` may be a URL. Raises FileExistsError for an existing path, unless `overwrite` is
        set.
        """
        if is_url(path):
            refuse_secret(path)
            with Upload(str(path), overwrite=overwrite) as partial:
                self.write(partial, None)
            return path
        target = Path(path)
        refuse_existing(target, overwrite=overwrite, option="overwrite=True")
        with new_file(target, overwrite=overwrite) as partial:
            self.write(partial, target)
        return target

    def write(self, partial: Path, target: Path | None) -> None:
        """Write the file at a partial name; a path from `target`'s folder leads to the data, None for an object."""
        folder = self.reader.data.folder
        if folder.store is None:
            paths = [Path(folder.at(name).path).resolve() for name in self.reader.shards]
            if target is None:
                raise SourceError(f"{folder.address} are files here: an object cannot say where they are; write a file")
            if target.resolve() in paths:
                raise SourceError(f"{target} is one of the files that rows are kept of: name another")
        shards, besides = seals_of(self.reader, self.kept)
        where = folder.seen_from((target or Path()).absolute().parent)
        told = self.told.model_copy(update={"shards": shards, "besides": besides, "data": where})
        written(self.kept, told, self.reader, partial)

    def __repr__(self) -> str:
        of: Mapping[str, str] = self.kept.of
        said = f", {of['selection']} of {of['dataset']}" if "selection" in of and "dataset" in of else ""
        return f"InPlace({len(self):,} rows of {self.reader.kind} in {self.reader.data.folder.address}{said})"
