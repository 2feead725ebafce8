"""Loading a study's data: from a source in YAML to its two splits.

A source names files. This module settles one type per column over all files, hashes and divides the rows in one pass
and writes them in shards below `cache` (`scan.py`). Then it applies the policies for unusable rows and reads the
targets of the study's task. Errors name file, column and row, before anything long starts. Pictures stay undecoded, so
one broken picture does not stop the whole data set.

The name of a scan's folder is a digest of the files' contents and of the keys that decide its rows; a scan that was
killed goes on where it stopped. `cache` may be deleted whenever nothing runs. Local sources never use the network. Hub
data sets live in the usual Hugging Face cache and load offline once they are there.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash
from jaxtyping import Bool, Shaped

from secateur.pipelines.data.apart import APART, Apart, apart_types
from secateur.pipelines.data.column_types import class_names_of, names_read, spellings_in, typed_columns
from secateur.pipelines.data.columns import Columns as Columns
from secateur.pipelines.data.division import Division, why_empty
from secateur.pipelines.data.drawn_rows import drawn_rows
from secateur.pipelines.data.dropped import Dropped, decide
from secateur.pipelines.data.earlier import Earlier, begun
from secateur.pipelines.data.identity import decoder
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.scan import FILE, ROW, Scan, SplitRows, on_disk, scanned
from secateur.pipelines.data.source_digests import digest_elsewhere, digest_files, digested_by, pictures_of
from secateur.pipelines.data.source_kinds.contract import Noted
from secateur.pipelines.data.source_kinds.files import SourceError as SourceError
from secateur.pipelines.data.source_kinds.hub import Hub
from secateur.pipelines.data.source_kinds.parts import DatasetSplit, SourceFile, Types, texts_in
from secateur.pipelines.data.source_kinds.registry import Source as Source
from secateur.pipelines.data.spread import Spread
from secateur.pipelines.data.spread_scan import kinds_of, looked_at, scanned_by
from secateur.pipelines.data.targets import class_counts, read_targets
from secateur.scorers.contract import rows_text
from secateur.trainers.modalities.rows import RowFault

if TYPE_CHECKING:
    import datasets

FORMAT = "8"
"""Version of the format that a scan writes."""


class LeftEmpty(SourceError):
    """A split that was drawn has no row, or lacks a class that the other has."""


@dataclass(frozen=True)
class Loaded:
    """Both splits; row i of `train` is the same sample everywhere in a run.

    `targets` and `test_targets` are int64 `[n]` of classes, float64 `[n, k]` of numbers or bool `[n, labels]` of sets
    of labels, `label_names` names the classes, numbers or labels. `revision` is the hub's commit, or a digest of the
    content of the local files. `files` are the source's files by the numbers in the column `FILE` of `rows`, `dropped`
    the rows that policies left out, by their numbers among the rows `scanned`, `noted` the source's notes about its
    files, `features` the columns of features, `group` that of groups.
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
    features: tuple[str, ...] = ()
    group: str | None = None
    pictures: tuple[str, Path] | None = None
    """Column of pictures that are files, and the folder to which their shown paths are relative."""

    @cached_property
    def train(self) -> "datasets.Dataset":
        """Training rows in memory maps."""
        return self.rows["train"].dataset()

    @cached_property
    def test(self) -> "datasets.Dataset":
        """Test rows in memory maps."""
        return self.rows["test"].dataset()

    @contextmanager
    def placing(self, split: str) -> Iterator[None]:
        """Turn faults of rows of a split into a SourceError with their places in the user's files."""
        try:
            yield
        except RowFault as error:
            place = Places(self.rows, self.files).text(split, error.rows)
            raise SourceError(f"{error.fault} at {place}: {error.remedy}") from error


