"""Images as arrays: uint8 `[n, height, width, channels]`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from jaxtyping import UInt8
from pydantic import ConfigDict, Field

from secateur.scorers.settings import Settings
from secateur.trainers.modalities.rows import Batches, RowFault, batches_of

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    from PIL import Image


VALUES = {"": "values of 8 bits", "I": "whole numbers of 16 or 32 bits", "F": "floats"}
"""Kinds of pixel values, by the mode of pictures with values of no fixed range, empty for 8 bits."""


class ImageEncoding(Settings):
    """Settings of the encoding of images."""

    model_config = ConfigDict(frozen=True)

    size: Annotated[
        tuple[int, int] | None, Field(description="height and width; default: those of the first training image")
    ] = None


@dataclass(frozen=True)
class ImageEncoder:
    """Encodes images in one size (resized bilinearly), with one or three channels, all of one depth.

    `ranges` are the smallest and the largest value of training images with whole numbers of more than 8 bits (`I`) or
    floats (`F`): they map to 0 and 255, and values beyond them are clipped. Undecodable images become zeros: the data
    check names their rows.
    """

    column: str
    height: int
    width: int
    channels: int
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def fit(cls, rows: "Batches | datasets.Dataset", column: str, encoding: ImageEncoding) -> "ImageEncoder":
        """Read the channels and ranges of all images, and the size of the first one.

        Raises ValueError if none can be decoded, RowFault for one of another depth than those before it.

        It reads colour or grey from headers, and decodes only the first image and those that need a range.
        """
        from secateur.trainers.modalities.decoding import DEEP, GREY, decode_image, mode_in_header
        from secateur.trainers.modalities.seen_pictures import modes_of

        if (known := modes_of(rows)) and not known[0] & {*DEEP}:
            height, width = encoding.size or known[1]
            return cls(column, height, width, 3 if known[0] - {*GREY} else 1)
        size: tuple[int, int] | None = None
        modes: set[str] = set()
        ranges: dict[str, tuple[float, float]] = {}
        for row, cell in enumerate(cell for table in batches_of(rows, [column]) for cell in table[column].to_pylist()):
            mode = mode_in_header(cell)
            if mode is None:
                continue
            if modes and depth_of(mode) != (depth := depth_of(next(iter(modes)))):
                raise other_depth(column, cell, row, depth_of(mode), depth)
            if mode in DEEP or size is None:
                image = decode_image(cell)
                if image is None:
                    continue
                size = size or (image.height, image.width)
                if mode in DEEP:
                    low, high = np.asarray(image).min(), np.asarray(image).max()
                    before = ranges.get(mode, (low, high))
                    ranges[mode] = float(min(low, before[0])), float(max(high, before[1]))
            modes.add(mode)
        if size is None:
            raise ValueError(f"column {column!r}: no training image can be decoded")
        height, width = encoding.size or size
        return cls(column, height, width, 3 if modes - {*GREY} else 1, ranges)

    @property
    def model_settings(self) -> dict[str, Any]:
        return {"kind": "numbers"}

    @property
    def names(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height, self.width, self.channels)

    sparse = False
    dtype = np.dtype(np.uint8)

    @property
    def spared(self) -> tuple[str, ...]:
        from secateur.trainers.modalities.seen_pictures import KEPT

        return KEPT

    def encode_batch(self, table: "pa.Table", first: int = 0) -> UInt8[np.ndarray, "b height width channels"]:
        """Pixels of every row; RowFault for one of another depth than the training images."""
        from secateur.trainers.modalities.decoding import decoded
        from secateur.trainers.modalities.seen_pictures import in_order, kept_in, shown_in

        if not self.ranges and (kept := kept_in(table, self.shape)) is not None:
            return kept
        depth, cells = next(iter(self.ranges), ""), table[self.column].to_pylist()
        pixels = np.zeros((table.num_rows, *self.shape), np.uint8)

        def work(known: Any, cell: Any) -> Any:
            image = decoded(cell) if known is None else known
            if isinstance(image, str):
                return None
            return self.array_of(image) if depth_of(image.mode) == depth else image.mode

        for row, found in enumerate(in_order(work, cells, shown_in(table))):
            if isinstance(found, str):
                raise other_depth(self.column, cells[row], first + row, depth_of(found), depth)
            if found is not None:
                pixels[row] = found
        return pixels

    def array_of(self, image: "Image.Image") -> UInt8[np.ndarray, "height width channels"]:
        """Pixels of a decoded image."""
        from PIL import Image

        if image.mode in self.ranges:
            image = Image.fromarray(scaled(np.asarray(image), *self.ranges[image.mode]))
        image = image.convert("L" if self.channels == 1 else "RGB")
        if image.size != (self.width, self.height):
            image = image.resize((self.width, self.height), Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(self.height, self.width, self.channels)

    def facts(self, rows: "Batches | datasets.Dataset", inputs: Any = None) -> dict[str, Any]:
        """The ranges of training images, for values of no fixed range."""
        return {f"range of {VALUES[mode]}": list(ends) for mode, ends in self.ranges.items()}

    def save(self, folder: Path) -> None:
        """Write `encoding.json`."""
        learned = {name: getattr(self, name) for name in ("column", "height", "width", "channels", "ranges")}
        (folder / "encoding.json").write_text(json.dumps({"encoder": "image"} | learned) + "\n")


def depth_of(mode: str) -> str:
    """The mode of a picture with values of no fixed range, empty for 8 bits."""
    from secateur.trainers.modalities.decoding import DEEP

    return mode if mode in DEEP else ""


def other_depth(column: str, cell: Any, row: int, depth: str, usual: str) -> RowFault:
    """The error for a picture with values of another depth than the training images."""
    name = f" in {cell['path']!r}" if cell["path"] else ""
    remedy = f"training images hold {VALUES[usual]}, which do not compare: save all images alike"
    return RowFault(f"column {column!r} holds {VALUES[depth]}{name}", np.array([row]), remedy)


def scaled(values: np.ndarray, low: float, high: float) -> UInt8[np.ndarray, "h w"]:
    """Quantise values to 256 levels of equal width between two ends; clips values beyond."""
    wide = np.clip(values.astype(np.float64), low, high)
    # 16 bits of full range lose their lower 8, and a range of 0 … 255 does not change.
    levels = (wide - low) * 256 / (high - low) if high > low else np.zeros_like(wide)
    return np.minimum(levels, 255).astype(np.uint8)
