"""The rows of a study's target: from a file or a split of their own, or set apart from the other rows of the source."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Int64, Shaped
from pydantic import TypeAdapter

from secateur.pipelines.data import types
from secateur.pipelines.data.classes import labels_of, labels_there, numbers_of_texts
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.profile import READERS
from secateur.pipelines.data.scan import FILE, INPUT, ROW, SplitRows, words_of
from secateur.pipelines.data.source_kinds.contract import SourceKind, check_names
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import SourceFile, settled_types
from secateur.pipelines.data.source_kinds.registry import Source
from secateur.pipelines.data.sources import Places, revision_of
from secateur.pipelines.data.targets import numbers_of, sets_of
from secateur.pipelines.data.whole import Whole, files_as_read, load_whole

SHOWN = 3
"""Pairs of equal rows that a message names."""
UNDIVIDED = dict.fromkeys(("test", "test_fraction", "split", "limit"))


def source_of(source: SourceKind, base: Path, file: Path | None, split: str | None) -> SourceKind:
    """The source of a target, a file or a split, with the settings of the study's source; SourceError for a missing
    file and an unknown ending."""
    undivided = {key: value for key, value in UNDIVIDED.items() if key in type(source).model_fields}
    if file is None:
        return source.model_copy(update={**undivided, "train": split})
    path = file_at(base, file)
    kind = next((kind for ending, kind in READERS.items() if path.name.lower().endswith(ending)), None)
    if kind is None:
        raise SourceError(f"target.file: {path.name} ends in none of {', '.join(READERS)}")
    if kind == source.kind:
        return source.model_copy(update={**undivided, "train": [str(path)]})
    named = {"label_names": source.label_names} if source.label_names else {}
    made: SourceKind = TypeAdapter(Source).validate_python({"kind": kind, "train": str(path), **named})
    return made


def file_at(base: Path, file: Path) -> Path:
    """The absolute path of a target's file, from the study's folder `base` if it is relative; SourceError for a missing
    file."""
    # A source would resolve a relative path from its folder once more.
    path = Path(os.path.abspath(base / file.expanduser()))
    if not path.is_file():
        raise SourceError(f"target.file: there is no file {path}; relative paths start at the study's folder")
    return path


def load_target(
    source: SourceKind, columns: Columns, besides: Sequence[str], base: Path, cache: Path, policy: DataPolicy, key: str
) -> Whole:
    """The rows of a target from the source of `source_of`, with whole texts; SourceError behind `key`, target.file or
    target.split, where they are unreadable."""
    with as_target(key):
        return load_whole(source, columns, besides, base.absolute(), cache, policy, longest=None)


@contextmanager
def as_target(key: str) -> Iterator[None]:
    """Turn faults of the data into faults of the target under `key`."""
    try:
        yield
    except SourceError as error:
        text = str(error).removeprefix("train split: ").replace("source.train:", f"{key}:")
        raise SourceError(text if text.startswith("target") else f"target: {text}") from error


def target_revision(source: SourceKind, columns: Columns, base: Path, cache: Path, split: str | None) -> str:
    """Revision of the split that is a target, empty where none is."""
    if split is None:
        return ""
    with as_target("target.split"):
        return revision_of(source_of(source, base, None, split), columns, base.absolute(), cache)


def refuse_tested(target: SplitRows, files: Sequence[str], test: SplitRows, test_files: Sequence[str]) -> None:
    """Raise SourceError, with rows and count, where inputs of target rows are in the test split: it cannot evaluate a
    selection that follows its own rows."""
    wanted = table_of(target, INPUT)
    found = wanted.join(table_of(test, INPUT).unique(["upper", "lower"]), on=["upper", "lower"], suffix="_test")
    if not len(found):
        return
    found = found.sort("row")
    own = Places({"target": target}, files).pairs("target", found["row"].to_numpy()[:SHOWN])
    pairs = []
    for place, row in zip(own, found["row_test"].to_numpy()[:SHOWN], strict=True):
        [its] = Places({"test": test}, test_files).pairs("test", np.array([row]))
        pairs.append(f"row {place[1]} of {place[0]} is row {its[1]} of {its[0]}")
    more = ", …" if len(found) > SHOWN else ""
    raise SourceError(
        f"target: {len(found):,} of {len(wanted):,} rows are in the test split, too ({'; '.join(pairs)}{more}): leave "
        "them out of the target, for test rows cannot judge a selection that follows them"
    )


def shared_rows(target: SplitRows, pool: SplitRows) -> int:
    """Number of target rows whose input is in the pool too."""
    return len(
        table_of(target, INPUT).join(table_of(pool, INPUT).select("upper", "lower").unique(), on=["upper", "lower"])
    )


def table_of(rows: SplitRows, key: str) -> pl.DataFrame:
    """Hashes of rows as two uint64 each, and the numbers of the rows."""
    words = [words_of(table[key]) for table in rows.batches([key])]
    both = np.concatenate(words) if words else np.zeros((0, 2), np.uint64)
    return pl.DataFrame({"row": np.arange(len(both)), "upper": both[:, 0], "lower": both[:, 1]})


@dataclass(frozen=True)
class StreamedTexts:
    """Texts of rows, read from their files in each pass: `places` int64 ascending are among the rows of all files."""

    files: Sequence[SourceFile]
    column: str
    places: Int64[np.ndarray, " n"]

    def __iter__(self) -> Iterator[str]:
        start = 0
        for file in self.files:
            for table in file.batches({self.column: types.TEXT}):
                low, high = np.searchsorted(self.places, [start, start + table.num_rows])
                if high > low:
                    some = table[self.column].take(pa.array(self.places[low:high] - start))
                    yield from (text or "" for text in some.to_pylist())
                start += table.num_rows


def places_of(rows: SplitRows, counts: Sequence[int]) -> Int64[np.ndarray, " n"]:
    """Places of rows among those of all files."""
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    parts = [starts[table[FILE].to_numpy()] + table[ROW].to_numpy() for table in rows.batches([FILE, ROW])]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def texts_of(
    source: SourceKind, columns: Columns, base: Path, cache: Path, revision: str, places: np.ndarray
) -> StreamedTexts:
    """Whole texts of some rows of a source; SourceError where it is no longer at the revision."""
    assert columns.text is not None
    return StreamedTexts(files_as_read(source, columns, base, cache, revision), columns.text, places)


def places_in(samples: pl.DataFrame, files: Sequence[Sequence[Any]]) -> Int64[np.ndarray, " n"]:
    """Places of the rows of a table of samples among those of all `files`, which are pairs of name and row count."""
    starts = np.concatenate([[0], np.cumsum([count for _, count in files])]).astype(np.int64)
    return np.asarray(starts[samples["file"].to_numpy()] + samples["file_row"].to_numpy(), np.int64)


def column_at(
    files: Sequence[SourceFile], name: str, places: Int64[np.ndarray, " n"], what: str, *, gaps: bool = False
) -> pl.Series:
    """A column of rows by their places among those of all files; SourceError, behind the key `what`, for a missing
    column, and for missing values unless `gaps` allows them."""
    for file in files:
        check_names(file.columns, [name], f"{what}: {file.name}")
    kinds, parts, ends = settled_types(files, [name], ()), list[pl.Series](), [0]
    for file in files:
        parts += [types.series_of(table[name]) for table in file.batches(kinds)]
        ends.append(sum(map(len, parts)))
    found = pl.concat(parts).gather(places)
    if (empty := found.null_count()) and not gaps:
        place = int(places[int(found.is_null().arg_true()[0])])
        number = int(np.searchsorted(ends, place, "right")) - 1
        where = f"row {place - ends[number]} of {files[number].name}"
        raise SourceError(f"{what}: column {name!r} is empty in {empty:,} of {len(found):,} rows, first in {where}")
    return found


def without_gaps(rows: SplitRows, name: str, what: str, files: Sequence[str]) -> pl.Series:
    """A column of a target; SourceError that names the rows with a missing value or a blank text."""
    held = rows.column(name)
    gaps = held.is_null() if held.dtype != pl.String else held.is_null() | (held.str.strip_chars() == "")
    if count := int(gaps.sum()):
        where = Places({"target": rows}, files).text(
            "target", gaps.arg_true().to_numpy()[:1000].astype(np.int64), count
        )
        raise SourceError(f"{what}: column {name!r} is empty in {count:,} of {len(rows):,} rows, {where}: fill them")
    return held


def known_targets(
    rows: SplitRows, columns: Columns, names: Sequence[str], files: Sequence[str]
) -> Shaped[np.ndarray, "n ..."]:
    """Targets of rows in the form of the training rows', whose classes or labels are `names`; SourceError names the
    rows with others."""

    def say(some: np.ndarray) -> str:
        return Places({"target": rows}, files).text("target", some)

    if columns.target in (None, "class"):
        name = columns.labels[0]
        found = labels_of(
            rows, name, numbers_of_texts(names, rows.schema.field(name).type, labels_there({"": rows}, name))
        )
        if len(unknown := np.flatnonzero(found < 0)):
            held = rows.column(name)[int(unknown[0])]
            raise SourceError(
                f"target: label column {name!r} is {held!r} at {say(unknown)}, a class that no training row has: "
                "gradients need one that the proxy knows"
            )
        return found
    held_by = [rows.column(name) for name in columns.labels]
    try:
        return numbers_of(held_by, say) if columns.target == "numbers" else sets_of(held_by, names, say)
    except ValueError as error:
        raise SourceError(f"target: {error}") from error
