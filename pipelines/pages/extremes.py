"""The highest and lowest samples of a score: thumbnails of images, rows of text and tables."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from secateur.pipelines.data.stored_targets import shown_targets
from secateur.pipelines.files.shown_text import in_markdown
from secateur.pipelines.pages.previews import Previews, names_of, previewed, rows_at
from secateur.scorers.contract import Scores
from secateur.selectors.draws.ranks import Ordered

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 10
SIDE = 56
"""Pixels of a thumbnail."""
LARGE = 112
"""Most pixels of the longer side of a picture in a list; smaller pictures keep their size."""
EXPLAIN = "`secateur explain MANIFEST SAMPLE` says why a selection kept or dropped one of them."
LARGEST = 40_000
"""Most bytes of a lossless strip; a larger one becomes lossy, because the event log stores it."""


def ends(values: Ordered, count: int = SHOWN) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the lowest and of the highest scores, each starting with the most extreme."""
    count = min(count, len(values))
    low = np.argpartition(values, count - 1)[:count]
    high = np.argpartition(values, len(values) - count)[-count:]
    return low[np.argsort(values[low], kind="stable")], high[np.argsort(-values[high], kind="stable")]


def extremes(
    values: Scores,
    inputs: np.ndarray,
    samples: pl.LazyFrame,
    task: Mapping[str, Any],
    files: Sequence[str] = (),
    previews: Previews | None = None,
) -> str:
    """Markdown of both ends of a score, with sample names for `secateur explain`: pictures for images, otherwise a
    table of previews.

    `task` is the `Task.state` for showing targets.
    """
    low, high = ends(values)
    if inputs.ndim == 4 and inputs.dtype == np.uint8:
        shown = [
            f"{title}\n\n{strip(inputs[np.sort(rows)][np.argsort(np.argsort(rows))], title)}\n\n"
            + caption(described(rows, values, samples, task, files, None))
            for title, rows in (("Highest", high), ("Lowest", low))
        ]
        return "\n\n".join([*shown, EXPLAIN])
    table = described(np.concatenate([high, low]), values, samples, task, files, previews)
    lines = ["| score | sample | label | sample in words |", "| ---: | --- | --- | --- |"]
    for score, place, name, preview in table.iter_rows():
        lines.append(f"| {score:.4g} | {in_markdown(place)} | {in_markdown(name)} | {in_markdown(preview)} |")
    lines.insert(2 + len(high), "| … | | | |")
    return "\n".join([*lines, "", EXPLAIN])


def described(
    rows: np.ndarray,
    values: Scores,
    samples: pl.LazyFrame,
    task: Mapping[str, Any],
    files: Sequence[str],
    previews: Previews | None,
) -> pl.DataFrame:
    """Score, name for `secateur explain`, target and preview of the given rows, in their order."""
    shown = rows_at(samples, rows)
    texts = previewed(shown, previews)
    targets = shown_targets(shown, task)
    places = names_of(shown, files)
    return pl.DataFrame({"score": values[rows].astype(np.float64), "place": places, "label": targets, "preview": texts})


def caption(table: pl.DataFrame) -> str:
    return "sample (label, score): " + ", ".join(
        f"{in_markdown(place)} ({in_markdown(name)}, {score:.3g})" for score, place, name, _ in table.iter_rows()
    )


def picture_of(pixels: np.ndarray) -> "Image":
    """An RGB picture of pixels, uint8 `[height, width, channels]`."""
    from PIL import Image

    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    if pixels.max() <= 16:  # scikit-learn's digits count to 16 instead of 255
        picture = picture.point(lambda value: min(255, value * 16))
    return picture


def fitted(picture: "Image", side: int) -> "Image":
    """The picture, scaled so that its longer side has `side` pixels."""
    from PIL import Image

    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def encoded(picture: "Image") -> bytes:
    """A small picture as PNG or WebP, whichever is smaller in bytes; larger pictures are scaled down."""
    if max(picture.size) > LARGE:
        picture = fitted(picture, LARGE)
    contents = [io.BytesIO(), io.BytesIO()]
    picture.save(contents[0], "png", optimize=True)
    picture.save(contents[1], "webp", quality=80)
    return min((content.getvalue() for content in contents), key=len)


def strip(images: np.ndarray, title: str) -> str:
    """Inline image of thumbnails side by side, background transparent; images uint8 `[k, height, width, channels]`.

    PNG if that is small, otherwise WebP.
    """
    from PIL import Image

    sheet = Image.new("RGBA", (len(images) * (SIDE + 4), SIDE))
    for place, pixels in enumerate(images):
        picture = fitted(picture_of(pixels), SIDE)
        sheet.paste(picture, (place * (SIDE + 4), (SIDE - picture.height) // 2))
    content, kind = io.BytesIO(), "png"
    sheet.save(content, kind)
    if content.tell() > LARGEST:
        content, kind = io.BytesIO(), "webp"
        sheet.save(content, kind, quality=80)
    return f"![{title}](data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()})"