def load(
    source: Source,
    columns: Columns,
    base: Path,
    cache: Path | None = None,
    policy: DataPolicy | None = None,
    *,
    whole: bool = False,
    apart: Apart | None = None,
    spread: Spread | None = None,
) -> Loaded:
    """Load a source; its relative paths start from the folder `base`. With `whole` there is no test split: rows that
    the source would draw for it stay in training. Rows of the training files that are `apart` are in neither split:
    `rows` and `scanned` hold them under the name `APART`.

    `cache` takes the shards, `$SECATEUR_CACHE` or `~/.cache/secateur` if it is None. Rows keep the order of the files
    (sorted by name within a glob). With `spread` other processes read, type and hash the rows, to the same bytes.
    Raises SourceError for any fault of the data.
    """
    cache = Path(cache or os.environ.get("SECATEUR_CACHE") or Path.home() / ".cache" / "secateur")
    base, policy = Path(os.path.abspath(base)), policy or DataPolicy()
    source.refuse_undivided()
    with own_manners(), digested_by(partial(digest_elsewhere, spread) if spread else None):
        parts, revision = read(source, columns, base, cache / "sources")
        earlier = earlier_of(source, columns, base, cache)
        parts, kinds = kinds_in(parts, columns, source, earlier, spread)
        files = [file for several in parts.values() for file in several]
        wanted = typed_columns(files, columns, source, known=kinds)
        folder = rows_folder(source, columns, base, cache, read_as(revision, whole, apart))
        scan = Scan(files, wanted, columns, folder, base, undivided, class_names_of(files, columns))
        how = partial(begun, earlier, partial(scanned_by, spread) if spread else scanned)
        scans = read_splits(source, parts | {"test": ()} if whole else parts, scan, apart, how)
        earlier.remember(folder, files, kinds)
    names = tuple(file.shown(base) for file in files)
    pictures = (columns.image, base) if columns.image and source.kind == "imagefolder" else None
    keep, dropped = decide(scans, columns, policy, Places(scans, names, pictures).text, folder)
    kept = {split: part_of(rows, keep[split], folder / split) for split, rows in scans.items()}
    say = Places(kept, names, pictures).text
    declared = [of for file in files if (of := file.label_names.get(columns.labels[0]))] if columns.labels else []
    learned = {split: rows for split, rows in kept.items() if split != APART}
    targets, label_names = read_targets(
        learned, columns, declared, source.label_names, say, spellings_in(files, columns, wanted)
    )
    limit_rows(source, kept, targets, folder)
    if source.held_out is not None and not whole:
        check_classes(targets, label_names, "split.after" if source.read_besides else "split_seed or test_fraction")
    return Loaded(
        rows=kept,
        scanned=scans,
        targets=targets["train"],
        test_targets=targets.get("test", targets["train"][:0]),
        label_names=label_names,
        revision=revision,
        files=names,
        dropped=tuple(dropped),
        noted=tuple(source.noted(columns, base, scans)),
        features=tuple(columns.features or ()),
        group=columns.group,
        pictures=pictures,
    )


def limit_rows(
    source: Source, kept: dict[str, SplitRows], targets: dict[str, Shaped[np.ndarray, "n ..."]], folder: Path
) -> None:
    """Draw as many rows of each split, with their targets, as the source's limit allows."""
    for split in targets:
        if source.limit is not None and len(kept[split]) > source.limit:
            drawn = drawn_rows(targets[split], source.limit, source.split_seed)
            mask = on_disk((len(kept[split]),), np.bool_, folder)
            mask[drawn] = True
            kept[split] = part_of(kept[split], mask, folder / split)
            targets[split] = targets[split][drawn]


def revision_of(source: Source, columns: Columns, base: Path, cache: Path) -> str:
    """The revision of `Loaded`, without reading rows; raises SourceError for missing files."""
    with own_manners():
        return read(source, columns, Path(os.path.abspath(base)), cache / "sources")[1]


def stamp_of(source: Source, columns: Columns, base: Path, cache: Path) -> str:
    """Text that changes exactly when the revision does, cheap where files are known; raises SourceError like it."""
    return source.stamp(base) or revision_of(source, columns, base, cache)


def read(source: Source, columns: Columns, base: Path, cache: Path) -> tuple[dict[str, Sequence[SourceFile]], str]:
    """Files of each split, and the revision of the source, which covers pictures at the paths of a column."""
    digest_files(source, base)
    splits, revision = source.read(columns, base, cache)
    parts = {split: parts_of(source.name_of(split, base), held) for split, held in splits.items()}
    pictures = pictures_of([file for files in parts.values() for file in files], columns, base)
    return parts, xxhash.xxh3_128_hexdigest(f"{revision} {pictures}".encode()) if pictures else revision


