"""The positions of kept rows in data that stay where they are, with seals of the files, in at most eight bytes a row.

The file is Parquet with the columns `shard` (a number), `row` (in the shard, from 0) and, where a selection weights,
`weight`; names, sizes and digests of the shards stand in its metadata under the key `secateur:in_place`. Shards without
a kept row are not in it. It does not depend on the time or user of writing, and contains no credentials.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from secateur.pipelines.data.lazy import pa, pq
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.files.addresses import Folder
from secateur.pipelines.in_place.contract import Reader
from secateur.pipelines.manifests.kept_rows import numbers_of
from secateur.scorers.contract import rows_text

KEY: Final = b"secateur:in_place"
ROWS_PER_GROUP = 1 << 22


class Seal(BaseModel):
    """The state of a file when rows of it were kept; `rows` is None for one without rows, such as an index.

    `version` is the object store's property of it, which identifies an unchanged object without a read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: int | None
    bytes: int
    xxh3: str
    version: str = ""


class Told(BaseModel):
    """The metadata of the file: the format of the data, their place relative to the file's own folder, and the manifest
    of the rows, if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    kind: str
    data: str
    version: int | None = None
    shards: tuple[Seal, ...]
    besides: tuple[Seal, ...] = ()
    manifest: str = ""
    dataset: str = ""
    selection: str = ""


@dataclass(frozen=True)
class Kept:
    """Kept rows, ascending: `shard` int64, a place among the reader's shards, and `row` in it int64, `[kept]`;
    `weights` float32 `[kept]` or None for equal weights. `of` names their manifest, `scores` are that manifest's,
    float32 `[kept]`; a saved file has none.
    """

    shard: np.ndarray
    row: np.ndarray
    weights: np.ndarray | None = None
    of: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def at(
        cls,
        positions: np.ndarray,
        starts: np.ndarray,
        weights: np.ndarray | None,
        of: Mapping[str, str],
        scores: Mapping[str, np.ndarray] | None = None,
    ) -> Kept:
        """Rows counted over all shards, which begin at `starts`; SourceError for repeated rows and for rows outside."""
        order = np.argsort(positions, kind="stable")
        sorted_ = positions[order]
        if len(sorted_) and (sorted_[0] < 0 or sorted_[-1] >= starts[-1]):
            raise SourceError(
                f"there are {starts[-1]} rows, and row {sorted_[0] if sorted_[0] < 0 else sorted_[-1]} is none"
            )
        if len(twice := np.flatnonzero(np.diff(sorted_) == 0)):
            raise SourceError(f"{rows_text(sorted_[twice])}: each row is kept once, and this is named twice")
        shard = np.searchsorted(starts, sorted_, side="right") - 1
        ordered = {name: values[order] for name, values in (scores or {}).items()}
        own = None if weights is None else weights[order].astype(np.float32)
        return cls(shard, sorted_ - starts[shard], own, of, ordered)

    def __len__(self) -> int:
        return len(self.row)


def seals_of(reader: Reader, kept: Kept) -> tuple[tuple[Seal, ...], tuple[Seal, ...]]:
    """Seals of the shards that hold kept rows, and of the further files."""
    rows = reader.rows
    shards = [(reader.shards[shard], int(rows[shard])) for shard in np.unique(kept.shard).tolist()]
    return tuple(sealed(reader.data.folder, *one) for one in shards), tuple(
        sealed(reader.data.folder, name, None) for name in reader.besides
    )


def sealed(folder: Folder, name: str, rows: int | None) -> Seal:
    """The seal of a file as it is now; SourceError for a missing one."""
    stored = folder.at(name)
    if (size := stored.size()) is None:
        raise SourceError(f"{stored.name}: there is no such file")
    version = stored.version()
    return Seal(name=name, rows=rows, bytes=size, xxh3=stored.digest(), version=version)


def refuse_changed(folder: Folder, seals: Sequence[Seal], *, contents: bool) -> None:
    """Raise SourceError that names the first file that differs from its seal: missing, of another size, or, with
    `contents`, of other bytes."""
    for seal in seals:
        stored = folder.at(seal.name)
        size = stored.size()
        if size is None:
            raise SourceError(f"{stored.name} is not there, and rows of it were kept: name the data's folder as data")
        remedy = "its rows may be others now: keep rows of the data as they are, or bring the file back"
        if size != seal.bytes:
            raise SourceError(f"{stored.name} has changed: it has {size} bytes and had {seal.bytes}; {remedy}")
        same = bool(seal.version) and stored.version() == seal.version
        if contents and not same and stored.digest() != seal.xxh3:
            raise SourceError(
                f"{stored.name} has changed: its bytes are others than when rows of it were kept; {remedy}"
            )


def written(kept: Kept, told: Told, reader: Reader, path: Path) -> None:
    """Write rows whose shards are numbered in the order of `told`."""
    places = {seal.name: place for place, seal in enumerate(told.shards)}
    numbers = np.array([places.get(name, -1) for name in reader.shards], np.int32)
    columns: dict[str, Any] = {"shard": numbers[kept.shard], "row": kept.row}
    if kept.weights is not None:
        columns["weight"] = kept.weights
    types = {"shard": pa.int32(), "row": pa.int64(), "weight": pa.float32()}
    schema = pa.schema([pa.field(name, types[name], nullable=False) for name in columns])
    encodings = {"row": "DELTA_BINARY_PACKED"} | ({"weight": "PLAIN"} if "weight" in columns else {})
    with pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=["shard"], column_encoding=encodings, write_statistics=False,
        store_schema=False,
    ) as writer:  # fmt: skip
        arrays = [pa.array(values, types[name]) for name, values in columns.items()]
        writer.write_table(pa.table(arrays, schema=schema), row_group_size=ROWS_PER_GROUP)
        writer.add_key_value_metadata({KEY.decode(): told.model_dump_json(exclude_defaults=True)})


def told_in(source: Any, name: str) -> Told:
    """The metadata of a saved file; SourceError for any other file."""
    try:
        metadata = pq.read_metadata(source).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{name} holds no kept rows: {' '.join(str(error).split())}") from error
    if KEY not in metadata:
        raise SourceError(f"{name} holds no kept rows that this project wrote: its metadata have no {KEY.decode()!r}")
    try:
        told = Told.model_validate(json.loads(metadata[KEY]))
    except (ValidationError, ValueError) as error:
        raise SourceError(f"{name}: what it says of its rows cannot be read") from error
    if told.format != 1:
        raise SourceError(f"{name} is of format {told.format}, which a later version of secateur wrote")
    return told


def rows_in(source: Any, told: Told, name: str) -> Kept:
    """The rows of a saved file; SourceError unless they lie within its shards, ascending and each once."""
    table = pq.read_table(source)
    expected = ["shard", "row", *(["weight"] if "weight" in table.column_names else [])]
    if table.column_names != expected or any(column.null_count for column in table.columns):
        raise SourceError(f"{name} has the columns {table.column_names}, and {expected} were written")
    shard, row = (numbers_of(table[column]).astype(np.int64) for column in ("shard", "row"))
    sizes = np.array([seal.rows or 0 for seal in told.shards], np.int64)
    inside = (shard >= 0) & (shard < len(sizes))
    inside[inside] &= (row[inside] >= 0) & (row[inside] < sizes[shard[inside]])
    ascending = (np.diff(shard) > 0) | ((np.diff(shard) == 0) & (np.diff(row) > 0))
    if not inside.all() or not ascending.all():
        raise SourceError(f"{name}: its rows do not lie within its shards, ascending and each once")
    weights = numbers_of(table["weight"]) if "weight" in expected else None
    of = {key: value for key in ("manifest", "dataset", "selection") if (value := getattr(told, key))}
    return Kept(shard, row, weights, of)
