"""The input of an export: the kept rows, their places, and iteration over them in small batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from secateur.pipelines.data.columns import Columns, Target
from secateur.pipelines.data.source_kinds.parts import DatasetSplit
from secateur.pipelines.data.stored_targets import strata_in
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.origin import FileRows, Origin
from secateur.pipelines.manifests.rows import HashRows
from secateur.trainers.contract import Progress

if TYPE_CHECKING:
    import datasets

ROWS_AT_ONCE, PICTURES_AT_ONCE = 4096, 64
SPREAD = 8
"""Rows are read as a range and thinned if it holds at most this many times as many: a range costs no copies."""


@dataclass(frozen=True)
class SourceRows:
    """Rows of a source with the user's values: all columns of the files of training samples, one file after another.

    `files` are their names and numbers of rows, `revision` that of the data now. Relative paths of pictures start from
    `folder`; `sources` are the paths of the read files.
    """

    data: "datasets.Dataset"
    files: tuple[FileRows, ...]
    revision: str
    folder: Path
    sources: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Located:
    """Places of kept rows in the user's data: `files`, and for each row the place of its file and the row in it, int64
    `[kept]`.

    Rows of a given data set lie in one file without a name.
    """

    files: tuple[FileRows, ...]
    file: np.ndarray
    row: np.ndarray

    @property
    def several(self) -> bool:
        """Whether a row number alone is ambiguous."""
        return len(self.files) > 1

    def key(self, position: int) -> str:
        """A part of a file name for the sample at a position among the kept rows: its row, after its file's number."""
        file, row = int(self.file[position]), int(self.row[position])
        width = len(str(max(self.files[file].rows - 1, 0)))
        return (f"{file:0{len(str(len(self.files) - 1))}d}-" if self.several else "") + f"{row:0{width}d}"

    def said(self, position: int) -> str:
        """The sample for a message."""
        file, row = self.files[int(self.file[position])], int(self.row[position])
        return f"row {row} of {file.name}" if file.name else f"row {row}"


@dataclass(frozen=True)
class Selected:
    """The kept `rows`, int64 ascending `[kept]`, of the `count` rows of `dataset` or of the manifest's own data.

    `located` gives their places: in the manifest's files, or in the given data set. `labels` int64 and `weights`
    float32 (None for equal weights) belong to them, `columns` names the columns of `dataset` (None if unknown),
    `target` is the path of the export, `folder` the start of relative paths of pictures, `sources` the files of the
    data set. `warn` takes a note for readers of the export, `beside` the content of further files, by the part of their
    names after the export's.
    """

    manifest: Manifest
    rows: np.ndarray
    count: int
    located: Located
    labels: np.ndarray
    weights: np.ndarray | None
    dataset: "datasets.Dataset | None"
    columns: Columns | None
    target: Path
    progress: Progress
    folder: Path
    warn: Callable[[str], None]
    sources: tuple[Path, ...] = ()
    beside: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> "datasets.Dataset":
        """The data set; ManifestError without one."""
        if self.dataset is None:
            raise ManifestError("this format holds samples, so it needs the data set: name a study (--study)")
        return self.dataset

    @property
    def labels_hold(self) -> Target:
        """The kind of targets in the label columns."""
        return (self.columns and self.columns.target) or "class"

    @property
    def class_names(self) -> dict[int, str | None]:
        """Name of each class by its label, from the manifest."""
        return {counted.label: counted.name for counted in self.manifest.declaration.payload.classes}

    @property
    def label_names(self) -> dict[int, str]:
        """Name of each class by its number; ManifestError for targets that are not classes."""
        if self.labels_hold != "class":
            raise ManifestError(
                f"the labels are {self.labels_hold}, which have no class numbers: leave the setting out"
            )
        return {label: name if name is not None else str(label) for label, name in self.class_names.items()}

    def blocks(self, dataset: "datasets.Dataset") -> Iterator[tuple[slice, pa.Table]]:
        """Kept rows of a data set as Arrow tables, each with its slice of `rows`; pictures are not decoded."""
        size = PICTURES_AT_ONCE if has_media(dataset.features) else ROWS_AT_ONCE
        whole = dataset.with_format("arrow")
        for start in range(0, len(self.rows), size):
            part = slice(start, min(start + size, len(self.rows)))
            yield part, take(whole, self.rows[part])
            self.progress(part.stop, len(self.rows))
        if not len(self.rows):
            self.progress(0, 0)


