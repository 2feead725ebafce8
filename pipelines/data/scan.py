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
from jaxtyping import Bool, Int64, UInt64

from secateur.pipelines.data import types
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import (
    Hashes,
    content_hashes_of,
    hashes_of_pictures,
    input_hashes,
    label_text,
    seen_in,
)
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import SourceFile, Types, cells_at, with_nulls
from secateur.pipelines.files.whole_files import new_file, write_bytes
from secateur.trainers.modalities.rendering import holds_messages

if TYPE_CHECKING:
    import datasets

INPUT, CONTENT, FAULT, FILE, ROW = (f"secateur:{name}" for name in ("input", "content", "fault", "file", "row"))
SHARD_ROWS, SHARD_BYTES = 1 << 18, 1 << 26
"""Rows, or bytes, of the source behind which a shard ends."""
PICTURE_ROWS, PICTURE_BYTES = 1 << 11, 1 << 23
"""Encoded pictures, and their bytes, in one batch of hashing, unless the source's own batches are larger."""
HASH: Final = pa.binary(16)

Divide = Callable[[pa.Table, Hashes], Mapping[str, Bool[np.ndarray, " n"]]]
"""From a batch and its hashes to a mask of its rows for each split."""


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

    @property
    def state(self) -> Path:
        """The file with the progress of the scan."""
        return self.folder / "progress.json"

    def done(self) -> dict[str, Any]:
        """Number of whole shards, the file and row at which each begins, and those at which the next one will."""
        begun = {"shards": 0, "file": 0, "row": 0, "starts": []}
        return dict(json.loads(self.state.read_text())) if self.state.is_file() else begun

    def batches(self, file: int, row: int) -> "Ahead":
        """Batches of all files from a row of one of them on."""
        batches = source_batches(self.files, self.wanted, file, row)
        return Ahead(larger(batches) if self.columns.image is not None else batches)

    def write_shard(self, number: int, batches: "Ahead") -> None:
        """Write one shard of each split that has rows in the next batches, whole or not at all."""
        with ExitStack() as stack:
            writers: dict[str, Any] = {}
            rows = size = 0
            while batches.following is not None and not full(rows, size, self.limits):
                place, first, table = batches.following
                rows, size = rows + table.num_rows, size + table.nbytes
                for split, part in self.parts(place, first, table).items():
                    if split not in writers:
                        path = self.folder / f"{split}-{number:05}.arrow"
                        partial = stack.enter_context(new_file(path, overwrite=True))
                        writers[split] = stack.enter_context(pa.ipc.new_file(str(partial), part.schema))
                    writers[split].write_table(part.combine_chunks())  # each chunk would be read by itself
                batches.go_on()

    def parts(self, place: int, first: int, table: pa.Table) -> dict[str, pa.Table]:
        """The rows of a batch by split; SourceError that names its file."""
        file = self.files[place]
        named = {**self.names, **file.label_names}
        try:
            parts = divided(table, named, self.columns, self.base, place + self.offset, first, self.divide)
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
        scan.write_shard(done["shards"], batches)
        done["shards"] += 1
        done["starts"].append([done["file"], done["row"]])
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
) -> dict[str, pa.Table]:
    """The rows of a batch by split, with hashes, faults and places in the files; `names` are class names by column."""
    table, inputs, faults = hashed_inputs(table, columns, base)
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


def shortened(table: pa.Table, columns: Columns, longest: int) -> pa.Table:
    """A batch with the beginnings of its texts, and pictures without their bytes."""
    if columns.kind in ("text", "completion"):
        import pyarrow.compute as pc  # its import takes a tenth of a second

        for name in columns.texts:
            if columns.kind == "completion" and any(map(holds_messages, filter(None, table[name].to_pylist()))):
                continue  # a cut list of messages is no JSON
            cut = pc.utf8_slice_codeunits(table[name], 0, longest)
            table = table.set_column(table.schema.get_field_index(name), name, cut)
    if columns.image is not None:
        cells = table[columns.image].combine_chunks()
        empty = pa.nulls(len(cells), pa.binary())
        cut = pa.StructArray.from_arrays([empty, cells.field("path")], fields=list(types.PICTURE))
        table = table.set_column(table.schema.get_field_index(columns.image), columns.image, cut)
        from secateur.trainers.modalities.seen_pictures import KEPT

        table = table.drop_columns(list(KEPT))
    return table


def hashed_inputs(table: pa.Table, columns: Columns, base: Path) -> tuple[pa.Table, Hashes, pl.Series]:
    """A batch with gaps as null and paths as pictures, the hashes of its inputs, and their faults String `[n]`; with
    pictures the batch also gets the columns `seen_pictures.KEPT`."""
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

    pictures = list(seen_in(table[columns.image]))
    for name, values in columns_of(pictures).items():
        table = table.append_column(name, values)
    return table, *hashes_of_pictures(pictures)


def canonical_json(cells: pa.ChunkedArray, *, every: bool) -> pa.Array:
    """Conversations in one spelling, whether a file holds lists or their JSON: sorted keys, without null values.

    Unless `every` cell is one, cells of prompts and completions that hold no messages stay unchanged.
    """

    def spelled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spelled(value[key]) for key in sorted(value) if value[key] is not None}
        return [spelled(one) for one in value] if isinstance(value, list) else value

    def one(cell: str | None) -> str | None:
        try:
            other = cell is None or not (every or holds_messages(cell))
            return cell if other or not cell else json.dumps(spelled(json.loads(cell)), ensure_ascii=False)
        except ValueError:  # no JSON: the encoder raises, with the row
            return cell

    return pa.array(map(one, cells.to_pylist()), types.TEXT)


def with_label_texts(table: pa.Table, name: str, names: Sequence[str] | None) -> pa.Table:
    """Replace the numbers of classes by their names, if they have any."""
    if names is None or table.schema.field(name).type != types.INTEGER:
        return table
    texts = label_text(table[name], names).to_arrow().cast(types.TEXT)
    return table.set_column(table.schema.get_field_index(name), name, texts)


def share_below(keys: UInt64[np.ndarray, " n"], share: float) -> Bool[np.ndarray, " n"]:
    """Mask of the keys, uniform over 64 bits, that are below a share of their range."""
    return keys < np.uint64(min(int(share * 2**64), 2**64 - 1))
