"""Herding against a literal float64 reference, and on the side that the published code misses."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.static.herding import herding


def literal(embeddings, budget):
    embeddings = embeddings.astype(np.float64)
    mean, rows = embeddings.mean(axis=0), []
    for step in range(budget):
        gaps = np.linalg.norm((step + 1) * mean - embeddings[rows].sum(axis=0) - embeddings, axis=1)
        gaps[rows] = np.inf
        rows.append(int(gaps.argmin()))
    return set(rows)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.sampled_from([np.float32, np.float16]), st.data())
def test_picks_follow_the_mean(count, kind, data):
    embeddings = np.random.default_rng(count).normal(2, 1, size=(count, 5)).astype(kind)
    budget = data.draw(st.integers(1, count))
    assert set(np.flatnonzero(herding(embeddings, budget))) == literal(embeddings, budget)


def test_the_mean_of_the_subset_is_far_closer_than_a_random_one():
    """With argmax in the place of argmin, as published, the mean is matched far worse than at random."""
    embeddings = np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32)
    keep = herding(embeddings, 50)
    random = np.random.default_rng(1).permutation(2000)[:50]
    mean = embeddings.mean(axis=0)
    assert np.linalg.norm(embeddings[keep].mean(axis=0) - mean) < 0.1 * np.linalg.norm(
        embeddings[random].mean(axis=0) - mean
    )
