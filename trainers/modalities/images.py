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

if TYPE_CHECKING:
    import datasets
    from PIL import Image

Decode = Callable[[Any], "Image.Image | None"]
"""A stored cell, `{"bytes", "path"}` or a picture, to a picture; None where it is broken."""

BATCH = 256


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
    def fit(cls, rows: "datasets.Dataset", column: str, encoding: ImageEncoding, decode: Decode) -> "ImageEncoder":
        """Size and channels of the first image that can be decoded; raises ValueError where none can."""
        found = (decode(cell) for batch in cells(rows, column, 1) for cell in batch)
        first = next((image for image in found if image is not None), None)
        if first is None:
            raise ValueError(f"column {column!r}: no training image can be decoded")
        height, width = encoding.size or (first.height, first.width)
        return cls(column, height, width, 1 if first.mode.split(";")[0] in ("1", "L", "LA", "I", "F") else 3, decode)

    @property
    def model_settings(self) -> dict[str, Any]:
        return {"kind": "numbers"}

    def encode(self, rows: "datasets.Dataset") -> UInt8[np.ndarray, "n height width channels"]:
        """Pixels of every row."""
        pixels = np.zeros((len(rows), self.height, self.width, self.channels), np.uint8)
        row = 0
        for batch in cells(rows, self.column, BATCH):
            for cell in batch:
                image = self.decode(cell)
                if image is not None:
                    pixels[row] = self.array_of(image)
                row += 1
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

    def facts(self, rows: "datasets.Dataset") -> dict[str, Any]:
        return {}

    def save(self, folder: Path) -> None:
        """Write `encoding.json`."""
        learned = {name: getattr(self, name) for name in ("column", "height", "width", "channels")}
        (folder / "encoding.json").write_text(json.dumps({"encoder": "image"} | learned) + "\n")


def cells(rows: "datasets.Dataset", column: str, size: int) -> Any:
    """The column's stored cells, not decoded, in batches."""
    import datasets

    stored = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    return (batch[column] for batch in stored.iter(batch_size=size))


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
