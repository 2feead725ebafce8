"""Tables of samples that tests make of data sets, as a study's own has them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.assets.data import prepared
from secateur.pipelines.assets.origin import origin_of
from secateur.pipelines.assets.subsets import provenance_of
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import content_hashes_of, hex_of
from secateur.pipelines.data.scan import hashed_inputs
from secateur.pipelines.data.source_kinds.parts import DatasetSplit, needed
from secateur.pipelines.data.types import series_of
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.rows import Rows
from secateur.pipelines.studies.files import StudyFile, load_file
from secateur.pipelines.studies.grid import Trial, selection_key
from secateur.pipelines.studies.samples import Study


def content_hashes(rows: Any, columns: Columns) -> pl.Series:
    """`content_hash` of each row of a `datasets.Dataset`, String `[n]`: 32 hexadecimal digits.

    Reads batches, holds none of them; raises ValueError for targets that are not what the columns say.
    """
    split = DatasetSplit("the data", rows)
    hashes = [np.zeros((0, 2), np.uint64)]
    for table in split.batches(split.types(needed(columns), columns.texts)):
        table, inputs, _ = hashed_inputs(table, columns, Path())
        hashes.append(content_hashes_of(inputs, table, columns, split.label_names))
    return series_of(hex_of(np.concatenate(hashes)))


def samples_table(rows: Any, columns: Columns) -> pl.DataFrame:
    """`row`, `content_hash` and, of classes, `label`."""
    hashes = content_hashes(rows, columns)
    table = pl.DataFrame({"row": np.arange(len(hashes), dtype=np.int64), "content_hash": hashes})
    if columns.target not in (None, "class"):
        return table
    labels = list(rows[columns.labels[0]])
    names = sorted(set(labels), key=str)
    numbers = labels if all(isinstance(label, int) for label in labels) else [names.index(label) for label in labels]
    return table.with_columns(label=pl.Series(numbers, dtype=pl.Int64))


def study_manifest(text: str, folder: Path, keep: Callable[[pl.DataFrame], Any]) -> tuple[StudyFile, Manifest]:
    """A study from its YAML, and a manifest of what `keep` keeps of its training samples: a mask of their table.

    Both lie in `folder`: `study.yaml`, and `manifest`.
    """
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    file = load_file(folder / "study.yaml")
    assert isinstance(file.study, Study), file.error
    (folder / "prepared").mkdir()
    made = prepared(file.study, folder, folder / "assets" / ".cache", folder / "prepared")
    samples = pl.read_parquet(folder / "prepared" / "samples.parquet")
    mask = np.asarray(keep(samples), np.bool_)
    rows = Rows.chosen(samples, mask, label_names=made.source["strata"], origin=origin_of(file.study, made.source))
    trial = Trial(selection_key("full", rows.count), 0)
    provenance = provenance_of(file.study, trial, made.source, {}, len(samples))
    return file, Manifest.write(folder / "manifest", rows, provenance)
