"""Decode the pictures of an audit once: thumbnails for comparisons, sizes and brightness for the checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float64

if TYPE_CHECKING:
    from PIL import Image

    from secateur.scorers.copies.thumbnails import Thumbnails

COLUMNS = ("width", "height", "darkest", "low", "mean", "high", "brightest", "missing")
GREY = (127, 129)
"""Range of the grey that decoders fill in for missing bytes."""


@dataclass(frozen=True)
class Measures:
    """Measures of each picture, `[n]`: sides in pixels; brightness, of 255, of the darkest and the brightest pixel, the
    mean, and the levels below and above which a twentieth of the pixels lies; the share of grey rows at its lower end.
    NaN for an unreadable picture.
    """

    values: Float64[np.ndarray, "n 8"]

    def of(self, name: str) -> Float64[np.ndarray, " n"]:
        """One of `COLUMNS`."""
        return self.values[:, COLUMNS.index(name)]


@dataclass(frozen=True)
class Seen:
    """Data of pictures that an audit keeps, in the order of its rows."""

    thumbnails: Thumbnails
    measures: Measures


def seen(batches: Iterator[tuple[int, list[Any]]], sound: Bool[np.ndarray, " n"]) -> Seen:
    """Decode all pictures, one after another, from cells in batches with the number of their first row. One that is not
    `sound` or cannot be decoded is black, with measures of NaN."""
    from PIL import Image

    from secateur.scorers.copies.thumbnails import thumbnails
    from secateur.trainers.modalities.decoding import DEEP, decode_image

    values = np.full((len(sound), len(COLUMNS)), np.nan)

    def decoded() -> Iterator[Image.Image]:
        for start, cells in batches:
            for row, cell in enumerate(cells, start):
                picture = decode_image(cell) if sound[row] else None
                if picture is None:
                    yield Image.new("L", (1, 1))
                    continue
                values[row] = measures_of(picture)
                yield scaled(picture) if picture.mode in DEEP else picture

    return Seen(thumbnails(decoded()), Measures(values))


def scaled(picture: Image.Image) -> Image.Image:
    """A deep picture scaled by the range of its own values."""
    from PIL import Image

    values = np.nan_to_num(np.asarray(picture, np.float64))
    low, high = float(values.min()), float(values.max())
    return Image.fromarray((255 * (values - low) / (high - low or 1.0)).astype(np.uint8))


def measures_of(picture: Image.Image) -> Sequence[float]:
    """The values of `COLUMNS`; deep pictures are scaled by the range of their own values."""
    from secateur.trainers.modalities.decoding import DEEP

    width, height = picture.size
    if picture.mode in DEEP:
        low, high = np.nanmin(np.asarray(picture)), np.nanmax(np.asarray(picture))
        constant = [0.0] * 5 if low == high else [0.0, np.nan, np.nan, np.nan, 255.0]
        return [width, height, *constant, 0.0]
    shades = np.array(picture.convert("L").histogram())
    seen, there = np.cumsum(shades), np.flatnonzero(shades)
    low, high = np.searchsorted(seen, [0.05 * seen[-1], 0.95 * seen[-1]])
    mean = float(shades @ np.arange(len(shades)) / seen[-1])
    return [width, height, there[0], low, mean, high, there[-1], grey_end(np.asarray(picture).reshape(height, -1))]


def grey_end(lines: np.ndarray) -> float:
    """The share of lines at the end that are of one middle grey."""
    if not GREY[0] <= lines[-1, 0] <= GREY[1]:
        return 0.0
    grey = np.asarray(((lines >= GREY[0]) & (lines <= GREY[1])).all(axis=1))[::-1]
    end = len(grey) if grey.all() else int((~grey).argmax())
    return end / len(grey)
