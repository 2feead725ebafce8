"""One pass over a source: rows in batches, typed, hashed, divided among splits, and written in shards.

A shard is an Arrow file with the columns that a study reads and, for each row, `INPUT` and `CONTENT` (its hashes),
`FAULT`, and its place: `FILE` (a place in the list of the source's files) and `ROW` (in that file, from 0). Memory
holds one batch. A scan that was killed goes on behind its last whole shard and writes the same bytes.
"""

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash
from jaxtyping import Bool, Int64, UInt64

from secateur.pipelines.data import types
from secateur.pipelines.data.batch_columns import canonical_json, shortened, with_label_texts
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import (
    BYTES,
    Hashes,
    content_hashes_of,
    encoded_digests,
    hashes_of_pictures,
    input_hashes,
    seen_anew,
    seen_in,
)
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import DatasetSplit, SourceFile, Types, cells_at, with_nulls
from secateur.pipelines.files.whole_files import new_file, write_bytes

if TYPE_CHECKING:
    import datasets

    from secateur.trainers.modalities.seen_pictures import SeenPicture

INPUT, CONTENT, FAULT, FILE, ROW = (f"secateur:{name}" for name in ("input", "content", "fault", "file", "row"))
SHARD_ROWS, SHARD_BYTES = 1 << 18, 1 << 26
"""Rows, or bytes, of the source behind which a shard ends."""
PICTURE_ROWS, PICTURE_BYTES = 1 << 11, 1 << 23
"""Encoded pictures, and their bytes, in one batch of hashing, unless the source's own batches are larger."""
HASH: Final = pa.binary(16)

Divide = Callable[[pa.Table, Hashes], Mapping[str, Bool[np.ndarray, " n"]]]
"""From a batch and its hashes to a mask of its rows for each split."""
Seen = Callable[[pa.ChunkedArray, Hashes], "Sequence[SeenPicture]"]
"""From the cells of pictures and the digests of their files to the decoded pictures."""