def read_as(revision: str, whole: bool, apart: Apart | None) -> str:
    """Text that tells readings of a source with the same settings apart."""
    return " ".join([revision, *(["whole"] if whole else []), *([repr(apart)] if apart else [])])


def kinds_in(
    parts: dict[str, Sequence[SourceFile]], columns: Columns, source: Source, earlier: Earlier, spread: Spread | None
) -> tuple[dict[str, Sequence[SourceFile]], list[Types]]:
    """Files of each split, and the types of their columns in the order of all files; SourceError for a missing one."""
    names, texts = tuple(names_read(columns, source)), texts_in(columns)
    if spread is not None:
        return looked_at(spread, parts, names, texts)
    files = [file for several in parts.values() for file in several]
    return parts, earlier.kinds(files, lambda file: kinds_of(names, texts, file)[1])


def rows_folder(source: Source, columns: Columns, base: Path, cache: Path, revision: str) -> Path:
    """Folder for the shards of a source at a revision."""
    keys = [FORMAT, revision, source.model_dump(mode="json"), columns.model_dump(mode="json"), os.path.abspath(base)]
    return cache / "rows" / xxhash.xxh3_128_hexdigest(json.dumps(keys).encode())


def earlier_of(source: Source, columns: Columns, base: Path, cache: Path) -> Earlier:
    """The last scan of a source, of any revision: a later revision of a hub data set may begin with the same rows."""
    same = source.model_copy(update={"revision": None}) if isinstance(source, Hub) else source
    settings = rows_folder(same, columns, base, cache, "").name
    return Earlier(cache / "rows", settings, decoder() if columns.image else "")


def parts_of(name: str, held: "datasets.Dataset | Sequence[SourceFile]") -> Sequence[SourceFile]:
    """The files of a split; a data set counts as one, under the study's name for it."""
    import datasets

    return [DatasetSplit(name, held)] if isinstance(held, datasets.Dataset) else held


def read_splits(
    source: Source,
    parts: Mapping[str, Sequence[SourceFile]],
    scan: Scan,
    apart: Apart | None,
    read: Callable[[Scan], dict[str, SplitRows]],
) -> dict[str, SplitRows]:
    """Shards of both splits, from the scan's folder if they are there already.

    There is no test split if `parts` has an empty one. Rows of the training files that are `apart` are in neither.
    """
    scans: dict[str, SplitRows] = {}
    offset = 0
    for name, files in parts.items():
        division = Division.of(source, scan.columns) if "test" not in parts else None

        def divide(table: pa.Table, hashes: np.ndarray, name: str = name, by: Any = division) -> Any:
            masks = by(table, hashes) if by else {name: np.ones(table.num_rows, np.bool_)}
            if apart is None or name != "train":
                return masks
            own = apart(table)
            return {split: mask & ~own for split, mask in masks.items()} | {APART: own}

        kinds = {**scan.wanted, **apart_types(files, apart)} if name == "train" else scan.wanted
        own = replace(scan, files=files, wanted=kinds, folder=scan.folder / name, divide=divide, offset=offset)
        told = (
            FORMAT,
            {name: str(kind) for name, kind in kinds.items()},
            scan.columns.model_dump_json(),
            str(scan.base),
        )
        made = (*told, scan.names, offset, scan.limits, name, division, apart)
        own = replace(own, alike=xxhash.xxh3_128_hexdigest(repr(made).encode()))
        scans |= read(own) if files else {}
        if division and division.misses(scans):
            by_row = partial(divide, by=replace(division, by_row=True))
            scans = read(replace(own, folder=scan.folder / "by_row", divide=by_row, alike=f"{own.alike} by row"))
        offset += len(files)
    for split in ("train", "test"):
        if split not in scans and parts.get(split) != ():
            if split == "train" and APART in scans:
                raise SourceError(f"target.filter: takes all {len(scans[APART]):,} rows, none is left to choose from")
            rows = sum(len(part) for name, part in scans.items() if name != APART)
            raise LeftEmpty(why_empty(split, rows, "split" if source.read_besides else "test_fraction"))
    return scans


