"""Undo the changes that programs make to a file's values on reading: list the possible originals.

pandas and `datasets` read the code 01 as 1, the word NA as a missing value and a date as a time; arrays of 32 bits hold
0.1 as another number. Each guess is checked by content hash, so a wrong one finds no row.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice, product
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
from PIL import Image

from secateur.pipelines.data import types
from secateur.pipelines.data.types import series_of
from secateur.pipelines.manifests.document import ManifestError
from secateur.trainers.modalities.decoding import decode_image

WORDS: Final = (
    *("NA", "None", "null", "nan", "NaN", "N/A", "n/a", "NULL", "<NA>", "#N/A", "#N/A N/A", "#NA", "-NaN", "-nan"),
    *("-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN", ""),
)
"""Texts that pandas, and `datasets` through it, read as missing values."""
FORMATS: Final = tuple(
    f"%Y-%m-%d{time}"
    for time in (
        *("", "T%H:%M:%S", "T%H:%M:%SZ", " %H:%M:%S", "T%H:%M:%S%.3fZ", "T%H:%M:%S+00:00", "T%H:%M", " %H:%M"),
        *("T%H:%M:%S%.3f", "T%H:%M:%S%.6f", "T%H:%M:%S%.6fZ", " %H:%M:%S%.3f", " %H:%M:%S%.6f", " %H:%M:%S+00:00"),
    )
)
"""Formats of times in files."""
WIDER: Final = 6
"""Largest number of digits that a reader may have cut from the front of a code."""
MOST: Final = 200
"""Largest number of combined guesses over several columns."""


@dataclass(frozen=True)
class Reading:
    """A guess at the file's values: digits of codes, format of times, the word for a missing value, whether numbers are
    the shortest decimals of their 32 bits, or have 15 digits, and whether pictures of three equal channels are grey.
    """

    width: int = 0
    form: str = FORMATS[0]
    word: str | None = None
    short: bool = False
    decimal: bool = False
    grey: bool = False


GREY: Final = Reading(grey=True)
Readings = Mapping[str, Reading]
"""Readings by column; values of other columns are unchanged."""


def as_written(values: pa.ChunkedArray, told: pa.DataType, reading: Reading) -> pa.ChunkedArray:
    """Values of a column as a file with the type `told` may hold them; ValueError for texts that are not of it."""
    held = values.type
    if told == types.PICTURE:
        return pa.chunked_array([_grey(values)]) if reading.grey and held == types.PICTURE else values
    if told == types.TEXT:
        if types.is_list(held) or held == types.PICTURE:
            raise ValueError(f"{types.shown_type(held)}, and texts in the file")
        return pa.chunked_array([_texts(series_of(values), reading).to_arrow().cast(types.TEXT)])
    if held == types.TEXT and told in (types.BOOLEAN, types.INTEGER, types.NUMBER):
        try:
            changed = types.from_texts(types.without_missing(series_of(values), ()), told)
        except (pl.exceptions.PolarsError, ValueError) as error:
            raise ValueError(f"texts that are no {types.shown_type(told)}") from error
        return pa.chunked_array([changed.to_arrow().cast(told)])
    numbers = series_of(values)
    if told == types.BOOLEAN and numbers.dtype.is_numeric() and ((numbers == 0) | (numbers == 1)).all():
        return values.cast(types.BOOLEAN)
    if reading.short:
        # People write the shortest decimal: 0.1, where 32 bits hold 0.10000000149.
        return pa.chunked_array([numbers.cast(pl.Float32).cast(pl.String).cast(pl.Float64).to_arrow()])
    if reading.decimal:
        # pandas' fast parser gets the last bit of some decimals wrong.
        return pa.chunked_array([numbers.round_sig_figs(15).to_arrow()])
    return values


def _texts(values: pl.Series, reading: Reading) -> pl.Series:
    if values.dtype.is_numeric():
        whole = values.cast(pl.Int64, strict=False)
        exact = whole.cast(values.dtype) == values
        digits = whole.cast(pl.String).str.zfill(reading.width)
        values = pl.select(pl.when(exact).then(digits).otherwise(values.cast(pl.String))).to_series()
    elif values.dtype.is_temporal():
        values = values.dt.to_string(reading.form)
    elif values.dtype != pl.String:
        values = values.cast(pl.String, strict=False)
    return values if reading.word is None else values.fill_null(reading.word)


def _grey(cells: pa.ChunkedArray) -> pa.Array:
    changed = []
    for cell in cells:
        picture = decode_image(cell.as_py())
        bands = [] if picture is None or picture.mode != "RGB" else picture.split()
        same = bands and bands[0].tobytes() == bands[1].tobytes() == bands[2].tobytes()
        changed.append(cell_of(bands[0]) if same else cell.as_py())
    return pa.array(changed, types.PICTURE)


def cell_of(picture: Image.Image) -> dict[str, bytes | None]:
    """A picture as a cell, with its pixels unchanged."""
    file = io.BytesIO()
    picture.save(file, "PNG" if picture.mode in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA") else "TIFF")
    return {"bytes": file.getvalue(), "path": None}


def picture_of(values: np.ndarray, channels_first: bool, place: int) -> Image.Image:
    """The picture in an array, or in a tensor of ToTensor: floats 0 … 1, channels first.

    Raises ManifestError for pixels that do not fit 8 bits: those of a picture that was resized or normalised.
    """
    if values.ndim == 3:
        values = values.transpose(1, 2, 0) if channels_first else values
        values = values[..., 0] if values.shape[2] == 1 else values
    pixels = np.rint(values * 255.0 if values.dtype.kind == "f" else values)
    near = np.abs(pixels - values * 255.0).max(initial=0) < 0.01 if values.dtype.kind == "f" else True
    if not near or values.ndim not in (2, 3) or pixels.min(initial=0) < 0 or pixels.max(initial=0) > 255:
        raise ManifestError(
            f"the picture of item {place} holds other pixels than a file can, as after Normalize: apply it to the data "
            "set without its transform, and set that afterwards"
        )
    try:
        return Image.fromarray(np.ascontiguousarray(pixels.astype(np.uint8)))
    except TypeError as error:
        raise ManifestError(f"item {place} of the data, an array {list(values.shape)}, is no picture") from error


def alternatives(values: pa.ChunkedArray, told: pa.DataType) -> list[Reading]:
    """Readings of a column besides the default; empty where no reader changes such values."""
    held = values.type
    if told == types.TEXT and held in (types.INTEGER, types.NUMBER):
        digits = int(series_of(values).cast(pl.Int64, strict=False).cast(pl.String).str.len_chars().max() or 0)  # type: ignore[arg-type]
        return [Reading(width=width) for width in range(max(digits, 2), digits + WIDER)]
    if told == types.TEXT and held in (types.MOMENT, types.ZONED):
        return [Reading(form=form) for form in FORMATS[1:]]
    if told != types.NUMBER or not has_fractions(values):
        return []
    return [Reading(short=True) if is_rounded(values) else Reading(decimal=True)]


def has_fractions(values: pa.ChunkedArray) -> bool:
    """Whether a column holds numbers that are not whole."""
    numbers = series_of(values)
    return numbers.dtype.is_float() and bool((numbers != numbers.round()).any())


def is_rounded(values: pa.ChunkedArray) -> bool:
    """Whether 32 bits hold all numbers of a column exactly, though not all of them are whole."""
    if not has_fractions(values):
        return False
    numbers = series_of(values).fill_nan(None).drop_nulls()
    return bool((numbers.cast(pl.Float32).cast(pl.Float64) == numbers).all())


def joint(columns: Mapping[str, Sequence[Reading]]) -> Iterator[Readings]:
    """Combined readings of several columns; the first combines the likeliest reading of each."""
    if columns:
        yield {name: others[0] for name, others in columns.items()}
    choices = [[Reading(), *others] for others in columns.values()]
    for chosen in islice(product(*choices), 1, MOST):
        yield dict(zip(columns, chosen, strict=True))


def with_words(readings: Readings, columns: Sequence[str]) -> Iterator[Readings]:
    """The same readings with words for the missing values of all columns, then of each, then of pairs of them."""
    sets = [tuple(columns), *((name,) for name in columns), *combinations(columns, 2)]
    for names in list(dict.fromkeys(sets))[:12]:
        for word in WORDS:
            yield {**readings, **{name: replace(readings.get(name, Reading()), word=word) for name in names}}