def select(
    manifest: Manifest,
    given: "datasets.Dataset | SourceRows | None",
    hash_rows: HashRows | Mapping[str, Any] | None,
    target: Path,
    progress: Progress | None,
    warn: Callable[[str], None],
) -> Selected:
    """The kept rows of a manifest in a data set, or without one in the manifest's own data.

    For an unchanged source they are the manifest's rows; rows that moved, and rows of a data set, are found by content
    hash. Raises ManifestError for data that the manifest was not made from.
    """
    rows = manifest.selection
    if rows.order is not None and (twice := len(rows.order) - rows.count):
        warn(f"{twice} of the rows that the epoch shows twice stand here once")
    dataset = given.data if isinstance(given, SourceRows) else given
    if given is None or dataset is None:
        positions, count = rows.training_rows, manifest.declaration.of
    else:
        positions, count = positions_in(manifest, given, hash_rows), len(dataset)
    order = np.argsort(positions, kind="stable")
    positions = positions[order]
    if isinstance(given, SourceRows):
        file, row = split_at(positions, given.files)
        files = given.files
    elif given is None and rows.origin.files:
        files, file, row = rows.origin.files, rows.table["file"].to_numpy(), rows.table["file_row"].to_numpy()
    else:
        files, file, row = (FileRows.model_construct(name="", rows=count),), np.zeros_like(positions), positions
    named = manifest.provenance.columns if hash_rows is None else hash_rows
    return Selected(
        manifest=manifest,
        rows=positions,
        count=count,
        located=Located(files, file, row),
        labels=strata_in(manifest.table)[order],
        weights=None if manifest.weights is None else manifest.weights[order],
        dataset=dataset,
        # Without data no reader has checked the columns, and a manifest may claim any.
        columns=None if dataset is None or callable(named) or not named else Columns(**named),
        target=target,
        progress=progress or (lambda done, total: None),
        folder=given.folder if isinstance(given, SourceRows) else Path.cwd(),
        warn=warn,
        sources=given.sources if isinstance(given, SourceRows) else (),
    )


def positions_in(
    manifest: Manifest, given: "datasets.Dataset | SourceRows", hash_rows: HashRows | Mapping[str, Any] | None
) -> np.ndarray:
    """Row of each kept sample in data, int64 `[kept]`, aligned with the manifest's table."""
    rows = manifest.selection
    if not isinstance(given, SourceRows):
        return rows.located(given, hash_rows)
    same = given.revision == manifest.provenance.revision and given.files == rows.origin.files
    if same and rows.origin.files:
        return rows.origin.positions(rows.table)
    return rows.located_in(DatasetSplit("the data", given.data), rows.columns_read(), [given.folder])[0]


def split_at(positions: np.ndarray, files: Sequence[FileRows]) -> tuple[np.ndarray, np.ndarray]:
    """Place of the file and row in it, for rows that are counted over all files."""
    starts = Origin(files=tuple(files)).starts
    file = np.searchsorted(starts, positions, side="right") - 1
    return file, positions - starts[file]


def take(whole: "datasets.Dataset", rows: np.ndarray) -> pa.Table:
    """Rows, int64 ascending, of a data set in Arrow format."""
    low, high = int(rows[0]), int(rows[-1]) + 1
    if high - low == len(rows):
        return whole[low:high]
    if high - low <= SPREAD * len(rows):
        return whole[low:high].take(pa.array(rows - low))
    return whole[rows]


def has_media(features: Any) -> bool:
    """Whether a column holds images, sounds or videos."""
    import datasets

    return any(isinstance(feature, datasets.Image | datasets.Audio | datasets.Video) for feature in features.values())
