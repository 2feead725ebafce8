"""What a manifest's selection can be handed over as: one decorated function per format.

Each writes one file from the kept rows; where a data set is given the rows are those of that data set, found by content
hash if they moved.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from secateur.pipelines.files import new_file
from secateur.pipelines.manifest import HashRows, Manifest, ManifestError
from secateur.scorers.contract import summary_of

if TYPE_CHECKING:
    import datasets


ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Selected:
    """The kept `rows`, int64 ascending, of the `count` rows of `dataset` or of what the manifest was made from."""

    manifest: Manifest
    rows: np.ndarray
    count: int
    dataset: "datasets.Dataset | None"


@dataclass(frozen=True)
class Exporter:
    """A format: its name, the ending of its files, what it is in a sentence, and the function that writes it."""

    name: str
    suffix: str
    summary: str
    write: Callable[[Selected, Path], None]


_FOUND: dict[str, Exporter] = {}


def exporter(suffix: str) -> Callable[[Callable[[Selected, Path], None]], Callable[[Selected, Path], None]]:
    """Declare a format, named like its function."""

    def declare(write: Callable[[Selected, Path], None]) -> Callable[[Selected, Path], None]:
        _FOUND[write.__name__] = Exporter(write.__name__, suffix, summary_of(write), write)
        return write

    return declare


def exporters() -> Mapping[str, Exporter]:
    """Every format by name."""
    return dict(_FOUND)


def export(
    manifest: Manifest | Path | str,
    to: str,
    target: Path | str | None = None,
    *,
    dataset: "datasets.Dataset | None" = None,
    hash_rows: "HashRows | Mapping[str, Any] | None" = None,
    overwrite: bool = False,
) -> Path:
    """Write a manifest's selection in the format `to` and return the file.

    The file is `target`, or `<manifest folder>_<format><suffix>` beside the manifest; it appears whole or not at all.
    `dataset` and `hash_rows` are as for `Manifest.apply`. Raises ManifestError for an unknown format, a manifest that
    does not verify, a data set that it was not made from, a target inside the manifest's folder, and one that exists
    without `overwrite`.
    """
    if to not in _FOUND:
        raise ManifestError(f"there is no export format {to!r}; there are {', '.join(sorted(_FOUND))}")
    manifest = manifest if isinstance(manifest, Manifest) else Manifest.load(manifest)
    chosen = _FOUND[to]
    folder = manifest.path.resolve()
    path = folder.with_name(f"{folder.name}_{to}{chosen.suffix}") if target is None else Path(target)
    if path.resolve().is_relative_to(folder):
        raise ManifestError(f"{path} is inside the manifest {manifest.path}, which holds nothing but what it seals")
    selected = Selected(manifest, manifest.rows, manifest.declaration.of, None)
    if dataset is not None:
        rows = np.sort(manifest.locate(manifest.hashes_of(dataset, hash_rows)))
        selected = Selected(manifest, rows, len(dataset), dataset)
    try:
        with new_file(path, overwrite=overwrite) as partial:
            chosen.write(selected, partial)
    except OSError as error:
        raise ManifestError(f"cannot export to {path}: {error}") from error
    return path


@exporter(".npy")
def indices(selected: Selected, path: Path) -> None:
    """Kept rows, int64 ascending, as a NumPy array."""
    with path.open("wb") as file:
        np.save(file, selected.rows, allow_pickle=False)


@exporter(".txt")
def text(selected: Selected, path: Path) -> None:
    """Kept rows as text, one number per line."""
    np.savetxt(path, selected.rows, fmt="%d")


@exporter(".npy")
def bitmap(selected: Selected, path: Path) -> None:
    """Keep mask of all rows, eight to a byte and the first in the lowest bit, as a NumPy array of uint8.

    `np.unpackbits(bits, count=n, bitorder="little").astype(bool)` gives the mask back.
    """
    keep = np.zeros(selected.count, dtype=np.bool_)
    keep[selected.rows] = True
    with path.open("wb") as file:
        np.save(file, np.packbits(keep, bitorder="little"), allow_pickle=False)


@exporter(".parquet")
def parquet(selected: Selected, path: Path) -> None:
    """Kept rows of the data set as Parquet, or without one the table of kept rows, hashes, labels and scores.

    Images and sounds that the data set keeps in files of their own travel within the Parquet file.
    """
    if selected.dataset is None:
        selected.manifest.table.write_parquet(path, compression="zstd")
        return
    from datasets.table import embed_table_storage

    chosen = selected.dataset.select(selected.rows).with_format("arrow")
    schema = chosen.features.arrow_schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in chosen.iter(batch_size=ROWS_AT_ONCE):
            writer.write_table(embed_table_storage(batch.cast(schema)).cast(schema))


@exporter(".jsonl")
def jsonl(selected: Selected, path: Path) -> None:
    """Kept rows of the data set as JSON lines, or without one the table of kept rows, hashes, labels and scores."""
    if selected.dataset is None:
        selected.manifest.table.write_ndjson(path)
        return
    import datasets

    media = (datasets.Image, datasets.Audio, datasets.Video)
    if names := [name for name, feature in selected.dataset.features.items() if isinstance(feature, media)]:
        raise ManifestError(f"JSON lines cannot hold the column {names[0]!r} of images, sounds or films; use parquet")
    selected.dataset.select(selected.rows).to_json(path)
