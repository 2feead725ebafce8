"""Thumbnails of pictures of any size, and their views, whole and cropped, as whitened vectors.

A crop is a linear map of the pixels, so that all crops of many thumbnails are two matrix products. Views are normalised
to mean 0 and length 1, which removes brightness and contrast, and whitened by the principal components of the data:
features that most pictures share, such as a pale object on black, then count little (as in SSCD, Pizzi et al., CVPR
2022). A component counts less the more of its variance is JPEG's error.
"""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped, UInt8, UInt64

if TYPE_CHECKING:
    from PIL import Image

SIDE, SMALL = 32, 14
"""Pixels along a side of a thumbnail, and of a view of it."""

CROP = 0.05
"""Share of a side that a cropped view leaves out."""

PLACES = 5
"""Places along a side where a crop begins."""

VIEWS = 2 + PLACES**2
"""The whole, the middle without the crop's share on each side, and crops at all places."""

ASKED = (0, 1, 2, 6, 14, 22, 26)
"""Views in the search for candidates: the whole, the middle, and crops at the corners and in the middle."""

COMPONENTS = 128
"""Most principal components."""

FITTED = 20_000
"""Most pictures in the computation of these."""

ENCODED, QUALITY = 512, 75
"""Pictures encoded as JPEG to measure its changes, and the quality of JPEG."""


@dataclass(frozen=True)
class Thumbnails:
    """Pictures resized to 32 x 32 pixels, uint8 `[n, 32, 32, c]` with c = 1 (grey) or 3, and hashes of their original
    pixels."""

    pixels: UInt8[np.ndarray, "n side side c"]
    keys: UInt64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: Int64[np.ndarray, " m"]) -> "Thumbnails":
        """Some of them."""
        return Thumbnails(self.pixels[rows], self.keys[rows])


def thumbnails(pictures: "Shaped[np.ndarray, 'n h w *c'] | Iterable[Any]") -> Thumbnails:
    """Thumbnails of uint8 arrays `[h, w]` or `[h, w, c]` or PIL images, one by one; keeps 3 kB of each.

    Raises ValueError that names the row of a picture of another form.
    """
    small, keys, grey = [], [], True
    for row, picture in enumerate(pictures):
        image = as_image(picture, row)
        keys.append(pixel_key(image))
        thumbnail = image if image.size == (SIDE, SIDE) else image.resize((SIDE, SIDE), resample=3)  # bicubic
        pixels = np.asarray(thumbnail).reshape(SIDE, SIDE, -1)
        grey &= pixels.shape[2] == 1
        small.append(pixels)
    if not small:
        return Thumbnails(np.empty((0, SIDE, SIDE, 1), np.uint8), np.empty(0, np.uint64))
    same = small if grey else [np.broadcast_to(pixels, (SIDE, SIDE, 3)) for pixels in small]
    return Thumbnails(np.stack(same), np.array(keys, np.uint64))


def pixel_key(image: "Image.Image") -> int:
    """64-bit hash of the size, the channels and the pixels."""
    digest = hashlib.blake2b(image.tobytes(), digest_size=8)
    digest.update(f"{image.size} {image.mode}".encode())
    return int.from_bytes(digest.digest(), "little")


def as_image(picture: Any, row: int) -> "Image.Image":
    """A picture as a PIL image, grey or RGB."""
    from PIL import Image

    if isinstance(picture, np.ndarray):
        shape = picture.shape
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or (picture.ndim == 3 and shape[2] not in (1, 3, 4)):
            raise ValueError(
                f"picture {row} is {picture.dtype} of shape {shape}; give uint8 [h, w] or [h, w, c] with c = 1, 3 or 4"
            )
        if 0 in shape:
            raise ValueError(f"picture {row} has shape {shape}, which holds no pixel")
        picture = Image.fromarray(picture[..., 0] if picture.ndim == 3 and shape[2] == 1 else picture)
    if not isinstance(picture, Image.Image):
        raise ValueError(f"picture {row} is a {type(picture).__name__}; give a uint8 array or a PIL image")
    return picture if picture.mode in ("L", "RGB") else picture.convert("L" if picture.mode in ("1", "LA") else "RGB")


