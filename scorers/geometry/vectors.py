"""Embeddings for a search: checked once, read by blocks, and compared without cancellation."""

from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from secateur.scorers.contract import rows_text

Metric = Literal["euclidean", "cosine"]

VIEW = "embeddings of one checkpoint (eval mode, not augmented)"
"""The view that scorers of embeddings declare."""

BLOCK_BYTES = 1 << 21
"""Bytes of float32 that a pass over rows reads at a time: they stay in a core's cache."""

LONGEST = 1e18
"""Euclidean norm above which the squared distance of two rows may overflow float32."""

SUMMED_IN_FLOAT32 = 64
"""Squares added in float32 before the sums go on in float64: a few roundings, at four times float64's speed."""


class Vectors:
    """Embeddings, float16 or float32 `[n, d]`, in memory or memory-mapped, and a metric.

    `prepared` rows are float32 and suit a matrix product: normalised for cosine; for euclidean centred on the mean,
    which removes most of the cancellation in |a|² + |b|² - 2ab, and scaled by a power of two, which prevents
    overflow. `distances` subtracts the original rows instead and sums squares in float64, 64 at a time.

    Raises TypeError for another dtype and ValueError that names rows with NaN or infinity, of a norm
    above 1e18, or, for cosine, of zeros.
    """

    def __init__(self, embeddings: Shaped[np.ndarray, "n d"], metric: Metric) -> None:
        if embeddings.dtype not in (np.float16, np.float32):
            raise TypeError(f"embeddings are {embeddings.dtype}; store them as float32 or float16")
        if 0 in embeddings.shape:
            raise ValueError(f"embeddings have shape {embeddings.shape}; at least one row and one column is needed")
        self.source = embeddings
        self.metric = metric
        self.samples: int = embeddings.shape[0]
        self.dimensions: int = embeddings.shape[1]
        self.norms = self._checked()
        self.mean = self._mean() if metric == "euclidean" else np.zeros(self.dimensions)
        self.scale = self._scale() if metric == "euclidean" else 1.0

    def spans(self) -> list[slice]:
        """Slices that cover all rows, a block each."""
        step = max(1, BLOCK_BYTES // (4 * self.dimensions))
        return [slice(start, min(start + step, self.samples)) for start in range(0, self.samples, step)]

    def prepared(self, rows: slice | Int64[np.ndarray, " b"]) -> Float32[np.ndarray, "b d"]:
        """Rows ready for a matrix product, float32 `[b, d]`, a fresh array."""
        block = np.asarray(self.source[rows]).astype(np.float32)
        if self.metric == "cosine":
            block /= self.norms[rows, None]
            return block
        block -= self.mean.astype(np.float32)
        block *= np.float32(self.scale)
        return block

    def distances(
        self, rows: Int64[np.ndarray, " b"], candidates: Int64[np.ndarray, "b c"]
    ) -> Float32[np.ndarray, "b c"]:
        """Distance of each row to each of its candidates, float32 `[b, c]`: |a - b|, or 1 - cosine = |â - b̂|² / 2."""
        result = np.empty(candidates.shape, np.float32)
        step = max(1, BLOCK_BYTES // (4 * self.dimensions * max(1, candidates.shape[1])))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            others = self._comparable(candidates[part])
            others -= self._comparable(rows[part])[:, None]
            squares = squared_lengths(others)
            result[part] = np.sqrt(squares) if self.metric == "euclidean" else squares / 2
        return result

    def squared(self, distances: Float32[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
        """The squared distance between prepared rows."""
        wide = distances.astype(np.float64)
        return 2 * wide if self.metric == "cosine" else (wide * self.scale) ** 2

    def _comparable(self, rows: Int64[np.ndarray, "..."]) -> Float32[np.ndarray, "... d"]:
        block = np.asarray(self.source[rows]).astype(np.float32, copy=False)
        if self.metric == "cosine":
            block /= self.norms[rows][..., None]
        return block

    def _checked(self) -> Float32[np.ndarray, " n"]:
        """Euclidean norm of each row, float32 `[n]`; raises ValueError for unusable rows."""
        norms = np.empty(self.samples, np.float32)
        for span in self.spans():
            with np.errstate(over="ignore", invalid="ignore"):
                norms[span] = np.sqrt(squared_lengths(np.asarray(self.source[span]).astype(np.float32, copy=False)))
        # A huge row overflows to infinity like an infinite one: a check of the few suspects tells them apart.
        suspects = np.flatnonzero(~(norms <= LONGEST))
        broken = np.array([not np.isfinite(self.source[row]).all() for row in suspects], bool)
        for fault, rows in (("NaN or infinite", suspects[broken]), (f"longer than {LONGEST:g}", suspects[~broken])):
            if len(rows):
                raise ValueError(f"embeddings are {fault} at {rows_text(rows)}; repair or drop them first")
        zeros = np.flatnonzero(norms == 0)
        if self.metric == "cosine" and len(zeros):
            raise ValueError(
                f"cosine of a row of zeros is undefined, at {rows_text(zeros)}; drop them or use euclidean"
            )
        return norms

    def _mean(self) -> np.ndarray:
        total = np.zeros(self.dimensions)
        for span in self.spans():
            total += np.asarray(self.source[span]).sum(axis=0, dtype=np.float64)
        return np.asarray(total / self.samples)

    def _scale(self) -> float:
        """A power of two that brings every centred row to a length of at most 1."""
        longest = float(self.norms.max()) + float(np.linalg.norm(self.mean))
        return float(2.0 ** -np.ceil(np.log2(longest))) if longest > 0 else 1.0


def squared_lengths(vectors: Float32[np.ndarray, "... d"]) -> np.ndarray:
    """Squared Euclidean length along the last axis, float64."""
    total = np.zeros(vectors.shape[:-1])
    for start in range(0, vectors.shape[-1], SUMMED_IN_FLOAT32):
        part = vectors[..., start : start + SUMMED_IN_FLOAT32]
        total += np.vecdot(part, part)
    return total