@dataclass(frozen=True)
class SplitRows:
    """The rows of a split in shards, in the order of the files."""

    shards: tuple[Path, ...]

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        import pyarrow.dataset  # which loads pandas, too much for a command that only reads studies

        return int(pyarrow.dataset.dataset([str(path) for path in self.shards], format="ipc").count_rows())

    def batches(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of consecutive rows, read from disk and not mapped: memory holds one batch."""
        places = [self.schema.get_field_index(name) for name in names]
        for path in self.shards:
            with pa.OSFile(str(path)) as file:
                reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=places))
                for number in range(reader.num_record_batches):
                    yield pa.Table.from_batches([reader.get_batch(number)]).select(list(names))

    def column(self, name: str) -> pl.Series:
        """One column whole, in memory."""
        parts = [types.series_of(table[name]) for table in self.batches([name])]
        return pl.concat(parts) if parts else pl.Series(name, [])

    def at(self, names: Sequence[str], rows: Int64[np.ndarray, " m"]) -> pl.DataFrame:
        """Some columns of some rows, in ascending order."""
        parts, start, placed = [], 0, 0
        for table in self.batches(names) if len(rows) else ():
            end = int(np.searchsorted(rows, start + table.num_rows))
            parts.append(pl.DataFrame(table.take(pa.array(rows[placed:end] - start))))
            start, placed = start + table.num_rows, end
            if placed == len(rows):
                break
        return pl.concat(parts) if parts else pl.DataFrame({name: [] for name in names})

    def mapped(self, names: Sequence[str], rows: Int64[np.ndarray, " m"]) -> pa.Table:
        """Some columns of a few rows in any order, from memory maps without reading the rest."""
        parts, start, order = [], 0, np.argsort(rows, kind="stable")
        wanted = rows[order]
        for path in self.shards:
            with pa.memory_map(str(path)) as file:
                reader = pa.ipc.open_file(file)
                for number in range(reader.num_record_batches):
                    batch = reader.get_batch(number)
                    here = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, start + batch.num_rows)]
                    if len(here):
                        parts.append(pa.Table.from_batches([batch]).select(list(names)).take(pa.array(here - start)))
                    start += batch.num_rows
        return pa.concat_tables(parts).take(pa.array(np.argsort(order, kind="stable")))

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of the shards."""
        with pa.OSFile(str(self.shards[0])) as file:
            return pa.ipc.open_file(file).schema

    def dataset(self) -> "datasets.Dataset":
        """The study's columns as a memory-mapped data set, pictures undecoded."""
        import datasets

        names = [name for name in self.schema.names if not name.startswith("secateur:")]
        cells = {name: datasets.Image(decode=False) for name in names if self.schema.field(name).type == types.PICTURE}
        features = datasets.Features.from_arrow_schema(pa.schema([self.schema.field(name) for name in names]))
        features.update(cells)
        mapped = [pa.ipc.open_file(pa.memory_map(str(path))).read_all().select(names) for path in self.shards]
        return datasets.Dataset(pa.concat_tables(mapped).cast(features.arrow_schema))

    def kept(self, keep: Bool[np.ndarray, " n"], folder: Path) -> "SplitRows":
        """The rows that a mask keeps, as shards of their own; the same shards where it keeps all."""
        if keep.all():
            return self
        folder.mkdir(parents=True, exist_ok=True)
        start, paths = 0, [folder / f"{place:05}.arrow" for place in range(len(self.shards))]
        for path, target in zip(self.shards, paths, strict=True):
            if target.exists():
                start += len(SplitRows((path,)))
                continue
            with new_file(target, overwrite=True) as partial, pa.OSFile(str(path)) as file:
                reader = pa.ipc.open_file(file)
                with pa.ipc.new_file(str(partial), reader.schema) as writer:
                    for number in range(reader.num_record_batches):
                        batch = reader.get_batch(number)
                        writer.write(batch.filter(pa.array(keep[start : start + batch.num_rows])))
                        start += batch.num_rows
        return SplitRows(tuple(paths))


def rows_in(folder: Path) -> SplitRows:
    """The rows of a split that a study's folder holds."""
    return SplitRows(tuple(sorted(folder.glob("*.arrow"))))


def on_disk(shape: tuple[int, ...], dtype: Any, folder: Path) -> np.ndarray:
    """An array of zeros in a nameless file of a folder; the file vanishes with the array."""
    folder.mkdir(parents=True, exist_ok=True)
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def words_of(values: pa.ChunkedArray) -> Hashes:
    """Hashes of 16 bytes as uint64 `[n, 2]`."""
    parts = [np.frombuffer(chunk.buffers()[1], ">u8", 2 * len(chunk), 16 * chunk.offset) for chunk in values.chunks]
    return np.concatenate([np.zeros(0, ">u8"), *parts]).astype(np.uint64).reshape(-1, 2)


def bytes_of(hashes: Hashes) -> pa.Array:
    """Hashes as an Arrow column of 16 bytes each."""
    return pa.Array.from_buffers(HASH, len(hashes), [None, pa.py_buffer(hashes.astype(">u8", order="C"))])


@dataclass(frozen=True)
class Scan:
    """Files to scan, everything that their shards depend on, and the folder of the shards."""

    files: Sequence[SourceFile]
    wanted: Types
    columns: Columns
    folder: Path
    base: Path
    divide: Divide
    names: Mapping[str, Sequence[str]]
    offset: int = 0
    longest: int | None = None
    limits: tuple[int, int] = field(default_factory=lambda: (SHARD_ROWS, SHARD_BYTES))
    """Rows and bytes behind which a shard ends."""
    alike: str = ""
    """Digest of everything besides the files that decides their rows."""
    seen: Seen = seen_anew
    """Decodes the pictures."""

    @property
    def state(self) -> Path:
        """The file with the progress of the scan."""
        return self.folder / "progress.json"

    def done(self) -> dict[str, Any]:
        """Number of whole shards, the file and row at which each begins, those at which the next one will, and the
        digests that `write_shard` returned."""
        begun = {"shards": 0, "file": 0, "row": 0, "starts": [], "digests": []}
        return dict(json.loads(self.state.read_text())) if self.state.is_file() else begun

    def batches(self, file: int, row: int) -> "Ahead":
        """Batches of all files from a row of one of them on."""
        batches = source_batches(self.files, self.wanted, file, row)
        return Ahead(larger(batches) if self.columns.image is not None else batches)

    def write_shard(self, number: int, batches: "Ahead") -> str:
        """Write one shard of each split that has rows in the next batches, whole or not at all.

        Returns the digest of these rows as the source gives them, an empty text unless `digested`.
        """
        with ExitStack() as stack:
            writers: dict[str, Any] = {}
            total = xxhash.xxh3_128()
            for place, first, table in self.of_shard(batches):
                if self.digested:
                    add_rows(total, table)
                for split, part in self.parts(place, first, table).items():
                    if split not in writers:
                        path = self.folder / f"{split}-{number:05}.arrow"
                        partial = stack.enter_context(new_file(path, overwrite=True))
                        writers[split] = stack.enter_context(pa.ipc.new_file(str(partial), part.schema))
                    writers[split].write_table(part.combine_chunks())  # each chunk would be read by itself
        return total.hexdigest() if self.digested else ""

    def of_shard(self, batches: "Ahead") -> Iterator[tuple[int, int, pa.Table]]:
        """The next batches, up to the end of one shard."""
        rows = size = 0
        while batches.following is not None and not full(rows, size, self.limits):
            rows, size = rows + batches.following[2].num_rows, size + batches.following[2].nbytes
            yield batches.following
            batches.go_on()

    @property
    def digested(self) -> bool:
        """Whether shards get digests of their rows: for a data set, whose files do not tell which rows are new. Rows
        with pictures get none, for their files may lie outside of the data set."""
        return self.columns.image is None and any(isinstance(file, DatasetSplit) for file in self.files)

    def parts(self, place: int, first: int, table: pa.Table) -> dict[str, pa.Table]:
        """The rows of a batch by split; SourceError that names its file."""
        file = self.files[place]
        named = {**self.names, **file.label_names}
        try:
            parts = divided(table, named, self.columns, self.base, place + self.offset, first, self.divide, self.seen)
        except ValueError as error:
            raise SourceError(f"{file.name}: {error}") from error
        if self.longest is None:
            return parts
        return {split: shortened(part, self.columns, self.longest) for split, part in parts.items()}

    def splits(self) -> dict[str, SplitRows]:
        """The shards in the folder, by split."""
        names = {path.name.rpartition("-")[0] for path in self.folder.glob("*-*.arrow")}
        return {name: SplitRows(tuple(sorted(self.folder.glob(f"{name}-*.arrow")))) for name in sorted(names)}


class Ahead:
    """Batches with a view of the next one, `following`: file, first row in it, columns."""

    def __init__(self, batches: Iterator[tuple[int, int, pa.Table]]) -> None:
        self._batches = batches
        self.following = next(batches, None)

    def go_on(self) -> None:
        """Move on to the next batch."""
        self.following = next(self._batches, None)


def add_rows(total: xxhash.xxh3_128, table: pa.Table) -> None:
    """Add the values of a batch to a digest, which does not depend on their layout in memory."""
    fresh = table.take(pa.array(np.arange(len(table)))).combine_chunks()  # a slice may hold values of its neighbours
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(fresh)
    total.update(sink.getvalue())


def full(rows: int, size: int, limits: tuple[int, int]) -> bool:
    """Whether a shard of so many rows and bytes ends."""
    return rows >= limits[0] or size >= limits[1]


def scanned(scan: Scan) -> dict[str, SplitRows]:
    """Shards of every split, below the scan's folder; relative paths of pictures start from its `base`.

    The scan's `names` are class names for label columns of files that hold numbers and no names of their own, its
    `offset` is the number of its first file among all of the source. With `longest` shards hold so many characters of
    each text, and only the paths of pictures: enough to show rows, not to train on them. Raises SourceError.
    """
    scan.folder.mkdir(parents=True, exist_ok=True)
    done = scan.done()
    batches = scan.batches(done["file"], done["row"])
    while batches.following is not None:
        digest = scan.write_shard(done["shards"], batches)
        done["shards"] += 1
        done["starts"].append([done["file"], done["row"]])
        done["digests"].append(digest)
        done["file"], done["row"] = batches.following[:2] if batches.following else (len(scan.files), 0)
        write_bytes(scan.state, json.dumps(done).encode(), overwrite=True)
    return scan.splits()


def source_batches(
    files: Sequence[SourceFile], wanted: Types, file: int, row: int
) -> Iterator[tuple[int, int, pa.Table]]:
    """Batches of all files from a row of one of them on: place of the file, first row, columns."""
    for place in range(file, len(files)):
        for table in files[place].batches(wanted, row):
            if table.num_rows:
                yield place, row, table
                row += table.num_rows
        row = 0


def larger(batches: Iterator[tuple[int, int, pa.Table]]) -> Iterator[tuple[int, int, pa.Table]]:
    """Batches of pictures, joined while they are few and small, since each batch has a fixed cost."""
    held: list[pa.Table] = []
    place = first = 0
    for of, start, table in batches:
        rows, size = sum(map(len, held)) + len(table), sum(part.nbytes for part in held) + table.nbytes
        if held and (of != place or rows > PICTURE_ROWS or size > PICTURE_BYTES):
            yield place, first, pa.concat_tables(held)
            held = []
        if not held:
            place, first = of, start
        held.append(table)
    if held:
        yield place, first, pa.concat_tables(held)


def divided(
    table: pa.Table,
    names: Mapping[str, Sequence[str]],
    columns: Columns,
    base: Path,
    place: int,
    first: int,
    divide: Divide,
    seen: Seen = seen_anew,
) -> dict[str, pa.Table]:
    """The rows of a batch by split, with hashes, faults and places in the files; `names` are class names by column."""
    table, inputs, faults = hashed_inputs(table, columns, base, seen)
    contents = content_hashes_of(inputs, table, columns, names)
    for name in columns.labels:
        table = with_label_texts(table, name, names.get(name))
    rows = table.num_rows
    added = {
        INPUT: bytes_of(inputs),
        CONTENT: bytes_of(contents),
        FAULT: faults.to_arrow().cast(types.TEXT),
        FILE: pa.array(np.full(rows, place, np.int32)),
        ROW: pa.array(np.arange(first, first + rows)),
    }
    for name, values in added.items():
        table = table.append_column(name, values)
    masks = divide(table, inputs)
    return {split: table if mask.all() else table.filter(pa.array(mask)) for split, mask in masks.items() if mask.any()}


def hashed_inputs(
    table: pa.Table, columns: Columns, base: Path, seen: Seen | None = None
) -> tuple[pa.Table, Hashes, pl.Series]:
    """A batch with gaps as null and paths as pictures, the hashes of its inputs, and their faults String `[n]`; with
    pictures the batch also gets the columns `seen_pictures.KEPT`, with `seen` also the digests of files (`BYTES`)."""
    table = with_nulls(table, columns)
    if columns.image is not None and table.schema.field(columns.image).type == types.TEXT:
        cells = cells_at(table[columns.image], base)
        table = table.set_column(table.schema.get_field_index(columns.image), columns.image, cells)
    for name in columns.texts if columns.kind in ("messages", "completion") else ():
        cells = pa.chunked_array([canonical_json(table[name], every=columns.kind == "messages")])
        table = table.set_column(table.schema.get_field_index(name), name, cells)
    if columns.image is None:
        return table, *input_hashes(table, columns)
    from secateur.trainers.modalities.seen_pictures import columns_of

    cells = table[columns.image]
    if seen is None:
        pictures: Sequence[SeenPicture] = list(seen_in(cells))
    else:
        digests = encoded_digests(cells)
        pictures = seen(cells, digests)
        table = table.append_column(BYTES, bytes_of(digests))
    for name, values in columns_of(pictures).items():
        table = table.append_column(name, values)
    return table, *hashes_of_pictures(pictures)


def share_below(keys: UInt64[np.ndarray, " n"], share: float) -> Bool[np.ndarray, " n"]:
    """Mask of the keys, uniform over 64 bits, that are below a share of their range."""
    return keys < np.uint64(min(int(share * 2**64), 2**64 - 1))
