"""Where a study's data comes from: a source as YAML names it, and the two splits that it is read as.

A source says which files there are; here they are read: one type per column over all files, one pass that hashes and
divides rows and writes them in shards below `cache` (`scan.py`), then the policies for rows that cannot be used, and
the targets that the study's task reads. Errors say file, column and row, before anything long starts. Pictures stay
undecoded, so one broken picture does not take its data set down.

The folder of a scan is named after a digest of the files' contents and of the keys that decide what is read; a scan
that was killed goes on where it stopped. `cache` may be deleted whenever nothing runs. Local sources never use the
network. Hub data sets live in the usual Hugging Face cache and load offline once they are there.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash
from jaxtyping import Bool, Shaped

from secateur.pipelines.data import types
from secateur.pipelines.data.columns import Columns as Columns
from secateur.pipelines.data.division import Division
from secateur.pipelines.data.drawn_rows import drawn_rows
from secateur.pipelines.data.policy import DataPolicy, Dropped, decide
from secateur.pipelines.data.scan import FILE, ROW, SplitRows, scanned
from secateur.pipelines.data.source_kinds.contract import Noted, check_names
from secateur.pipelines.data.source_kinds.files import SourceError as SourceError
from secateur.pipelines.data.source_kinds.parts import DatasetSplit, SourceFile, Types, needed, settled_types, texts_in
from secateur.pipelines.data.source_kinds.registry import Source as Source
from secateur.pipelines.data.targets import read_targets
from secateur.scorers.contract import rows_text

if TYPE_CHECKING:
    import datasets

FORMAT = "3"
"""Changes with what a scan writes."""
PLAIN = (types.NOTHING, types.BOOLEAN, types.INTEGER, types.NUMBER, types.TEXT)
"""Types of features and groups."""


class ClassLeftEmpty(SourceError):
    """A split that was drawn lacks a class that the other has."""


@dataclass(frozen=True)
class Loaded:
    """Both splits; row i of `train` is the same sample everywhere in a run.

    `targets` and `test_targets` are int64 `[n]` of classes, float64 `[n, k]` of numbers or bool `[n, labels]` of sets
    of labels, `label_names` names the classes, numbers or labels. `revision` is the hub's commit, or a digest of the
    content of the local files. `files` are the source's files by the numbers in the column `FILE` of `rows`, `dropped`
    the rows that policies left out, by their numbers among the rows `scanned`, `noted` what the source says of its
    files, `group` the column of groups.
    """

    rows: Mapping[str, SplitRows]
    scanned: Mapping[str, SplitRows]
    targets: Shaped[np.ndarray, "n ..."]
    test_targets: Shaped[np.ndarray, "m ..."]
    label_names: tuple[str, ...]
    revision: str
    files: tuple[str, ...]
    dropped: tuple[Dropped, ...] = ()
    noted: tuple[Noted, ...] = ()
    group: str | None = None

    @cached_property
    def train(self) -> "datasets.Dataset":
        """Training rows in memory maps."""
        return self.rows["train"].dataset()

    @cached_property
    def test(self) -> "datasets.Dataset":
        """Test rows in memory maps."""
        return self.rows["test"].dataset()


def load(
    source: Source, columns: Columns, base: Path, cache: Path | None = None, policy: DataPolicy | None = None
) -> Loaded:
    """Load a source; `base` is the folder that its relative paths start from.

    `cache` takes the shards, `$SECATEUR_CACHE` or `~/.cache/secateur` if it is None. Rows keep the order of the files
    (sorted by name within a glob). Raises SourceError for everything that bad data can be.
    """
    cache = Path(cache or os.environ.get("SECATEUR_CACHE") or Path.home() / ".cache" / "secateur")
    base, policy = Path(os.path.abspath(base)), policy or DataPolicy()
    with own_manners():
        splits, revision = source.read(columns, base, cache / "sources")
        parts = {name: parts_of(name, held) for name, held in splits.items()}
        files = [file for several in parts.values() for file in several]
        wanted = typed_columns(files, columns, source)
        keys = [FORMAT, revision, source.model_dump(mode="json"), columns.model_dump(mode="json")]
        folder = cache / "rows" / xxhash.xxh3_128_hexdigest(json.dumps([*keys, str(base)]).encode())
        scans = read_splits(source, parts, wanted, columns, folder, base, class_names_of(files, columns))
    names = tuple(file.shown(base) for file in files)
    keep, dropped = decide(scans, columns, policy, Places(scans, names).text)
    kept = {split: part_of(rows, keep[split], folder / split) for split, rows in scans.items()}
    say = Places(kept, names).text
    declared = [of for file in files if (of := file.label_names.get(columns.labels[0]))] if columns.labels else []
    targets, label_names = read_targets(kept, columns, declared, source.label_names, say)
    for split in kept:
        if source.limit is not None and len(kept[split]) > source.limit:
            drawn = drawn_rows(targets[split], source.limit, source.split_seed)
            mask = np.zeros(len(kept[split]), np.bool_)
            mask[drawn] = True
            kept[split] = part_of(kept[split], mask, folder / split)
            targets[split] = targets[split][drawn]
    if source.held_out is not None:
        check_classes(targets, label_names, "split.after" if source.read_besides else "split_seed or test_fraction")
    return Loaded(
        rows=kept,
        scanned=scans,
        targets=targets["train"],
        test_targets=targets["test"],
        label_names=label_names,
        revision=revision,
        files=names,
        dropped=tuple(dropped),
        noted=tuple(source.noted(columns, base, scans)),
        group=columns.group,
    )


def parts_of(split: str, held: "datasets.Dataset | Sequence[SourceFile]") -> Sequence[SourceFile]:
    """The files of a split; a data set is one."""
    import datasets

    return [DatasetSplit(split, held)] if isinstance(held, datasets.Dataset) else held


def typed_columns(files: Sequence[SourceFile], columns: Columns, source: Source) -> dict[str, pa.DataType]:
    """One type for each column that is read; SourceError where one is not there or is not what the study says."""
    names = [*needed(columns), *source.read_besides]
    for file in files:
        check_names(file.columns, names, file.name)
    wanted = settled_types(files, list(dict.fromkeys(names)), texts_in(columns))
    first = files[0].name
    for name in columns.inputs:
        kind = wanted[name]
        if columns.image is not None and kind not in (types.PICTURE, types.TEXT):
            raise SourceError(f"{first}: image column {name!r} holds {types.shown_type(kind)}, not pictures or paths")
        if columns.text is not None and kind != types.TEXT:
            raise SourceError(f"{first}: text column {name!r} holds {types.shown_type(kind)}, not strings")
        if columns.features is not None and kind not in PLAIN:
            raise SourceError(
                f"{first}: feature column {name!r} holds {types.shown_type(kind)}; features are numbers, booleans and "
                "strings"
            )
    for name in columns.labels:
        if types.is_list(wanted[name]) and columns.target in (None, "class"):
            raise SourceError(
                f"{first}: label column {name!r} holds lists: write task: multi_label for sets of labels, or task: "
                "regression for lists of numbers"
            )
        if not types.is_list(wanted[name]) and wanted[name] not in PLAIN:
            raise SourceError(
                f"{first}: label column {name!r} holds {types.shown_type(wanted[name])}; labels are texts, numbers, "
                "booleans or lists of them"
            )
    if columns.group is not None and wanted[columns.group] not in PLAIN:
        kind = types.shown_type(wanted[columns.group])
        raise SourceError(f"{first}: group column {columns.group!r} holds {kind}; groups are numbers and strings")
    return wanted


def class_names_of(files: Sequence[SourceFile], columns: Columns) -> dict[str, tuple[str, ...]]:
    """Names that one of the files has for the classes of a label column, for files that hold their numbers alone."""
    return {
        name: named for file in reversed(files) for name, named in file.label_names.items() if name in columns.labels
    }


def read_splits(
    source: Source,
    parts: Mapping[str, Sequence[SourceFile]],
    wanted: Types,
    columns: Columns,
    folder: Path,
    base: Path,
    names: Mapping[str, Sequence[str]],
) -> dict[str, SplitRows]:
    """Shards of both splits, from `folder` where they are there already; `names` are those of classes."""
    scans: dict[str, SplitRows] = {}
    offset = 0
    for name, files in parts.items():
        division = Division.of(source, columns) if "test" not in parts else None

        def divide(table: pa.Table, hashes: np.ndarray, name: str = name, by: Any = division) -> Any:
            return by(table, hashes) if by else {name: np.ones(table.num_rows, np.bool_)}

        scans |= scanned(files, wanted, columns, folder / name, base, divide, names, offset)
        if division and division.misses(scans):
            by_row = replace(division, by_row=True)
            scans = scanned(files, wanted, columns, folder / "by_row", base, by_row, names, offset)
        offset += len(files)
    for split in ("train", "test"):
        if split not in scans:
            key = "split" if source.read_besides else "test_fraction"
            raise SourceError(f"source.{key}: no row is left for the {split} split; name another share, seed or time")
    return scans


def check_classes(targets: Mapping[str, np.ndarray], names: Sequence[str], key: str) -> None:
    """ClassLeftEmpty where a split that was drawn lacks a class that the other has; `key` would draw another."""
    if targets["train"].dtype != np.int64:
        return
    counts = {split: np.bincount(labels, minlength=len(names)) for split, labels in targets.items()}
    # After a time a class may have ended; one that has not begun before cannot be learned.
    for split, other in (("train", "test"), ("test", "train"))[: 1 if key == "split.after" else 2]:
        empty = np.flatnonzero((counts[split] == 0) & (counts[other] > 0))
        if len(empty):
            count = int(counts[other][empty[0]])
            raise ClassLeftEmpty(
                f"the {split} split that was drawn has no row of class {names[empty[0]]!r}, which has {count} "
                f"row{'s' if count > 1 else ''}: name another source.{key}, or leave the class out"
            )


def part_of(rows: SplitRows, mask: Bool[np.ndarray, " n"], beside: Path) -> SplitRows:
    """The rows that a mask keeps, in a folder that is named by the mask."""
    return rows.kept(mask, beside.with_name(f"{beside.name}-{xxhash.xxh3_64_hexdigest(np.packbits(mask).tobytes())}"))


@dataclass(frozen=True)
class Places:
    """Where the user has the rows of splits."""

    splits: Mapping[str, SplitRows]
    files: Sequence[str]

    def text(self, split: str, rows: np.ndarray) -> str:
        """Rows of a split for a message: by file, the first ten of the first file, counted from 0."""
        shown = rows[:1000]
        places = self.splits[split].column(FILE).gather(shown), self.splits[split].column(ROW).gather(shown)
        first = places[0][0]
        own = places[1].filter(places[0] == first).to_numpy()
        more = f" and {len(rows) - len(own)} in other files" if len(own) < len(shown) else ""
        count = f" ({len(rows)} in all)" if len(rows) > 10 else ""
        return f"{rows_text(own[:10])}{count} of {self.files[first]}{more}"

    def pairs(self, split: str, rows: np.ndarray) -> list[tuple[str, int]]:
        """File and row in it, of each of some rows."""
        files, numbers = (self.splits[split].column(name).gather(rows).to_list() for name in (FILE, ROW))
        return [(self.files[file], number) for file, number in zip(files, numbers, strict=True)]


@contextmanager
def own_manners() -> Iterator[None]:
    """`datasets` without progress bars, without logging what is raised, without a call home to count loads."""
    import datasets

    bars, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    counts = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    if not bars:
        datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    try:
        yield
    finally:
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = counts
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