@cache
def crop_map(start: float, stop: float) -> Float32[np.ndarray, "small side"]:
    """Matrix by which bicubic resizing of a stretch of a side, in shares of it, maps a line of pixels."""
    from PIL import Image

    eye = Image.fromarray(np.eye(SIDE, dtype=np.float32))
    box = (0, start * SIDE, SIDE, stop * SIDE)
    return np.asarray(eye.resize((SIDE, SMALL), Image.Resampling.BICUBIC, box=box), np.float32)


def raw_views(pixels: UInt8[np.ndarray, "b side side c"]) -> Float32[np.ndarray, "b v e"]:
    """All views of thumbnails, each of mean 0 and length 1 (of zeros where all pixels are equal)."""
    lines = np.ascontiguousarray(np.moveaxis(pixels, 3, 1), np.float32)
    begins = np.linspace(0, CROP, PLACES)
    whole, middle = crop_map(0.0, 1.0), crop_map(CROP, 1 - CROP)
    crops = np.concatenate([crop_map(float(at), float(at) + 1 - CROP) for at in begins])
    batch, channels = lines.shape[:2]
    views = np.empty((batch, VIEWS, channels, SMALL, SMALL), np.float32)
    for place, one in enumerate((whole, middle)):
        views[:, place] = one @ lines @ one.T
    both = (crops @ lines @ crops.T).reshape(batch, channels, PLACES, SMALL, PLACES, SMALL)
    views[:, 2:] = both.transpose(0, 2, 4, 1, 3, 5).reshape(batch, PLACES**2, channels, SMALL, SMALL)
    flat = views.reshape(batch, VIEWS, -1)
    flat -= flat.mean(axis=2, keepdims=True)
    lengths = np.linalg.norm(flat, axis=2, keepdims=True)
    return np.where(lengths > 1e-3, flat / np.maximum(lengths, 1e-3), 0).astype(np.float32)


@dataclass(frozen=True)
class Look:
    """The mean of the views of whole pictures, and the map that whitens deviations from it."""

    mean: Float32[np.ndarray, " e"]
    whitening: Float32[np.ndarray, "e d"]

    def views(self, pixels: UInt8[np.ndarray, "b side side c"]) -> Float32[np.ndarray, "b v d"]:
        """Views of thumbnails as unit vectors (zeros for pictures of one colour)."""
        raw = raw_views(pixels)
        empty = ~raw.any(axis=2)
        white = (raw - self.mean).reshape(-1, raw.shape[2]) @ self.whitening
        white = white.reshape(*raw.shape[:2], -1)
        white /= np.maximum(np.linalg.norm(white, axis=2, keepdims=True), np.float32(1e-12))
        white[empty] = 0
        return np.asarray(white, np.float32)


def look_of(pixels: UInt8[np.ndarray, "n side side c"]) -> Look:
    """Mean and whitening of thumbnails in random order, by the first 20,000."""
    blocks = [whole_views(pixels[start : start + 512]) for start in range(0, min(len(pixels), FITTED), 512)]
    whole = np.concatenate(blocks)[:FITTED]
    mean = whole.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(whole - mean, rowvar=False, dtype=np.float64))
    values, vectors = values[::-1], vectors[:, ::-1]
    most = min(COMPONENTS, max(1, len(whole) // 4))
    kept = max(1, int((values[:most] > 1e-6 * max(values[0], 1e-30)).sum()))
    values, vectors = np.maximum(values[:kept], 1e-30), vectors[:, :kept]
    whitening = vectors / np.sqrt(values) * (values / (values + changed_by_jpeg(pixels[:ENCODED], vectors)))
    return Look(mean, whitening.astype(np.float32))


def changed_by_jpeg(
    pixels: UInt8[np.ndarray, "n side side c"], vectors: Float64[np.ndarray, "e d"]
) -> Float64[np.ndarray, " d"]:
    """Mean squared change by JPEG in each component of whole views."""
    from PIL import Image

    encoded = np.empty_like(pixels)
    for row, picture in enumerate(pixels):
        buffer = io.BytesIO()
        Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture).save(buffer, "JPEG", quality=QUALITY)
        encoded[row] = np.asarray(Image.open(buffer)).reshape(picture.shape)
    return np.asarray((((whole_views(encoded) - whole_views(pixels)) @ vectors) ** 2).mean(axis=0))


def whole_views(pixels: UInt8[np.ndarray, "b side side c"]) -> Float32[np.ndarray, "b e"]:
    """The views of whole thumbnails."""
    return raw_views(pixels)[:, 0]
