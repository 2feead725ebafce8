"""The one decoder of pictures for hashes, previews and encodings.

A decoded picture is upright, with expanded palette and composited transparency, in one of four modes: `L` and `RGB` (8
bits), `I` (whole numbers of 16 or 32 bits, int32) and `F` (float32). It keeps its size and its values.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

GREY = ("1", "L", "LA", "La", "I", "F")
"""Modes of pictures without colour, without the byte order behind a semicolon."""
DEEP = ("I", "F")
"""Modes of decoded pictures with values of no fixed range."""

MOVING = ("GIF", "WEBP", "PNG", "AVIF", "TIFF")
"""Formats with frames that are separate pictures; frames of other formats are layers, sizes and previews of one."""

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
"""First bytes of files in the usual formats."""
NEAR, FEW = 32, 0.05
"""Distance below which content resembles a background, of 255, and the largest share of such content."""
BACKGROUNDS = (255, 0, 128)
UNSIGNED, SAMPLE_FORMAT = 1, 339
"""The value of a TIFF's tag for unsigned integers, and the number of this tag."""

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
"""Exceptions of Pillow's readers on bytes that are no image; Pillow has no common class for them."""
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode_image(cell: Any) -> Image.Image | None:
    """The picture in a cell of an image column, or None where `image_or_fault` gives a reason."""
    picture = image_or_fault(cell)
    return None if isinstance(picture, str) else picture


def image_or_fault(cell: Any) -> Image.Image | str:
    """The picture in a cell of an image column, `{"bytes", "path"}` or a PIL image, or the reason why there is none.

    There is none for a null, a path without a file, bytes that are no picture, zero width or height, more pixels than
    Pillow's limit, several frames, values that Pillow would change (colours of 16 bits, whole numbers from 2^31 on),
    and values that are infinite or NaN.
    """
    with quiet():
        return decoded(cell)


def decoded(cell: Any) -> Image.Image | str:
    """As `image_or_fault`, for callers inside `quiet`."""
    if not isinstance(cell, Image.Image) and (cell is None or (cell["bytes"] is None and not cell["path"])):
        return "image is missing"
    path = None if isinstance(cell, Image.Image) else cell["path"]
    name = f"image {path!r}" if path else "image"
    try:
        opened = opened_image(cell)
        if opened is None:
            return f"{name} is not there"
        if opened.format in MOVING and getattr(opened, "is_animated", False):
            return f"{name} holds {opened.n_frames} frames, of which one would be read: save the one that counts"  # type: ignore[attr-defined]
        if loses_bits(opened):
            return f"{name} has colours of 16 bits, of which 8 would be lost: save it with 8 bits, or in grey"
        opened.load()
        if opened.format == "PNG" and not opened.info and opened.mode in ("L", "RGB"):
            return opened  # Without metadata there is neither an orientation nor transparency.
        picture = plain(opened)
        reason = unusable(opened, picture)
    except BOMBS:
        return f"{name} unpacks to more than {Image.MAX_IMAGE_PIXELS:,} pixels: scale it down"
    except DECODING_FAILS:
        return f"{name} cannot be decoded"
    return picture if reason is None else f"{name} {reason}"


def opened_image(cell: Any) -> Image.Image | None:
    """Open the picture in a cell: reads its header, not its pixels; None without bytes.

    Raises one of `DECODING_FAILS`.
    """
    if isinstance(cell, Image.Image):
        return cell
    data = image_bytes(cell)
    if data is None:
        return None
    if not data:
        raise OSError("no bytes")
    if data.startswith(PNG):
        # Of a small picture `Image.open` takes longer to find the reader than the reader takes for the header.
        opened = PngImagePlugin.PngImageFile(io.BytesIO(data))
        if Image.MAX_IMAGE_PIXELS is not None and opened.width * opened.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError(f"{opened.width} x {opened.height} pixels")
        return opened
    # Pillow would ask the reader of every format in turn; JPEG's knows its files by the first bytes.
    return Image.open(io.BytesIO(data), formats=("JPEG",) if data.startswith(JPEG) else None)


