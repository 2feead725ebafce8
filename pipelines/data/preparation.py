"""Files of a prepared split: the table of its samples, its inputs as an array, and its rows.

Memory holds one batch of each. A preparation that was killed goes on in its folder, with the same bytes.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import xxhash
from jaxtyping import Int64, Shaped

from secateur.pipelines.data.columns import COMPLETION_TOKENS
from secateur.pipelines.data.fingerprints import FINGERPRINT, text_of
from secateur.pipelines.data.identity import hex_of
from secateur.pipelines.data.known_rows import KnownRows, SparingEncoder
from secateur.pipelines.data.scan import CONTENT, FILE, ROW, SplitRows, words_of
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.sources import Loaded
from secateur.pipelines.data.spread import Spread, SpreadRows, divided, in_order
from secateur.pipelines.data.stored_targets import as_columns
from secateur.pipelines.data.types import TEXT, series_of
from secateur.pipelines.files.whole_files import link_or_copy, new_file, new_folder, write_bytes
from secateur.trainers.modalities.encoding import BLOCK, Encoder, blocks_of, facts_of
from secateur.trainers.modalities.rows import RowFault
from secateur.trainers.sparse_rows import ENDING, Inputs, SparseRows, inputs_at, open_inputs, write_rows
from secateur.trainers.tasks.own import Split


def encoding_facts(
    encoder: Encoder, loaded: Loaded, inputs: Mapping[str, Path] | None = None, spread: Spread | None = None
) -> dict[str, Any]:
    """An encoder's facts about both splits, from the encoded `inputs` if there are files of them; SourceError names the
    place of a row that the encoder rejects."""
    found: dict[str, Any] = {}
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        with loaded.placing(split):
            rows = divided(loaded.rows[split], spread)
            found |= facts_of(encoder, split, rows, open_inputs(inputs[split]) if inputs else None)
    return found


def begin(folder: Path, made_of: str) -> None:
    """Empty the folder of a preparation unless one of the same `made_of` was begun in it."""
    state = folder / "made_of.json"
    if state.is_file() and json.loads(state.read_text()) == made_of:
        return
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    write_bytes(state, json.dumps(made_of).encode())


def write_samples(
    path: Path,
    rows: SplitRows,
    targets: Shaped[np.ndarray, "n ..."] | None,
    strata: Int64[np.ndarray, " n"],
    pictures: tuple[str, Path] | None = None,
    ids: str | None = None,
    names: Sequence[str] = (),
    *,
    tokens: Int64[np.ndarray, " n"] | None = None,
) -> None:
    """Write the table of samples: `row`, `file` and `file_row`, `content_hash`, and the columns of `as_columns`.

    `tokens` adds the tokens of completions. `pictures`, a column and a folder, adds `path`, from the folder on if the
    picture lies there, empty without a file. `ids`, a column, adds `id`, as text. The file's metadata holds the
    `fingerprint` of the content hashes. Without targets the target of a row is the name of its stratum.
    """
    writer, start, identity = None, 0, xxhash.xxh3_128()
    for table in rows.batches([FILE, ROW, CONTENT, *([pictures[0]] if pictures else []), *([ids] if ids else [])]):
        part = slice(start, start + table.num_rows)
        own = {name: values.to_arrow() for name, values in target_columns(targets, strata, part, names).items()}
        known = {"row": pa.array(np.arange(part.start, part.stop)), "file": table[FILE], "file_row": table[ROW]}
        if tokens is not None:
            known[COMPLETION_TOKENS] = pa.array(tokens[part])
        if pictures:
            known["path"] = paths_below(table[pictures[0]], pictures[1])
        if ids:
            known["id"] = series_of(table[ids]).cast(pl.String).to_arrow().cast(TEXT)
        hashes = hex_of(words_of(table[CONTENT]))
        identity.update(text_of(hashes))
        block = pa.table(known | {"content_hash": hashes} | own)
        # Hashes and row numbers never repeat: a dictionary of them would be as large as they are. Compressing the
        # hashes takes a tenth of the whole preparation and saves half of their 32 bytes a row.
        packable = [name for name in ("row", "file_row", COMPLETION_TOKENS) if name in block.column_names]
        codes = [name for name in block.column_names if name not in ("content_hash", "id", *packable)]
        numbers = dict.fromkeys(packable, "DELTA_BINARY_PACKED")
        packed = {name: "none" if name == "content_hash" else "zstd" for name in block.column_names}
        writer = writer or pyarrow.parquet.ParquetWriter(
            path, block.schema, compression=packed, use_dictionary=codes, column_encoding=numbers
        )
        writer.write_table(block)
        start = part.stop
    if writer:
        writer.add_key_value_metadata({FINGERPRINT: identity.hexdigest()})
        writer.close()


def check_ids(ids: pl.Series, say: Callable[[np.ndarray, int], str], what: str = "columns.id") -> None:
    """Raise SourceError that counts and names rows where a column of ids has gaps or the same id twice."""
    for wrong, fault in (
        (ids.is_null(), "is empty"),
        (~ids.is_first_distinct(), "repeats the value of an earlier row"),
    ):
        if count := int(wrong.sum() or 0):
            where = say(wrong.arg_true()[:1000].to_numpy().astype(np.int64), count)
            of = f"{count:,} of {len(wrong):,} rows, {where}"
            raise SourceError(f"{what}: column {ids.name!r} {fault} in {of}: give each row an id of its own")


def target_columns(
    targets: Shaped[np.ndarray, "n ..."] | None, strata: Int64[np.ndarray, " n"], part: slice, names: Sequence[str]
) -> dict[str, pl.Series]:
    """`as_columns` of some consecutive rows; without targets the names of strata, as texts."""
    if targets is not None:
        return as_columns(targets[part], strata[part])
    texts = pl.Series("target", list(names), pl.String).gather(strata[part])
    return {"target": texts, "stratum": pl.Series("stratum", strata[part])}


def paths_below(cells: pa.ChunkedArray, folder: Path) -> pa.Array:
    """Paths of pictures from a folder on; unchanged for pictures elsewhere, empty where there is none."""
    # Of the column alone: a series of cells would copy the bytes of every picture.
    paths = series_of(cells.flatten()[cells.type.get_field_index("path")]).cast(pl.String).fill_null("")
    return paths.str.strip_prefix(f"{folder}/").to_arrow().cast(pa.string())


def write_inputs(
    path: Path, encoder: Encoder, rows: SplitRows, spread: Spread | None = None, known: KnownRows | None = None
) -> Path:
    """Write the rows as one array in a `.npy` file, or sparse in a `.npz` of the same name (`SparseRows`); returns its
    path. A file that was begun goes on behind its last whole shard. With `spread` other processes encode the shards, to
    the same bytes. Rows that are `known` come from their array.
    """
    state, whole = path.with_suffix(".json"), path.with_suffix(ENDING) if encoder.sparse else path
    parts = [path.with_suffix(f".{name}") for name in PARTS] if encoder.sparse else [path]
    done: dict[str, Any] = json.loads(state.read_text()) if state.is_file() else {}
    if encoder.sparse and done.get("shards") == len(rows.shards) and whole.is_file():
        return whole
    if "sizes" not in done or not all(part.is_file() for part in parts):
        done = {"shards": 0, "rows": 0, "sizes": [0 for _ in parts]}
    with ExitStack() as stack:
        files = [stack.enter_context(part.open("r+b" if done["shards"] else "wb")) for part in parts]
        for file, size in zip(files, done["sizes"], strict=True):
            file.truncate(size)
            file.seek(size)
        if not done["shards"] and encoder.sparse:
            files[0].write(bytes(8))  # the first row begins at 0
        elif not done["shards"]:
            head = {"descr": encoder.dtype.str, "fortran_order": False, "shape": (len(rows), *encoder.shape)}
            np.lib.format.write_array_header_1_0(files[0], head)
        left, first = rows.shards[done["shards"] :], done["rows"]
        there = left[: max(0, known.shards - done["shards"])] if known else ()
        spared = known.sparing(encoder) if known else encoder
        encoded = encoded_shards(spared, left[len(there) :], known.rows if known and there else first, path, spread)
        if known and there:
            encoded = chain(rows_of_shards(open_inputs(known.inputs), there, first), encoded)
        for blocks in encoded:
            for block in blocks:
                write_block(files, block)
                done["rows"] += len(block)
            done["shards"] += 1
            for file in files:
                file.flush()
                os.fsync(file.fileno())
            if done["shards"] < len(rows.shards):
                save_state(state, done | {"sizes": [file.tell() for file in files]})
        sizes = [file.tell() for file in files]
    if encoder.sparse:
        counts = [size // width for size, width in zip(sizes, (8, 4, 4), strict=True)]
        with new_file(whole, overwrite=True) as unfinished, ExitStack() as stack:
            write_rows(unfinished, [stack.enter_context(part.open("rb")) for part in parts], counts, encoder.shape[0])
        save_state(state, done | {"sizes": sizes})
        for part in parts:
            part.unlink()
    return whole


def encoded_shards(
    encoder: Encoder, shards: Sequence[Path], first: int, path: Path, spread: Spread | None
) -> Iterator[Iterator[Inputs]]:
    """Blocks of each shard, whose rows count from `first` on; files of other processes lie beside `path` until read."""
    if spread is None:
        for shard in shards:
            yield (block for _, block in blocks_of(encoder, SplitRows((shard,)), first))
            first += len(SplitRows((shard,)))
        return
    folder = path.with_suffix(".shards")
    starts = SpreadRows(tuple(shards), spread).firsts
    units = [(shard, first + start) for shard, start in zip(shards, starts, strict=True)]
    for made in in_order(spread(partial(encoded_shard, encoder, folder), units)):
        rows = open_inputs(made)
        yield blocks_between(rows, 0, len(rows))
        shutil.rmtree(made.parent)
    shutil.rmtree(folder, ignore_errors=True)


def rows_of_shards(inputs: Inputs, shards: Sequence[Path], first: int) -> Iterator[Iterator[Inputs]]:
    """Blocks of each shard, from an array that holds their rows from `first` on."""
    for shard in shards:
        end = first + len(SplitRows((shard,)))
        yield blocks_between(inputs, first, end)
        first = end


def encoded_shard(encoder: Encoder, folder: Path, unit: tuple[Path, int]) -> Path:
    """The file of one encoded shard, in a folder of its own; RowFault counts rows from the split's first."""
    shard, first = unit
    place = folder / shard.stem
    if not place.exists():  # of a preparation that was killed
        try:
            with new_folder(place, overwrite=True) as unfinished:
                own = encoder.from_row(first) if isinstance(encoder, SparingEncoder) else encoder
                write_inputs(unfinished / "rows.npy", own, SplitRows((shard,)))
        except RowFault as error:
            raise RowFault(error.fault, error.rows + first, error.remedy) from error
    return inputs_at(place / "rows.npy")


