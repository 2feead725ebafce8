"""Types of columns: one for each column over all files and splits, settled before a value is converted.

A column is `BOOLEAN`, `INTEGER`, `NUMBER`, `TEXT`, a list of one of these, `PICTURE`, `MOMENT` or `ZONED` (times, for
splits by time), or `NOTHING` where every value is missing. Parquet and JSON lines have types of their own; those of a
CSV follow from all its values.
"""

import json
from collections.abc import Iterable
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import UInt8

from secateur.trainers.modalities.spellings import BOOLEANS as BOOLEANS
from secateur.trainers.modalities.spellings import REAL as REAL
from secateur.trainers.modalities.spellings import WHOLE

NOTHING: Final = pa.null()
BOOLEAN: Final = pa.bool_()
INTEGER: Final = pa.int64()
NUMBER: Final = pa.float64()
TEXT: Final = pa.large_string()
PICTURE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
MOMENT: Final = pa.timestamp("us")
ZONED: Final = pa.timestamp("us", tz="UTC")


def series_of(values: pa.ChunkedArray | pa.Array) -> pl.Series:
    """An Arrow column as a polars series."""
    series = pl.from_arrow(values)
    assert isinstance(series, pl.Series)
    return series


def canonical(kind: pa.DataType) -> pa.DataType | None:
    """The type to read a stored Arrow type as; None for types that no study reads."""
    if pa.types.is_dictionary(kind):
        return canonical(kind.value_type)
    if pa.types.is_null(kind) or pa.types.is_boolean(kind):
        return kind
    if pa.types.is_integer(kind):
        return INTEGER
    if pa.types.is_floating(kind):
        return NUMBER
    if pa.types.is_decimal(kind):
        return NUMBER if kind.scale > 0 else INTEGER
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return TEXT
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return ZONED if pa.types.is_timestamp(kind) and kind.tz else MOMENT
    if is_list(kind):
        inner = canonical(kind.value_type)
        return None if inner is None or is_list(inner) else pa.large_list(inner)
    cell = pa.types.is_struct(kind) and {kind.field(place).name for place in range(kind.num_fields)} >= {
        "bytes",
        "path",
    }
    return PICTURE if cell or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else None


def is_list(kind: pa.DataType) -> bool:
    """Whether cells of an Arrow column are lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_nested(kind: pa.DataType) -> bool:
    """Whether cells of an Arrow column are objects, or lists of them."""
    return bool(pa.types.is_struct(kind.value_type if is_list(kind) else kind))


def shown_type(kind: pa.DataType | None) -> str:
    """A type in a message."""
    if kind is None:
        return "values of no type that a study reads"
    if is_list(kind):
        return f"lists of {shown_type(kind.value_type)}"
    names = {NOTHING: "nothing", BOOLEAN: "booleans", INTEGER: "whole numbers", NUMBER: "numbers", TEXT: "texts"}
    names |= {MOMENT: "times", ZONED: "times with a zone"}
    return names.get(kind, "pictures" if kind == PICTURE else str(kind))


def as_kind(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A stored column as its settled type; raises ArrowInvalid.

    A float of 32 bits, or a decimal, becomes the number of its decimal text, so 0.1 stays 0.1. Times are floored to
    microseconds. Objects, and lists of them, become JSON as texts.
    """
    if values.type == kind:
        return values
    if kind == TEXT and is_nested(values.type):
        cells = (None if cell is None else json.dumps(cell, ensure_ascii=False) for cell in values.to_pylist())
        return pa.chunked_array([pa.array(cells, TEXT)])
    held, wanted = (of.value_type if is_list(of) else of for of in (values.type, kind))
    if pa.types.is_decimal(held) and wanted == NUMBER:
        return from_decimals(values, kind)
    if is_list(values.type) and is_list(kind) and pa.types.is_float32(values.type.value_type):
        lists = series_of(values.cast(pa.large_list(pa.float32())))
        return lists.list.eval(pl.element().cast(pl.String).cast(pl.Float64)).to_arrow().cast(kind)
    if pa.types.is_float32(values.type):
        return series_of(values).cast(pl.String).cast(pl.Float64).to_arrow().cast(kind)
    if pa.types.is_timestamp(values.type) and values.type.unit == "ns":
        # Drop the zone, for which Arrow would need the system's table of zones.
        nanoseconds = values.cast(pa.int64()).cast(pa.timestamp("ns"))
        import pyarrow.compute as pc  # its import takes a tenth of a second

        return pc.floor_temporal(nanoseconds, unit="microsecond").cast(MOMENT).cast(pa.int64()).cast(kind)
    return values.cast(kind)


