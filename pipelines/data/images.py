"""How pictures in a data set are decoded, and why one cannot be."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any, cast

from PIL import ExifTags, Image, ImageOps

DECODING_FAILS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow's readers raise on bytes that are no image; it has no class of its own for that."""


def decode_image(value: Any) -> Image.Image | None:
    """The picture in a cell of an image column, or None where there is none to be had.

    `value` is what a column of `datasets.Image(decode=False)` holds, `{"bytes", "path"}`, or a PIL image, which comes
    back as it is. Palettes are expanded to RGB or RGBA and the EXIF orientation is applied, as `datasets` does.
    None: a null, a path without a file, bytes that are no image, an image of zero width or height.
    """
    if isinstance(value, Image.Image):
        return value if value.width and value.height else None
    data = image_bytes(value)
    if data is None:
        return None
    try:
        picture: Image.Image = Image.open(io.BytesIO(data))
        picture.load()
        if picture.getexif().get(ExifTags.Base.Orientation) is not None:
            picture = ImageOps.exif_transpose(picture)
        if picture.mode in ("P", "PA"):
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    except DECODING_FAILS:
        return None
    return picture if picture.width and picture.height else None


def image_bytes(value: Any) -> bytes | None:
    """Encoded bytes of an image cell; None for a null and for a path without a file."""
    if value is None:
        return None
    if value["bytes"] is not None:
        return cast(bytes, value["bytes"])
    path = value["path"]
    return Path(path).read_bytes() if path and Path(path).is_file() else None


def image_fault(value: Any) -> str:
    """Why `decode_image` found nothing, with the file's name where there is one."""
    if value is None or (value["bytes"] is None and value["path"] is None):
        return "image is missing"
    name = f"image {value['path']!r}" if value["path"] else "image"
    return f"{name} cannot be decoded" if image_bytes(value) is not None else f"{name} is not there"
