"""The highest and lowest samples of a score: thumbnails of images, rows of text and tables."""

import base64
import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.targets import shown_targets
from secateur.scorers.contract import Scores

SHOWN = 10
SIDE = 56
"""Pixels of a thumbnail."""
PREVIEW = 120
"""Characters of a preview."""
LARGEST = 40_000
"""Bytes of a strip without loss; a larger one is stored with loss, for it lives in the event log."""


def previews(rows: Any, columns: Columns) -> pl.Series:
    """What a reader sees of each sample in a table: the text, or `column=value` of features; null for images."""
    if columns.image is not None:
        return pl.Series("preview", [None] * len(rows), dtype=pl.String)
    if columns.text is not None:
        texts = [None if text is None else " ".join(text.split()) for text in rows[columns.text]]
    else:
        parts = {name: rows[name][:] for name in columns.inputs}
        values = zip(*parts.values(), strict=True)
        texts = [", ".join(f"{name}={value}" for name, value in zip(parts, row, strict=True)) for row in values]
    cut = [text if text is None or len(text) <= PREVIEW else f"{text[: PREVIEW - 1]}…" for text in texts]
    return pl.Series("preview", cut, dtype=pl.String)


def ends(values: Scores, count: int = SHOWN) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the lowest and of the highest scores, each from the extreme inwards."""
    count = min(count, len(values))
    low = np.argpartition(values, count - 1)[:count]
    high = np.argpartition(values, len(values) - count)[-count:]
    return low[np.argsort(values[low], kind="stable")], high[np.argsort(-values[high], kind="stable")]


def extremes(values: Scores, inputs: np.ndarray, samples: pl.LazyFrame, task: Mapping[str, Any]) -> str:
    """Markdown of both ends of a score: pictures for images, otherwise a table of previews.

    `task` is the `Task.state` that shows targets.
    """
    low, high = ends(values)
    if inputs.ndim == 4 and inputs.dtype == np.uint8:
        return "\n\n".join(
            f"{title}\n\n{strip(inputs[np.sort(rows)][np.argsort(np.argsort(rows))], title)}\n\n"
            + caption(rows, values, samples, task)
            for title, rows in (("Highest", high), ("Lowest", low))
        )
    shown = np.concatenate([high, low])
    table = described(shown, values, samples, task)
    lines = ["| score | label | sample |", "| ---: | --- | --- |"]
    for score, name, preview in table.iter_rows():
        lines.append(f"| {score:.4g} | {plain_text(name)} | {plain_text(preview or '')} |")
    lines.insert(2 + len(high), "| … | | |")
    return "\n".join(lines)


def described(rows: np.ndarray, values: Scores, samples: pl.LazyFrame, task: Mapping[str, Any]) -> pl.DataFrame:
    """Score, target and preview of some rows, in their order."""
    wanted = pl.LazyFrame({"row": rows.astype(np.int64), "score": values[rows].astype(np.float64)})
    found = wanted.join(samples, on="row", how="left", maintain_order="left").collect()
    targets = shown_targets(found, task)
    return pl.DataFrame({"score": found["score"], "label": targets, "preview": found["preview"]})


def caption(rows: np.ndarray, values: Scores, samples: pl.LazyFrame, task: Mapping[str, Any]) -> str:
    table = described(rows, values, samples, task)
    return "row (label, score): " + ", ".join(
        f"{row} ({plain_text(name)}, {score:.3g})"
        for row, (score, name, _) in zip(rows, table.iter_rows(), strict=True)
    )


def plain_text(text: str) -> str:
    """Text from data as Markdown that shows it and does nothing else: no markup, links or pictures."""
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")


def strip(images: np.ndarray, title: str) -> str:
    """Thumbnails side by side on transparent ground, inline; images uint8 `[k, height, width, channels]`.

    PNG where that is small, otherwise WebP.
    """
    from PIL import Image

    sheet = Image.new("RGBA", (len(images) * (SIDE + 4), SIDE))
    for place, pixels in enumerate(images):
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
        if pixels.max() <= 16:  # scikit-learn's digits count to 16 instead of 255
            picture = picture.point(lambda value: min(255, value * 16))
        scale = SIDE / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        sheet.paste(picture.resize(size, resample), (place * (SIDE + 4), (SIDE - size[1]) // 2))
    content, kind = io.BytesIO(), "png"
    sheet.save(content, kind, optimize=True)
    if content.tell() > LARGEST:
        content, kind = io.BytesIO(), "webp"
        sheet.save(content, kind, quality=80)
    return f"![{title}](data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()})"