def undivided(table: pa.Table, hashes: np.ndarray) -> dict[str, np.ndarray]:
    """Mask that puts all rows of a batch into one split."""
    return {"train": np.ones(table.num_rows, np.bool_)}


def check_classes(targets: Mapping[str, np.ndarray], names: Sequence[str], key: str) -> None:
    """Raise LeftEmpty where a drawn split lacks a class, or label, of the other; `key` would draw another split."""
    counts = {split: np.array(class_counts(part, len(names))) for split, part in targets.items()}
    held = "label" if targets["train"].dtype == np.bool_ else "class"
    # A class may end before the test rows of a split by time; one that begins after the training rows is not learned.
    for split, other in (("train", "test"), ("test", "train"))[: 1 if key == "split.after" else 2]:
        empty = np.flatnonzero((counts[split] == 0) & (counts[other] > 0))
        if len(empty):
            count = int(counts[other][empty[0]])
            raise LeftEmpty(
                f"the {split} split that was drawn has no row of {held} {names[empty[0]]!r}, which has {count} "
                + (f"rows: name another source.{key}" if count > 1 else "row, for one split alone: name source.test")
                + f", or leave the {held} out"
            )


def part_of(rows: SplitRows, mask: Bool[np.ndarray, " n"], beside: Path) -> SplitRows:
    """The rows that a mask keeps, in a folder named after a hash of the mask."""
    return rows.kept(mask, beside.with_name(f"{beside.name}-{xxhash.xxh3_64_hexdigest(mask.data)}"))


@dataclass(frozen=True)
class Places:
    """Places of the rows of splits in the user's files."""

    splits: Mapping[str, SplitRows]
    files: Sequence[str]
    pictures: tuple[str, Path] | None = None
    """See `Loaded.pictures`."""

    def text(self, split: str, rows: np.ndarray, count: int | None = None) -> str:
        """Rows of a split for a message: by file, the first ten of the first file, counted from 0.

        `rows` ascend; they may be the first of `count`. Where these do not show how many of them are in the first file,
        the count is that of all files.
        """
        count, shown = count or len(rows), rows[:1000]
        table = self.splits[split].at([FILE, ROW], shown)
        first = table[FILE][0]
        own = table.filter(pl.col(FILE) == first)[ROW].to_numpy()
        paths = ", ".join([*self.paths(split, shown[:3]), *(["…"] if count > 3 else [])]) if self.pictures else ""
        listed, end = rows_text(own[:10]), f"of {self.files[first]}"
        if len(own) < len(shown):
            whole = f" ({len(own)} in all)" if len(own) > 10 else ""
            return f"{listed}{whole} {end} and {count - len(own)} in other files{paths and f': {paths}'}"
        if len(shown) < count and self._last_file(split) != first:
            return f"{listed} {end} and further ones, {count} in all files{paths and f': {paths}'}"
        whole = f" ({count} in all)" if count > 10 else ""
        return f"{listed}{whole} {end}{paths and f': {paths}'}"

    def _last_file(self, split: str) -> int:
        """Number of the file of a split's last row."""
        rows = self.splits[split]
        return int(rows.at([FILE], np.array([len(rows) - 1]))[FILE][0])

    def pairs(self, split: str, rows: np.ndarray) -> list[tuple[str, int]]:
        """File, and row in it, of each of some rows, in ascending order."""
        return [(self.files[file], row) for file, row in self.splits[split].at([FILE, ROW], rows).iter_rows()]

    def paths(self, split: str, rows: np.ndarray) -> list[str]:
        """Paths of the pictures of some rows, in ascending order, if pictures are files; otherwise none."""
        if not self.pictures:
            return []
        name, folder = self.pictures
        cells = self.splits[split].at([name], rows)[name]
        return cells.struct.field("path").str.strip_prefix(f"{folder}/").to_list()


@contextmanager
def own_manners() -> Iterator[None]:
    """`datasets` without progress bars, without logs of raised errors, without a call home to count loads."""
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


@contextmanager
def options_named() -> Iterator[None]:
    """An error about the encoding of a file names the option `--charset` where a study has `source.charset`."""
    try:
        yield
    except SourceError as error:
        raise SourceError(str(error).replace("source.charset", "--charset")) from error
