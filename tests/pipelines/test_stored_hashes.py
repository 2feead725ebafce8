"""Hashes from shards, and as digits, belong to their rows, with any memory layout of the array."""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import xxhash

from secateur.pipelines.data.identity import halves_of, hex_of
from secateur.pipelines.data.scan import bytes_of, words_of


@pytest.mark.parametrize("order", ["C", "F"])
def test_hashes_are_stored_row_by_row(order: Any) -> None:
    words = np.asarray(np.random.default_rng(0).integers(0, 2**64, (5, 2), np.uint64), order=order)
    assert np.array_equal(words_of(pa.chunked_array([bytes_of(words)])), words)
    assert hex_of(words).to_pylist() == [f"{upper:016x}{lower:016x}" for upper, lower in words.tolist()]


def test_hashes_of_texts_are_those_of_xxhash() -> None:
    texts = ["a", "", "ü", "a" * 500]
    stored = bytes_of(halves_of(pl.Series(texts))).to_pylist()
    assert stored == [xxhash.xxh3_128_digest(text.encode()) for text in texts]
