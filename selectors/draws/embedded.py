"""Embeddings for selectors: distances to one point without cancellation, unit rows, spherical clusters."""

from functools import partial

import numpy as np
from jaxtyping import Float16, Float32, Float64, Int64, Num, UInt64

from secateur.selectors.draws.blocks import over_blocks
from secateur.selectors.sizes import Sizes

Embeddings = Float32[np.ndarray, "n d"] | Float16[np.ndarray, "n d"]
"""One vector per sample, in memory or memory-mapped."""

BLOCK_BYTES = 1 << 22
PRODUCTS = 1 << 25
"""Bytes of the products of two blocks of unit rows, whatever the number of samples."""


class SquaredDistances:
    """Squared Euclidean distances of all samples to one point after another, in one buffer of `[n]`."""

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = embeddings
        self.found = np.empty(len(embeddings), np.float32)

    def to(self, point: Num[np.ndarray, " d"]) -> Float32[np.ndarray, " n"]:
        """Distances to a point, which the next call overwrites; raises ValueError where float32 cannot hold one.

        Differences are squared, as FAISS's kernel does, so equal rows are at distance 0 exactly.
        """
        size = max(1, BLOCK_BYTES // (4 * len(point)))
        measure = partial(measure_block, self.embeddings, np.ascontiguousarray(point, np.float32), self.found)
        over_blocks(len(self.found), measure, size)
        if not np.isfinite(self.found.max()):
            raise ValueError("squared distances of 'embeddings' overflow float32; scale the embeddings down")
        return self.found


def measure_block(
    embeddings: Embeddings, point: Float32[np.ndarray, " d"], found: Float32[np.ndarray, " n"], rows: slice
) -> None:
    """Write the squared distances of some rows to a point."""
    import faiss

    block = np.ascontiguousarray(embeddings[rows], np.float32)
    pointer = faiss.swig_ptr
    measure = faiss.fvec_L2sqr_ny  # type: ignore[attr-defined]
    measure(pointer(found[rows]), pointer(point), pointer(block), len(point), len(block))


def first_highest(values: Num[np.ndarray, " n"], keys: UInt64[np.ndarray, " n"]) -> int:
    """Row of the highest value; among equals, the one with the smallest key."""
    tied = np.flatnonzero(values == values.max())
    return int(tied[keys[tied].argmin()])


def memory_of_unit_rows(sizes: Sizes) -> int:
    """Bytes of `unit_rows` during their computation, of later numbers per sample, and of the products of two blocks."""
    return sizes.samples * (8 * sizes.dimensions + 64) + PRODUCTS


def unit_rows(embeddings: Embeddings) -> Float32[np.ndarray, "n d"]:
    """Rows of length 1; a row of zeros stays, orthogonal to all."""
    rows = embeddings.astype(np.float32)
    rows /= np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    return rows


def spherical_clusters(
    unit: Float32[np.ndarray, "n d"], count: int, *, seed: int
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Cluster of each unit row by spherical k-means, and its cosine to the centroid; at most `n` clusters."""
    import faiss

    if count < 1:
        raise ValueError(f"at least one cluster is needed, got {count}")
    clusters = min(count, len(unit))
    means = faiss.Kmeans(
        unit.shape[1], clusters, niter=25, spherical=True, seed=seed % (1 << 31), min_points_per_centroid=1
    )
    means.train(unit)
    similarity, cluster = means.index.search(unit, 1)
    return cluster[:, 0].astype(np.int64), similarity[:, 0].astype(np.float64)
