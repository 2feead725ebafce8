"""Images as arrays: uint8 `[n, height, width, channels]`."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from jaxtyping import UInt8
from pydantic import BaseModel, ConfigDict, Field

from secateur.trainers.modalities.rows import Batches, batches_of

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    from PIL import Image

Decode = Callable[[Any], "Image.Image | None"]
"""A stored cell, `{"bytes", "path"}` or a picture, to a picture; None where it is broken."""


class ImageEncoding(BaseModel):
    """How images become arrays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Annotated[
        tuple[int, int] | None, Field(description="height and width; those of the first training image if left out")
    ] = None


@dataclass(frozen=True)
class ImageEncoder:
    """Images of one size (bilinear where they have another), of one channel or three.

    Undecodable images become zeros: the data check names their rows.
    """

    column: str
    height: int
    width: int
    channels: int
    decode: Decode

    @classmethod
    def fit(
        cls, rows: "Batches | datasets.Dataset", column: str, encoding: ImageEncoding, decode: Decode
    ) -> "ImageEncoder":
        """Size and channels of the first image that can be decoded; raises ValueError where none can."""
        found = (decode(cell) for table in batches_of(rows, [column]) for cell in table[column].to_pylist())
        first = next((image for image in found if image is not None), None)
        if first is None:
            raise ValueError(f"column {column!r}: no training image can be decoded")
        height, width = encoding.size or (first.height, first.width)
        return cls(column, height, width, 1 if first.mode.split(";")[0] in ("1", "L", "LA", "I", "F") else 3, decode)

    @property
    def model_settings(self) -> dict[str, Any]:
        return {"kind": "numbers"}

    @property
    def names(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height, self.width, self.channels)

    dtype = np.dtype(np.uint8)

    def encode_batch(self, table: "pa.Table", first: int = 0) -> UInt8[np.ndarray, "b height width channels"]:
        """Pixels of every row."""
        pixels = np.zeros((table.num_rows, *self.shape), np.uint8)
        for row, cell in enumerate(table[self.column].to_pylist()):
            image = self.decode(cell)
            if image is not None:
                pixels[row] = self.array_of(image)
        return pixels

    def array_of(self, image: "Image.Image") -> UInt8[np.ndarray, "height width channels"]:
        if image.mode.startswith("I;16"):
            from PIL import Image

            # Conversion would clip everything above 255 to white.
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert("L" if self.channels == 1 else "RGB")
        if image.size != (self.width, self.height):
            image = image.resize((self.width, self.height), resample=2)
        return np.asarray(image).reshape(self.height, self.width, self.channels)

    def facts(self, rows: "Batches | datasets.Dataset") -> dict[str, Any]:
        return {}

    def save(self, folder: Path) -> None:
        """Write `encoding.json`."""
        learned = {name: getattr(self, name) for name in ("column", "height", "width", "channels")}
        (folder / "encoding.json").write_text(json.dumps({"encoder": "image"} | learned) + "\n")


def decode_cell(cell: Any) -> "Image.Image | None":
    """A stored picture upright, palettes expanded; None where it cannot be read."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        source = io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"]
        image: Image.Image = Image.open(source)
        image.load()
        return ImageOps.exif_transpose(image.convert("RGB") if image.mode in ("P", "PA") else image)
    except (OSError, UnidentifiedImageError, TypeError, AttributeError, SyntaxError, ValueError):
        return None
