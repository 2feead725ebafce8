"""What an export is made of: the kept rows, where they are, and a way through them that holds few at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from secateur.pipelines.data.columns import Columns, Target
from secateur.pipelines.data.targets import strata_in
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.rows import HashRows
from secateur.trainers.contract import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    import datasets


ROWS_AT_ONCE, PICTURES_AT_ONCE = 4096, 64
SPREAD = 8
"""Rows are read as a range and thinned where it holds at most this many times as many: a range costs no copies."""


@dataclass(frozen=True)
class Selected:
    """The kept `rows`, int64 ascending `[kept]`, of the `count` rows of `dataset` or of what the manifest is of.

    `labels` int64 and `weights` float32 (None where all weigh the same) go with them, `columns` says what the columns
    of `dataset` are (None where nobody does), `target` is where the export will stand.
    """

    manifest: Manifest
    rows: np.ndarray
    count: int
    labels: np.ndarray
    weights: np.ndarray | None
    dataset: "datasets.Dataset | None"
    columns: Columns | None
    target: Path
    progress: Progress

    @property
    def data(self) -> "datasets.Dataset":
        """The data set; ManifestError where there is none."""
        if self.dataset is None:
            raise ManifestError("this format holds samples, so it needs the data set: name a study (--study)")
        return self.dataset

    @property
    def labels_hold(self) -> Target:
        """What the label columns hold."""
        return (self.columns and self.columns.target) or "class"

    @property
    def class_names(self) -> dict[int, str | None]:
        """Name of each class by its label, as the manifest has them."""
        return {counted.label: counted.name for counted in self.manifest.declaration.payload.classes}

    def blocks(self, dataset: "datasets.Dataset") -> Iterator[tuple[slice, pa.Table]]:
        """Kept rows of a data set as Arrow tables, each with the part of `rows` that it is; trials are not decoded."""
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
    dataset: "datasets.Dataset | None",
    hash_rows: "HashRows | Mapping[str, Any] | None",
    target: Path,
    progress: Progress | None,
) -> Selected:
    """What a manifest keeps of a data set, or without one of what it was made from.

    Rows that moved are found by content hash. Raises ManifestError for data that the manifest was not made from.
    """
    located, count = manifest.rows, manifest.declaration.of
    if dataset is not None:
        located, count = manifest.locate(manifest.selection.hashes_of(dataset, hash_rows)), len(dataset)
    order = np.argsort(located, kind="stable")
    named = manifest.provenance.columns if hash_rows is None else hash_rows
    return Selected(
        manifest=manifest,
        rows=located[order],
        count=count,
        labels=strata_in(manifest.table)[order],
        weights=None if manifest.weights is None else manifest.weights[order],
        dataset=dataset,
        # Without data nothing has read the columns, and a manifest may claim any.
        columns=None if dataset is None or callable(named) or not named else Columns(**named),
        target=target,
        progress=progress or (lambda done, total: None),
    )


def take(whole: "datasets.Dataset", rows: np.ndarray) -> pa.Table:
    """Rows, int64 ascending, of a data set in Arrow format."""
    low, high = int(rows[0]), int(rows[-1]) + 1
    if high - low == len(rows):
        return whole[low:high]
    if high - low <= SPREAD * len(rows):
        return whole[low:high].take(pa.array(rows - low))
    return whole[rows]


def has_media(features: Any) -> bool:
    """Whether a column holds images, sounds or films."""
    import datasets

    return any(isinstance(feature, datasets.Image | datasets.Audio | datasets.Video) for feature in features.values())
