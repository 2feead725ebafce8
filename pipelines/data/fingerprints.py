"""Content hashes as text, and the hash over all of them, which shows whether two tables hold the same samples."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xxhash

from secateur.pipelines.data.lazy import pa, pl

FINGERPRINT = "secateur:fingerprint"
"""Key of the metadata in which a table of samples holds the `fingerprint` of its content hashes."""


def ends_of(texts: pa.Array) -> np.ndarray:
    """Offset of each text in the bytes of an array, and the end of the last one, int `[n + 1]`."""
    if not len(texts):
        return np.zeros(1, np.int64)
    wide = pa.types.is_large_string(texts.type)
    ends = np.frombuffer(texts.buffers()[1], np.int64 if wide else np.int32)
    return ends[texts.offset : texts.offset + len(texts) + 1]


def text_of(texts: pa.Array) -> memoryview:
    """The concatenated texts of an array without null, UTF-8, without a copy."""
    ends = ends_of(texts)
    return memoryview(texts.buffers()[2] if ends[-1] > ends[0] else b"")[ends[0] : ends[-1]]


def fingerprint(hashes: pl.Series | pa.ChunkedArray) -> str:
    """xxh3-128 of the concatenated hexadecimal texts of content hashes, in their order: 32 hexadecimal digits."""
    digest = xxhash.xxh3_128()
    if isinstance(hashes, pa.ChunkedArray):
        parts: Iterable[pa.Array] = hashes.chunks
    else:
        starts = range(0, hashes.len(), 1 << 20)
        parts = (hashes.slice(start, 1 << 20).rechunk().to_arrow() for start in starts)
    for part in parts:
        digest.update(text_of(part))
    return str(digest.hexdigest())