def from_decimals(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Decimals, or lists of them, as the nearest floats. It parses their texts, for Arrow's own cast multiplies, and
    0.3 would be 0.30000000000000004."""
    texts = series_of(values.cast(pa.large_list(TEXT) if is_list(kind) else TEXT))
    floats = texts.list.eval(pl.element().cast(pl.Float64)) if is_list(kind) else texts.cast(pl.Float64)
    return floats.to_arrow().cast(kind)


def rounded(whole: pl.Series) -> np.ndarray:
    """Mask of the whole numbers that a float rounds, bool `[n]`; False for missing ones."""
    low, high = whole.min(), whole.max()
    if not isinstance(low, int) or not isinstance(high, int) or (low >= -(2**53) and high <= 2**53):
        return np.zeros(len(whole), np.bool_)
    wide = whole.cast(pl.Int128)
    return (wide.cast(pl.Float64).cast(pl.Int128) != wide).fill_null(False).to_numpy()


def joined(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds the values of both unchanged; None where there is none."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {INTEGER, NUMBER}:
        return NUMBER
    if is_list(one) and is_list(other):
        inner = joined(one.value_type, other.value_type)
        return None if inner is None else pa.large_list(inner)
    return None


def type_of_texts(values: pl.Series) -> pa.DataType:
    """The type of the values that the texts of a CSV column spell; missing ones are null."""
    there = values.drop_nulls().str.strip_chars()
    if not len(there):
        return NOTHING
    if there.is_in(list(BOOLEANS)).all():
        return BOOLEAN
    if not there.str.contains(REAL).all():
        return TEXT
    whole = there.filter(there.str.contains(WHOLE))
    # A whole number beyond 64 bits is a code: a float would round it.
    if whole.cast(pl.Int64, strict=False).null_count():
        return TEXT
    return INTEGER if len(whole) == len(there) else NUMBER


ABSENT, LIKE_CODE, LIKE_TEXT, LIKE_NUMBER, LIKE_BOOLEAN = range(5)
NEARLY: Final = 0.95
"""Share of numbers or booleans from which on a column of texts should hold only these."""


def looks_of(texts: pl.Series) -> UInt8[np.ndarray, " n"]:
    """Kind of value that each text spells; digits with a leading zero, or of more than 64 bits, are a code."""
    texts = texts.str.strip_chars()
    code = texts.str.contains(r"^[0-9]+$") & (texts.cast(pl.Int64, strict=False).cast(pl.String) != texts).fill_null(
        True
    )
    look = pl.when(texts.is_null()).then(ABSENT).when(code).then(LIKE_CODE)
    look = look.when(texts.is_in(list(BOOLEANS))).then(LIKE_BOOLEAN).when(texts.str.contains(REAL)).then(LIKE_NUMBER)
    return pl.select(look.otherwise(LIKE_TEXT).cast(pl.UInt8)).to_series().to_numpy()


def meant(counts: np.ndarray) -> int | None:
    """The look, number or boolean, that a column of texts should have, by its count of each look; None for neither."""
    look = LIKE_NUMBER if counts[LIKE_NUMBER] >= counts[LIKE_BOOLEAN] else LIKE_BOOLEAN
    total = counts[LIKE_TEXT:].sum()
    mixed = counts[look] < total and counts[LIKE_TEXT] <= (1 - NEARLY) * total
    return look if mixed and not counts[LIKE_CODE] else None


def joined_texts(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Like `joined` for columns of a CSV, whose values may all be texts."""
    return joined(one, other) or TEXT


def joined_files(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Like `joined_texts` for two CSV files; None for booleans and numbers, since the texts 0 and False differ."""
    return None if BOOLEAN in (one, other) and {one, other} & {INTEGER, NUMBER} else joined_texts(one, other)


def from_texts(values: pl.Series, kind: pa.DataType) -> pl.Series:
    """Texts of a CSV column as values of its type, null where missing."""
    if kind == TEXT:
        return values
    stripped = values.str.strip_chars()
    if kind == BOOLEAN:
        return stripped.replace_strict(BOOLEANS, return_dtype=pl.Boolean)
    if kind == NUMBER:
        return stripped.str.to_lowercase().cast(pl.Float64)
    return stripped.cast(pl.Int64) if kind == INTEGER else pl.Series(values.name, [None] * len(values), dtype=pl.Null)


def without_missing(values: pl.Series, missing: Iterable[str]) -> pl.Series:
    """Texts with null for those that, without the spaces around them, are empty or stand for a missing value."""
    absent = values.str.strip_chars().is_in(["", *(text.strip() for text in missing)])
    return pl.select(pl.when(~absent).then(values)).to_series().alias(values.name)
