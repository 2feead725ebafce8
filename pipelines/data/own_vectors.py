"""A user's vectors, matched to the rows of the data: an array in their order, or a column of lists."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from secateur.pipelines.data.own_values import (
    DataRows,
    Join,
    NumbersFile,
    column_of,
    named,
    places_for,
    refuse_names,
)
from secateur.pipelines.data.scan import on_disk
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parquet import ParquetFile
from secateur.pipelines.data.source_kinds.parts import SourceFile, settled_types

BLOCK = 1 << 14
"""Vectors in one block."""


def vectors_for(
    file: NumbersFile, rows: DataRows, join: Join, column: str | None, scratch: Path | None = None
) -> np.ndarray:
    """One vector for each row of the data, float32 `[n, d]`, from an array `[rows, d]`, which is mapped into memory, or
    a column of lists; raises SourceError as `places_for` does, and for arrays and columns of another shape or type.

    Vectors in another order than the data's are copied in order, block by block, into a nameless file of the folder
    `scratch`, or into memory without one.
    """
    if file.is_array:
        refuse_names(file, join, column)
        found = file.array()
        if found.ndim != 2 or found.dtype.kind not in "fiu":
            raise SourceError(
                f"{file.what}: numbers [rows, dimensions] are needed, and {file.path.name} holds {found.dtype} "
                f"{list(found.shape)}"
            )
    else:
        found = lists_in([file.table()], named(file, column), file.what)
    places = places_for(file, rows, join, len(found), lambda one, other: (found[one] != found[other]).any(axis=1))
    if found.dtype == np.float32 and len(places) == len(found) and np.array_equal(places, np.arange(len(found))):
        return found  # as it lies, mapped into memory
    if scratch is None:
        return np.asarray(found[places], np.float32)
    ordered = on_disk((len(places), found.shape[1]), np.float32, scratch)
    for start in range(0, len(places), BLOCK):
        ordered[start : start + BLOCK] = found[places[start : start + BLOCK]]
    return ordered


def not_finite(vectors: np.ndarray) -> np.ndarray:
    """Rows of vectors that are NaN or infinite, int64 ascending, found block by block."""
    starts = range(0, len(vectors), BLOCK)
    bad = [start + np.flatnonzero(~np.isfinite(vectors[start : start + BLOCK]).all(axis=1)) for start in starts]
    return np.concatenate([np.zeros(0, np.int64), *bad])


def lists_in(files: Sequence[SourceFile], name: str, what: str) -> np.ndarray:
    """A column of lists of numbers of one length, float32 `[rows, d]`; raises SourceError for any other."""
    parts, width = list[np.ndarray](), None
    for file in files:
        start = 0
        for values in list_batches(file, name, what):
            lengths = values.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)
            width = next((int(length) for length in lengths if length >= 0), None) if width is None else width
            if len(wrong := np.flatnonzero(lengths != (-2 if width is None else width))):
                held = f"{lengths[wrong[0]]} numbers, others {width}" if lengths[wrong[0]] >= 0 else "none"
                raise SourceError(
                    f"{what}: column {name!r} of {Path(file.name).name} needs lists of one length in every row; row "
                    f"{start + wrong[0]} has {held}"
                )
            flat = values.flatten()
            if flat.null_count:
                raise SourceError(f"{what}: column {name!r} of {file.name} has an empty number in a list")
            numbers = flat.to_numpy(zero_copy_only=False).reshape(len(values), -1)
            with np.errstate(over="ignore"):
                parts.append(np.asarray(numbers, np.float32))
            large = np.flatnonzero((np.isinf(parts[-1]) & np.isfinite(numbers)).any(axis=1))
            if len(large):
                raise SourceError(
                    f"{what}: column {name!r} of {Path(file.name).name} has a number in row {start + large[0]} that "
                    "is too large for float32"
                )
            start += len(values)
    return np.concatenate(parts)


def list_batches(file: SourceFile, name: str, what: str) -> Iterator[pa.Array]:
    """Lists of a column, batch by batch; for Parquet in the stored type."""
    if name not in file.columns:
        column_of(file, name, what)  # whose error lists the columns
    if isinstance(file, ParquetFile):
        with pq.ParquetFile(file.path) as opened:
            batches = [batch.column(0) for batch in opened.iter_batches(1 << 14, columns=[name])]
    else:
        kinds = settled_types([file], [name], ())
        batches = [chunk for table in file.batches(kinds) for chunk in table[name].chunks]
    for values in batches:
        kind = values.type
        if pa.types.is_fixed_size_list(kind):
            values = values.cast(pa.large_list(kind.value_type))
        numbers = pa.types.is_list(values.type) or pa.types.is_large_list(values.type)
        inner = values.type.value_type if numbers else None
        if inner is None or not (pa.types.is_floating(inner) or pa.types.is_integer(inner)):
            raise SourceError(
                f"{what}: column {name!r} of {Path(file.name).name} holds {kind}, and lists of numbers are needed"
            )
        yield values
