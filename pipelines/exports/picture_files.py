"""Pictures as files: the bytes and the file ending of each cell of an image column.

Encoded pictures are copied byte for byte; arrays become PNG.
"""

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from secateur.pipelines.exports.selected import Selected
from secateur.pipelines.files.whole_files import link_or_copy
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.storage.folder_names import is_safe
from secateur.trainers.modalities.decoding import DECODING_FAILS

if TYPE_CHECKING:
    import datasets

ENDINGS = {
    "PNG": "png", "JPEG": "jpg", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff", "WEBP": "webp", "PPM": "ppm",
    "JPEG2000": "jp2", "ICO": "ico", "TGA": "tga",
}  # fmt: skip
"""Endings of the formats that readers of image folders and of shards know; others are encoded again as PNG."""
KNOWN = {f".{ending}" for ending in (*ENDINGS.values(), "jpeg", "tif", "pgm")}
"""Endings by which readers of image folders find pictures."""


@dataclass(frozen=True)
class Picture:
    """An encoded picture: the ending of its file, its bytes or the file that holds them, and the user's name for it."""

    ending: str
    content: bytes | Path
    name: str = ""

    @property
    def file_name(self) -> str:
        """Its own name, with an ending that readers know; empty where it has none, or an unsafe one."""
        own = Path(self.name)
        name = self.name if own.suffix.lower() in KNOWN else f"{own.stem}.{self.ending}"
        return name if own.stem and is_safe(name) else ""

    def bytes(self) -> bytes:
        """The encoded picture."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()

    def place(self, path: Path, *, link: bool) -> None:
        """Write the picture to a new file; with `link` as a hard link to its file, where the file system has them."""
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
            return
        if link:
            link_or_copy(self.content.resolve(), path)
            return
        shutil.copyfile(self.content, path)


def picture_column(selected: Selected) -> str:
    """Name of the column of pictures; ManifestError where there is none or more than one is possible."""
    import datasets

    features = selected.data.features
    if selected.columns is not None and selected.columns.image is not None:
        return str(selected.columns.image)
    arrays = (datasets.Image, datasets.Array2D, datasets.Array3D)
    candidates = [name for name, feature in features.items() if isinstance(feature, arrays)]
    if len(candidates) != 1:
        none = f"of {', '.join(features)} none holds images"
        fault = f"columns {', '.join(candidates)} all hold images" if candidates else none
        raise ManifestError(f"an image folder needs one column of images: {fault}")
    return str(candidates[0])


def undecoded(dataset: "datasets.Dataset", column: str) -> "datasets.Dataset":
    """The data set with its image column as cells of `{"bytes", "path"}`; columns of arrays are unchanged."""
    import datasets

    feature = dataset.features[column]
    if isinstance(feature, datasets.Array2D | datasets.Array3D | datasets.List):
        return dataset
    return dataset.cast_column(column, datasets.Image(decode=False))


def pictures(selected: Selected, column: str) -> Iterator[tuple[int, Picture, dict[str, Any]]]:
    """Position among the kept rows, picture and other columns of each kept sample.

    Raises ManifestError that names the row of a picture that is missing, cannot be decoded, or lies in the export's
    place.
    """
    place = selected.target.resolve()
    for part, table in selected.blocks(undecoded(selected.data, column)):
        cells, others = table.column(column).to_pylist(), table.drop_columns([column]).to_pylist()
        for position, cell, other in zip(range(part.start, part.stop), cells, others, strict=True):
            picture = picture_of(cell, f"{selected.located.said(position)}, column {column!r}", selected.folder)
            if isinstance(picture.content, Path) and picture.content.resolve().is_relative_to(place):
                raise ManifestError(f"{selected.target} holds {picture.content}, which is read here; name another")
            yield position, picture, other


def picture_of(cell: Any, where: str, folder: Path) -> Picture:
    """The encoded picture of a cell: bytes, a path from a folder, or an array uint8 `[h, w]` or `[h, w, 1 | 3 | 4]`."""
    if not isinstance(cell, dict):
        return Picture("png", _png_of_array(cell, where))
    content: bytes | Path | None = cell["bytes"]
    name = Path(cell["path"] or "").name
    if content is None and cell["path"]:
        content = folder / cell["path"]
        if not (folder / cell["path"]).is_file():
            raise ManifestError(f"{where}: there is no file {cell['path']}")
    if content is None:
        raise ManifestError(f"{where}: the image is missing")
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as opened:
            ending = ENDINGS.get(opened.format or "")
            if ending is not None:
                return Picture(ending, content, name)
            file = io.BytesIO()
            opened.save(file, "PNG")
    except DECODING_FAILS as error:
        raise ManifestError(f"{where}: the image cannot be decoded ({error}); remove or repair it") from error
    return Picture("png", file.getvalue(), f"{Path(name).stem}.png" if name else "")


def _png_of_array(cell: Any, where: str) -> bytes:
    if cell is None:
        raise ManifestError(f"{where}: the image is missing")
    try:
        values = np.asarray(cell)
        pixels = values.astype(np.uint8)
        if values.dtype == object or not np.array_equal(pixels, values):
            raise ValueError("values are whole numbers 0 … 255")
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(file, "PNG")
    except (TypeError, ValueError, OverflowError) as error:
        raise ManifestError(f"{where}: the array is no image ({error}); scale it to 0 … 255") from error
    return file.getvalue()
