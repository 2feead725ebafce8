"""The rows that a manifest keeps of a file of rows, or of a folder that `datasets` saved, in the same format."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from secateur.pipelines.data.classes import number_labels
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.contract import check_names
from secateur.pipelines.data.source_kinds.csv import Csv
from secateur.pipelines.data.source_kinds.disk import Disk
from secateur.pipelines.data.source_kinds.jsonl import Jsonl
from secateur.pipelines.data.source_kinds.parquet import Parquet
from secateur.pipelines.data.sources import open_images, own_manners
from secateur.pipelines.files.whole_files import new_file, new_folder
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.payload import refuse_suffix

if TYPE_CHECKING:
    import datasets

FORMATS: Final = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def write_kept(
    target: Path,
    output: Path | None,
    named: Mapping[str, Any],
    label_names: list[str] | None,
    locate: Callable[["datasets.Dataset"], np.ndarray],
) -> Path:
    """Write what stays of a Parquet, CSV or JSON-lines file, or of a folder with one split, in its order.

    `named` are the columns to hash rows by, `label_names` number labels that are words, and `locate` finds kept rows.
    Columns and their types are the file's own. Raises ManifestError for other files and where `named` is empty.
    """
    if output is None:
        raise ManifestError("name the file to write as output")
    if not named:
        raise ManifestError("it names no columns to find its rows by: load the data and give them as hash_rows")
    columns, separator = Columns(**named), "\t" if target.suffix == ".tsv" else ","
    with own_manners(), tempfile.TemporaryDirectory() as cache:
        source = source_of(target, separator)
        if target.is_file():
            refuse_suffix(output, *(suffix for suffix, kind in FORMATS.items() if kind == source.kind))
        data = source.read(columns, target.absolute().parent, Path(cache))[0]["train"]
        check_names(data.column_names, columns, str(target))
        classes = columns.target in (None, "class")
        labelled = number_labels(data, columns, label_names, str(target)) if classes else data
        kept = data.select(np.sort(locate(open_images(labelled, columns, target.absolute().parent))))
        if target.is_dir():
            with new_folder(output) as partial:
                kept.save_to_disk(partial)
            return output
        writers: dict[str, Any] = {
            "parquet": kept.to_parquet,
            "csv": lambda path: kept.to_csv(path, index=False, sep=separator),
            "jsonl": lambda path: kept.to_json(path, force_ascii=False),
        }
        with new_file(output) as partial:
            writers[FORMATS[target.suffix]](partial)
    return output


def source_of(target: Path, separator: str) -> Csv | Disk | Jsonl | Parquet:
    """How a study would name the file or folder; raises ManifestError for a format that is none of ours."""
    # Of what is read here nothing is held out to test; a source has to say one.
    rest: dict[str, Any] = {"test_fraction": 0.5}
    if target.is_dir():
        return Disk(kind="disk", train=str(target), **rest)
    if not target.is_file():
        raise ManifestError(f"there is no file or folder {target}")
    kind = FORMATS.get(target.suffix)
    if kind is None:
        raise ManifestError(f"rows are read from {', '.join(FORMATS)} files and folders that `datasets` saved")
    if kind == "csv":
        return Csv(kind="csv", train=[str(target)], separator=separator, **rest)
    return (Parquet if kind == "parquet" else Jsonl)(kind=kind, train=[str(target)], **rest)  # type: ignore[arg-type]
