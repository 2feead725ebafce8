"""Samples as a table: which row, what it holds, what target it has.

Identity across versions of a data set is `content_hash`: the xxh3-128 of what a model would be shown and of the
target, never of how a file happens to store it. Canonical bytes are

- image: mode, width, height and decoded pixels (palettes expanded, EXIF orientation applied), so a re-encoded
  image keeps its hash; bytes that cannot be decoded stand for themselves;
- text: its UTF-8; a null differs from the empty string;
- features: name and typed value of each column, in the order of the names. Numbers count by value, so 1 equals 1.0
  whatever its width, and -0.0 equals 0.0; true, "1" and 1 are three values; NaN is a missing value like null.

So the hash is the same for Parquet, CSV and JSON lines that hold the same values, in any row order. What a format
changes (an empty CSV field is missing, never an empty string; float32 0.1 is not float64 0.1) changes it.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash

from secateur.pipelines.data.classes import labels_of
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.images import decode_image, image_bytes, image_fault
from secateur.pipelines.data.targets import target_bytes
from secateur.trainers.contract import Progress

if TYPE_CHECKING:
    import datasets


BATCH = {"image": 256, "text": 8192, "features": 8192}
"""Rows held in memory at once: encoded images are the large ones."""


def content_hashes(rows: "datasets.Dataset", columns: Columns, progress: Progress | None = None) -> pl.Series:
    """`content_hash` of each sample, String `[n]`: 32 hexadecimal digits of canonical bytes and target.

    Reads batches, holds none of them; raises ValueError for targets that are not what the columns say.
    """
    return inspect_samples(rows, columns, progress)["content_hash"]


def samples_table(rows: "datasets.Dataset", columns: Columns, progress: Progress | None = None) -> pl.DataFrame:
    """`row` Int64, `content_hash` String and, of classes, `label` Int64: a line per sample, in data-set order."""
    return inspect_samples(rows, columns, progress).drop("input_hash", "fault")


def inspect_samples(rows: "datasets.Dataset", columns: Columns, progress: Progress | None = None) -> pl.DataFrame:
    """`samples_table` and what the data check needs besides, in one pass over the data.

    Columns: `row` Int64, `content_hash` String, `label` Int64 where targets are classes, `input_hash` String (the
    same without the target) and `fault` String, null where the input is usable: what is wrong with it otherwise.
    """
    upcoming = target_bytes(rows, columns)
    inputs, contents, faults = [], [], []
    for batch in batches(rows, columns):
        # The batch comes first: it ends first, and a target that zip had taken before would be lost.
        for (canonical, fault), target in zip(_canonical(batch, columns), upcoming, strict=False):
            digest = xxhash.xxh3_128(canonical)
            inputs.append(digest.hexdigest())
            contents.append(xxhash.xxh3_128_hexdigest(digest.digest() + target))
            faults.append(fault)
        if progress:
            progress(len(inputs), len(rows))
    return pl.DataFrame(
        {
            "row": np.arange(len(rows), dtype=np.int64),
            "content_hash": pl.Series(contents, dtype=pl.String),
            **({"label": labels_of(rows, columns)} if columns.target in (None, "class") else {}),
            "input_hash": pl.Series(inputs, dtype=pl.String),
            "fault": pl.Series(faults, dtype=pl.String),
        }
    )


def batches(rows: "datasets.Dataset", columns: Columns) -> Iterator[pa.Table]:
    """Input columns of consecutive rows, undecoded, as Arrow tables of at most `BATCH` rows."""
    import datasets

    chosen = rows.select_columns(list(columns.inputs))
    if columns.image is not None:
        chosen = chosen.cast_column(columns.image, datasets.Image(decode=False))
    yield from chosen.with_format("arrow").iter(batch_size=BATCH[columns.kind])


def _canonical(batch: pa.Table, columns: Columns) -> Iterator[tuple[bytes, str | None]]:
    """Canonical bytes of each sample of a batch, and its fault."""
    if columns.features is not None:
        return _canonical_features(batch, columns.features)
    values = (value.as_py() for value in batch.column(0))
    return map(_canonical_image if columns.image is not None else _canonical_text, values)


def _canonical_image(value: Any) -> tuple[bytes, str | None]:
    picture = decode_image(value)
    if picture is None:
        data = image_bytes(value)
        return (b"no image" if data is None else b"raw image" + data), image_fault(value)
    head = f"image {picture.mode} {picture.width} {picture.height} "
    return head.encode() + picture.tobytes(), None


def _canonical_text(value: str | None) -> tuple[bytes, str | None]:
    if value is None:
        return b"no text", "text is missing"
    return b"text " + value.encode(), None if value.strip() else "text is empty"


def _canonical_features(batch: pa.Table, names: Sequence[str]) -> Iterator[tuple[bytes, str | None]]:
    ordered = sorted(names)
    head = b"features" + b"".join(_sized(name.encode()) for name in ordered)
    for cells in zip(*(_cells(batch[name].combine_chunks(), name) for name in ordered), strict=True):
        yield head + b"".join(cells), "every feature is missing" if all(c == MISSING for c in cells) else None


MISSING, BOOLEAN, NUMBER, INTEGER, STRING = (bytes([tag]) for tag in range(5))


def _cells(values: pa.Array, name: str) -> Sequence[bytes]:
    """Each value of a feature column as its type's tag and bytes that end where they say they end."""
    kind = values.type
    if pa.types.is_null(kind):
        return [MISSING] * len(values)
    if pa.types.is_boolean(kind):
        return [MISSING if v is None else BOOLEAN + bytes([v]) for v in values.to_pylist()]
    if pa.types.is_integer(kind):
        return [MISSING if v is None else _integer(v) for v in values.to_pylist()]
    if pa.types.is_floating(kind):
        return [MISSING if v is None or v != v else NUMBER + struct.pack("<d", v + 0.0) for v in values.to_pylist()]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return [MISSING if v is None else STRING + _sized(v.encode()) for v in values.to_pylist()]
    raise ValueError(f"feature column {name!r} holds {kind}, but features are numbers, booleans and strings")


def _integer(value: int) -> bytes:
    """As the float of the same value where there is one, so that reading a column as float changes nothing."""
    if float(value) == value:
        return NUMBER + struct.pack("<d", value)
    return INTEGER + value.to_bytes(9, "little", signed=True)


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data