def mode_in_header(cell: Any) -> str | None:
    """The mode in a cell's header, without the byte order; None if there is no usable picture."""
    try:
        with quiet():
            opened = opened_image(cell)
            return None if opened is None or loses_bits(opened) else mode_of(opened)
    except (*DECODING_FAILS, *BOMBS):
        return None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's warnings, except that of a decompression bomb, which becomes an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def image_bytes(cell: Any) -> bytes | None:
    """Encoded bytes of an image cell; None for a null and for a path without a file."""
    if cell is None:
        return None
    if cell["bytes"] is not None:
        return cast(bytes, cell["bytes"])
    path = cell["path"]
    return Path(path).read_bytes() if path and Path(path).is_file() else None


def loses_bits(opened: Image.Image) -> bool:
    """Whether Pillow would cut the values of a picture to 8 bits, from its header."""
    # The arguments of Pillow's decoders name the layout of the values, and the largest value of a PPM.
    details = [tile[3] for tile in getattr(opened, "tile", ())]
    if opened.format == "PNG" and details == [opened.mode]:  # A shortcut for the usual case.
        return False
    layouts = [str(part) for held in details for part in (held if isinstance(held, tuple | list) else (held,))]
    deep = any(";16" in part or (part.isdecimal() and int(part) > 255 and opened.format == "PPM") for part in layouts)
    return deep and mode_of(opened) not in DEEP


def plain(opened: Image.Image) -> Image.Image:
    """Make a loaded picture upright and opaque, in one of the four modes."""
    picture: Image.Image = opened
    if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    mode = mode_of(picture)
    if mode in DEEP:
        # 16 bits are I;16 in a PNG, and I in a PGM: the same values are one picture.
        return picture if picture.mode == mode else Image.fromarray(np.asarray(picture).astype(np.int32))
    if picture.has_transparency_data or mode in ("La", "RGBa"):
        grey = mode in GREY
        picture = composited(picture.convert("LA" if mode in ("LA", "La") else "RGBA"), grey)
    wanted = "L" if mode in GREY else "RGB"
    return picture if picture.mode == wanted else picture.convert(wanted)


def mode_of(picture: Image.Image) -> str:
    """The mode of a picture without the byte order."""
    return picture.mode.split(";")[0]


def composited(picture: Image.Image, grey: bool) -> Image.Image:
    """Composite a picture of mode `LA` or `RGBA` onto a background that contrasts with its visible content.

    The background is the first of white, black and grey that at most a twentieth of the content resembles, else the one
    that the content resembles least. Invisible pixels do not count.
    """
    values = np.asarray(picture)
    alpha = values[..., -1].astype(np.float64) / 255
    if alpha.min(initial=1.0) < 1.0:
        ground = BACKGROUNDS[0] if not alpha.any() else ground_for(values[..., :-1], alpha)
        colours = np.rint(values[..., :-1] * alpha[..., None] + ground * (1 - alpha[..., None])).astype(np.uint8)
    else:
        colours = values[..., :-1]
    return Image.fromarray(np.ascontiguousarray(colours[..., 0] if grey else colours))


def ground_for(colours: UInt8[np.ndarray, "h w c"], alpha: Float64[np.ndarray, "h w"]) -> int:
    """The background's value in all channels."""
    low, high = colours.min(axis=-1).astype(np.int64), colours.max(axis=-1).astype(np.int64)
    alike = [float(alpha[(high - NEAR < ground) & (low + NEAR > ground)].sum() / alpha.sum()) for ground in BACKGROUNDS]
    fit = [ground for ground, share in zip(BACKGROUNDS, alike, strict=True) if share <= FEW]
    return fit[0] if fit else BACKGROUNDS[int(np.argmin(alike))]


def unusable(opened: Image.Image, picture: Image.Image) -> str | None:
    """The reason why a decoded picture has no values, or other ones than its file; None if it is usable."""
    if not picture.width or not picture.height:
        return "is empty"
    if picture.mode == "F" and not np.isfinite(np.asarray(picture)).all():
        return "holds values that are infinite or no numbers: replace them"
    tags = getattr(opened, "tag_v2", None)
    if picture.mode == "I" and tags is not None and np.asarray(picture).min() < 0:
        kind = tags.get(SAMPLE_FORMAT, UNSIGNED)
        if (kind[0] if isinstance(kind, tuple) else kind) == UNSIGNED:
            return "holds whole numbers from 2^31 on, which Pillow reads as negative ones: save it as floats"
    return None
