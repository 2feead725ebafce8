"""Samples as a table: which row, what it holds, what class it has.

Identity across versions of a data set is `content_hash`: the xxh3-128 of what a model would be shown and of the
label, never of how a file happens to store it. Canonical bytes are

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
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.images import decode_image, image_bytes, image_fault
from secateur.scorers.contract import rows_text
from secateur.trainers.contract import Progress

if TYPE_CHECKING:
    import datasets


BATCH = {"image": 256, "text": 8192, "features": 8192}
"""Rows held in memory at once: encoded images are the large ones."""


def content_hashes(rows: "datasets.Dataset", columns: Columns, progress: Progress | None = None) -> pl.Series:
    """`content_hash` of each sample, String `[n]`: 32 hexadecimal digits of canonical bytes and label.

    Reads batches, holds none of them; raises ValueError for labels that are not integers.
    """
    return inspect_samples(rows, columns, progress)["content_hash"]


def samples_table(rows: "datasets.Dataset", columns: Columns, progress: Progress | None = None) -> pl.DataFrame:
    """`row` Int64, `content_hash` String, `label` Int64: one line per sample, in data-set order."""
    return inspect_samples(rows, columns, progress).select("row", "content_hash", "label")


def inspect_samples(rows: "datasets.Dataset", columns: Columns, progress: Progress | None = None) -> pl.DataFrame:
    """`samples_table` and what the data check needs besides, in one pass over the data.

    Columns: `row` Int64, `content_hash` String, `label` Int64, `input_hash` String (the same without the label)
    and `fault` String, null where the input is usable: what is wrong with it otherwise.
    """
    labels = labels_of(rows, columns)
    inputs, contents, faults = [], [], []
    upcoming = iter(labels.tolist())
    for batch in batches(rows, columns):
        # The batch comes first: it ends first, and a label that zip had taken before would be lost.
        for (canonical, fault), label in zip(_canonical(batch, columns), upcoming, strict=False):
            digest = xxhash.xxh3_128(canonical)
            inputs.append(digest.hexdigest())
            contents.append(xxhash.xxh3_128_hexdigest(digest.digest() + label.to_bytes(8, "little", signed=True)))
            faults.append(fault)
        if progress:
            progress(len(inputs), len(labels))
    return pl.DataFrame(
        {
            "row": np.arange(len(labels), dtype=np.int64),
            "content_hash": pl.Series(contents, dtype=pl.String),
            "label": labels,
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


def labels_of(rows: "datasets.Dataset", columns: Columns) -> np.ndarray:
    """Labels, int64 `[n]`.

    Raises ValueError that names the column, the first row and the remedy for labels that are strings, floats,
    booleans, null or negative.
    """
    name, feature = columns.label, rows.features[columns.label]
    values = rows.select_columns([name]).with_format("arrow")[:][name].combine_chunks()
    remedy = "labels must be integers 0 … C-1 or a ClassLabel"
    if values.null_count:
        missing = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
        raise ValueError(
            f"label column {name!r} is null at {rows_text(missing)}: drop or label these samples; {remedy}"
        )
    if not pa.types.is_integer(values.type):
        strings = f"dataset.class_encode_column({name!r}) of the datasets library makes a ClassLabel of strings"
        cure = "cast the column to int64" if _is_number(values.type) else strings
        example = f", for example {values[0].as_py()!r}" if len(values) else ""
        raise ValueError(f"label column {name!r} holds {feature_text(feature)}{example}, but {remedy}: {cure}")
    labels = values.cast(pa.int64()).to_numpy()
    negative = np.flatnonzero(labels < 0)
    if len(negative):
        raise ValueError(
            f"label column {name!r} is negative ({labels[negative[0]]}) at {rows_text(negative)}: "
            f"-1 usually marks an unlabelled sample, drop these; {remedy}"
        )
    return cast(np.ndarray, labels)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind))


def feature_text(feature: Any) -> str:
    """Name of a column's type for an error message."""
    return str(getattr(feature, "dtype", feature))


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
