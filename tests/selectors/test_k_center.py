"""k-center against a literal float64 reference."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.draws.ranks import random_keys
from secateur.selectors.static.k_center import k_center


def literal(embeddings, budget, first):
    rows, embeddings = [first], embeddings.astype(np.float64)
    while len(rows) < budget:
        to_picks = np.linalg.norm(embeddings[:, None] - embeddings[rows], axis=2).min(axis=1)
        to_picks[rows] = -1
        rows.append(int(to_picks.argmax()))
    return set(rows)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.sampled_from([1, 3, 17]), st.sampled_from([0, 1000]), st.data())
def test_picks_are_the_farthest_points(count, dimensions, offset, data):
    embeddings = np.random.default_rng(count).normal(offset, 1, size=(count, dimensions)).astype(np.float32)
    budget = data.draw(st.integers(1, count))
    keep = k_center(embeddings, budget, seed=2)
    assert set(np.flatnonzero(keep)) == literal(embeddings, budget, int(random_keys(count, 2).argmin()))


def test_copies_come_last():
    points = np.random.default_rng(0).normal(5000, 1, size=(20, 64)).astype(np.float32)
    keep = k_center(np.repeat(points, 5, axis=0), 20, seed=0)
    assert (keep.reshape(20, 5).sum(axis=1) == 1).all()


def test_memory_does_not_grow_with_the_budget():
    """The published code holds a budget x samples matrix: 32 MB here."""
    embeddings = np.random.default_rng(0).normal(size=(20_000, 4)).astype(np.float32)
    k_center(embeddings, 2, seed=0)
    tracemalloc.start()
    k_center(embeddings, 400, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * len(embeddings)


def test_lengths_that_overflow_are_refused():
    with pytest.raises(ValueError, match="overflow float32; scale"):
        k_center(np.float32([[1e30], [-1e30], [0]]), 2, seed=0)
