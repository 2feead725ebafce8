"""Input values of `cross_fitted` from texts and pictures: TF-IDF, and histograms of edge directions beside pixels.

Both are computed from all rows without labels, so they leak no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

WORDS, CHARACTERS = 20_000, 20_000
"""Largest numbers of terms: words with pairs of words, and sequences of three and four characters within words."""
READ = 4_000
"""Characters read of each text."""
BINS, SMALL, BLOCK, SAMPLE = 9, 16, 2048, 5000
"""Directions of edges; largest side without averaging of pixels; pictures per block; pictures that set the scales."""


def text_values(texts: Sequence[str]) -> Any:
    """TF-IDF as a float32 CSR matrix `[n, terms]`, of the first 4,000 characters of each text. A term must occur in two
    texts; a text without such a term is an empty row, and without any term there is one column of zeros per kind."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    read = [text[:READ] for text in texts]
    settings = {"sublinear_tf": True, "dtype": np.float32, "min_df": 2}
    parts = []
    for one in (
        TfidfVectorizer(ngram_range=(1, 2), max_features=WORDS, token_pattern=r"(?u)\b\w+\b", **settings),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), max_features=CHARACTERS, **settings),
    ):
        try:
            parts.append(one.fit_transform(read))
        except ValueError:  # No terms: empty texts, or texts that share none.
            parts.append(csr_matrix((len(read), 1), dtype=np.float32))
    return hstack(parts, format="csr", dtype=np.float32)


def picture_values(pictures: UInt8[np.ndarray, "n height width channels"]) -> Float32[np.ndarray, "n values"]:
    """Histograms of gradients and pixels of thumbnails of about 32 by 32, each scaled to a standard deviation of one.

    The histograms (Dalal and Triggs, CVPR 2005) are square roots over cells of an eighth of the picture, without blocks
    of cells; pixels are means of two by two where both sides are above 16. Memory: 5.4 KB for a colour picture of 32 by
    32.
    """
    height, width = pictures.shape[1:3]
    cell, step = max(2, round(min(height, width) / 8)), 2 if min(height, width) > SMALL else 1
    edges = (height // cell) * (width // cell) * BINS
    pixels = (height // step) * (width // step) * pictures.shape[3]
    values = np.empty((len(pictures), edges + pixels), np.float32)
    for start in range(0, len(pictures), BLOCK):
        block = pictures[start : start + BLOCK].astype(np.float32) / 255
        values[start : start + BLOCK, :edges] = np.sqrt(gradients(block.mean(axis=3), cell))
        values[start : start + BLOCK, edges:] = in_cells(block, step).mean(axis=(2, 4)).reshape(len(block), -1)
    for part in (slice(0, edges), slice(edges, None)):
        values[:, part] /= float(values[:SAMPLE, part].std()) or 1.0
    return values


def in_cells(
    pictures: Float32[np.ndarray, "n height width *channels"], size: int
) -> Float32[np.ndarray, "n rows size columns size *channels"]:
    """Pixels by cells; cuts off incomplete cells at the lower and right edges."""
    rows, columns = pictures.shape[1] // size, pictures.shape[2] // size
    whole = pictures[:, : rows * size, : columns * size]
    return whole.reshape(len(pictures), rows, size, columns, size, *pictures.shape[3:])


def gradients(grey: Float32[np.ndarray, "n height width"], cell: int) -> Float32[np.ndarray, "n values"]:
    """Sums of gradients by cell and direction; each gradient is split between the two nearest directions."""
    down, right = np.zeros_like(grey), np.zeros_like(grey)
    down[:, 1:-1], right[:, :, 1:-1] = grey[:, 2:] - grey[:, :-2], grey[:, :, 2:] - grey[:, :, :-2]
    size = np.hypot(down, right)
    direction = np.arctan2(down, right) % np.pi / np.pi * BINS
    found = np.zeros((len(grey), grey.shape[1] // cell, grey.shape[2] // cell, BINS), np.float32)
    for one in range(BINS):
        away = abs(direction - one - 0.5)
        share = size * np.maximum(0, 1 - np.minimum(away, BINS - away))
        found[..., one] = in_cells(share, cell).sum(axis=(2, 4))
    return found.reshape(len(grey), -1)
