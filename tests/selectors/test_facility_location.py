"""Lazy and stochastic greedy against the full greedy algorithm in float64."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.static.facility_location import facility_location
from secateur.selectors.static.stochastic_facility_location import candidates_per_pick, stochastic_facility_location
from secateur.selectors.static.uniform_random import uniform_random


def similarities(embeddings):
    unit = embeddings.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-300)
    return 0.5 + 0.5 * unit @ unit.T


def coverage(similar, keep):
    return similar[:, keep].max(axis=1).sum()


def greedy(similar, budget):
    best, rows = np.zeros(len(similar)), []
    for _ in range(budget):
        gains = np.maximum(similar - best[:, None], 0).sum(axis=0)
        gains[rows] = -1
        rows.append(int(gains.argmax()))
        best = np.maximum(best, similar[:, rows[-1]])
    return rows


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 70), st.integers(2, 6))
def test_every_lazy_pick_has_the_greatest_gain(count, dimensions):
    """Followed along its own picks: ties are inherent, as two samples that cover each other alone gain the same."""
    embeddings = np.random.default_rng(count).normal(1, 1, size=(count, dimensions)).astype(np.float32)
    similar = similarities(embeddings)
    best, kept = np.zeros(count), np.zeros(count, dtype=bool)
    for budget in range(1, min(count, 12) + 1):
        keep = facility_location(embeddings, budget)
        (pick,) = np.flatnonzero(keep & ~kept)
        gains = np.maximum(similar - best[:, None], 0).sum(axis=0)
        assert gains[pick] >= gains[~kept].max() - 1e-5 * count
        best, kept = np.maximum(best, similar[:, pick]), keep


def test_stochastic_greedy_is_near_greedy_and_not_random():
    """At keep 10% the published sample has one candidate, which is uniform random selection."""
    embeddings = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    similar = similarities(embeddings)
    random = np.mean([coverage(similar, uniform_random(np.arange(600), 60, seed=seed)) for seed in range(5)])
    best = coverage(similar, greedy(similar, 60))
    ours = coverage(similar, stochastic_facility_location(embeddings, 60, seed=0))
    assert ours > best - 0.15 * (best - random)


def test_sample_sizes_are_the_papers():
    assert candidates_per_pick(10_000, 1_000, 0.01) == math.ceil(10 * math.log(100))
    with pytest.raises(ValueError, match="epsilon"):
        candidates_per_pick(10_000, 1_000, 0.9)


def test_zero_embeddings_are_no_nan():
    embeddings = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    embeddings[::3] = 0
    for select in (facility_location, stochastic_facility_location):
        assert select(embeddings, 12, seed=0).sum() == 12
