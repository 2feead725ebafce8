"""A whole source without a test split, for studies that train nothing: every row, hashed, with its columns."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash
from jaxtyping import Int64

from secateur.pipelines.data.apart import APART, Apart, check_apart
from secateur.pipelines.data.column_types import class_names_of, spellings_in, typed_columns
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.drawn_rows import drawn_rows
from secateur.pipelines.data.dropped import Dropped, decide
from secateur.pipelines.data.own_values import LARGEST
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.scan import FILE, Scan, SplitRows, on_disk, scanned
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import SourceFile
from secateur.pipelines.data.source_kinds.registry import Source
from secateur.pipelines.data.sources import (
    Places,
    own_manners,
    part_of,
    read,
    rows_folder,
)
from secateur.pipelines.data.targets import read_targets

LONGEST = 121
"""Characters kept of a text, to show rows."""


@dataclass(frozen=True)
class Whole:
    """All rows of a source; row i is the same sample everywhere in a run.

    `targets` are int64 `[n]`, numbers of the classes `label_names`, or None without a label. `rows` hold the columns
    that the study reads, texts of at most `LONGEST` characters. `files` are the source's files, `counts` the number of
    rows of each, `types` those of the columns, `dropped` the rows that policies left out.
    """

    rows: SplitRows
    targets: Int64[np.ndarray, " n"] | None
    label_names: tuple[str, ...]
    revision: str
    files: tuple[str, ...]
    counts: tuple[int, ...]
    types: dict[str, pa.DataType]
    dropped: tuple[Dropped, ...]
    folder: Path
    """Folder of the shards."""
    apart: SplitRows | None = None
    """Rows that the study sets apart from the others, if any."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def places(self) -> Places:
        """Places of the rows in the user's files."""
        return Places({"train": self.rows}, self.files)

    def shown(self, rows: np.ndarray, count: int) -> str:
        """Some rows, ascending, the first of `count`, for a message."""
        return self.places.text("train", rows, count)

    def column(self, name: str, what: str) -> pl.Series:
        """A column without gaps; SourceError that counts and names the rows with a gap."""
        held = self.rows.column(name)
        self.refuse(held.is_null(), f"{what}: column {name!r} is empty")
        return held

    def numbers(self, name: str, what: str) -> np.ndarray:
        """A column of numbers or booleans, int64 or float64 `[n]`; SourceError for any other, and for gaps, NaN and
        infinity."""
        held = self.column(name, what)
        if held.dtype == pl.Boolean:
            held = held.cast(pl.Int64)
        if not held.dtype.is_numeric():
            raise SourceError(f"{what}: column {name!r} of {self.files[0]} holds {held.dtype}, and numbers are needed")
        if held.dtype.is_float():
            self.refuse(~(held.abs() <= LARGEST), f"{what}: column {name!r} is NaN, infinite or beyond {LARGEST:.2g}")
        return held.to_numpy()

    def refuse(self, wrong: pl.Series, fault: str) -> None:
        """Raise SourceError that counts and names the rows of a mask, if it has any."""
        if count := int(wrong.sum() or 0):
            where = self.shown(wrong.arg_true()[:1000].to_numpy().astype(np.int64), count)
            raise SourceError(f"{fault} in {count:,} of {len(wrong):,} rows, {where}: fill them, or leave them out")


def load_whole(
    source: Source,
    columns: Columns,
    besides: Sequence[str],
    base: Path,
    cache: Path,
    policy: DataPolicy,
    *,
    longest: int | None = LONGEST,
    apart: Apart | None = None,
) -> Whole:
    """Read every row of a source, with the columns `besides`; relative paths start from `base`, `cache` takes shards.

    Rows that are `apart` are not among `rows`. Texts are cut at `longest` characters, unless it is None. Raises
    SourceError for any fault of the data.
    """

    def divide(table: pa.Table, hashes: np.ndarray) -> dict[str, np.ndarray]:
        own = np.zeros(table.num_rows, np.bool_) if apart is None else apart(table)
        return {"train": ~own, APART: own}

    with own_manners():
        parts, revision = read(source, columns, base, cache / "sources")
        files = parts["train"]
        check_apart(files, apart)
        wanted = typed_columns(files, columns, source, besides)
        folder = rows_folder(source, columns, base, cache, revision)
        folder = folder.with_name(f"{folder.name}-{named(besides, longest, apart)}")
        names = class_names_of(files, columns)
        scans = scanned(Scan(files, wanted, columns, folder / "train", base, divide, names, longest=longest))
    if "train" not in scans:
        if APART in scans:
            raise SourceError(f"target.filter: takes all {len(scans[APART]):,} rows, none is left to choose from")
        raise SourceError(f"{files[0].name}: no rows")
    shown = tuple(file.shown(base) for file in files)
    keep, dropped = decide(scans, columns, policy, Places(scans, shown).text, folder)
    rows = {split: part_of(scans[split], keep[split], folder / split) for split in scans}
    targets: Int64[np.ndarray, " n"] | None = None
    label_names: tuple[str, ...] = ()
    if columns.labels:
        declared = [of for file in files if (of := file.label_names.get(columns.labels[0]))]
        say, spelled = Places(rows, shown).text, spellings_in(files, columns, wanted)
        found, label_names = read_targets(rows, columns, declared, source.label_names, say, spelled)
        targets = found["train"]
    if source.limit is not None and len(rows["train"]) > source.limit:
        every = np.zeros(len(rows["train"]), np.int64) if targets is None else targets
        drawn = drawn_rows(every, source.limit, source.split_seed)
        mask = on_disk((len(every),), np.bool_, folder)
        mask[drawn] = True
        rows["train"] = part_of(rows["train"], mask, folder / "train")
        targets = None if targets is None else targets[drawn]
    counts, kinds = counts_of(scans.values(), len(files)), dict(wanted)
    return Whole(
        rows["train"], targets, label_names, revision, shown, counts, kinds, tuple(dropped), folder, rows.get(APART)
    )


def named(besides: Sequence[str], longest: int | None, apart: Apart | None) -> str:
    """Part of a folder's name: a hash of further columns, the length of texts, and the filter of rows apart."""
    parts = [longest, *sorted(besides), *([repr(apart)] if apart else [])]
    return xxhash.xxh3_64_hexdigest(json.dumps(parts).encode())


def counts_of(parts: Iterable[SplitRows], files: int) -> tuple[int, ...]:
    """Rows of each file."""
    counts = np.zeros(files, np.int64)
    for rows in parts:
        for table in rows.batches([FILE]):
            counts += np.bincount(table[FILE].to_numpy(), minlength=files)
    return tuple(counts.tolist())


def files_now(source: Source, columns: Columns, base: Path, cache: Path) -> tuple[Sequence[SourceFile], str]:
    """The current files of a source, and their revision."""
    with own_manners():
        parts, revision = read(source, columns, base, cache / "sources")
    return parts["train"], revision


def files_as_read(
    source: Source, columns: Columns, base: Path, cache: Path, revision: str, what: str = ""
) -> Sequence[SourceFile]:
    """The files of a source whose rows were read at a revision; SourceError, behind `what`, where it has changed."""
    files, now = files_now(source, columns, base.absolute(), cache)
    if now != revision:
        raise SourceError(f"{what and f'{what}: '}the data have changed since they were read; run the study again")
    return files