def blocks_between(inputs: Inputs, start: int, end: int) -> Iterator[Inputs]:
    """Consecutive rows in blocks of about `BLOCK` bytes, sparse ones as such."""
    size = max(1, BLOCK * len(inputs) // max(1, inputs.nbytes))
    for first in range(start, end, size):
        part = slice(first, min(end, first + size))
        yield inputs.take(part) if isinstance(inputs, SparseRows) else inputs[part]


PARTS = ("starts", "columns", "values")
"""Endings of the files that hold a sparse array before it is whole."""


def save_state(path: Path, done: dict[str, Any]) -> None:
    """Record the progress of an array."""
    write_bytes(path, json.dumps(done).encode(), overwrite=True)


def write_block(files: Sequence[Any], block: Inputs) -> None:
    """Append rows to the file of an array, or to those of a sparse one."""
    if isinstance(block, SparseRows):
        before = files[1].tell() // 4
        arrays = [np.asarray(block.starts[1:], np.int64) + before, block.columns, block.values]
    else:
        arrays = [block]
    for file, array in zip(files, arrays, strict=True):
        file.write(np.ascontiguousarray(array).data)


def link_shards(rows: SplitRows, folder: Path) -> None:
    """Put the shards of a split into a folder of their own, as further names of the same files if possible."""
    shutil.rmtree(folder, ignore_errors=True)  # of a preparation that was killed
    folder.mkdir(parents=True)
    for place, shard in enumerate(rows.shards):
        link_or_copy(shard, folder / f"{place:05}.arrow")
