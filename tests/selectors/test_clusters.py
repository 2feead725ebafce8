"""SemDeDup and prototypes against literal float64 references on the same clusters."""

import numpy as np
import pytest

from secateur.selectors.draws.embedded import spherical_clusters, unit_rows
from secateur.selectors.draws.ranks import random_keys
from secateur.selectors.static.prototypes import prototypes
from secateur.selectors.static.semantic_deduplication import highest_to_earlier, semantic_deduplication


def blobs(count, seed=0):
    numbers = np.random.default_rng(seed)
    centres = 3 * numbers.normal(size=(4, 8))
    return (centres[numbers.integers(0, 4, count)] + numbers.normal(size=(count, 8))).astype(np.float32)


@pytest.mark.parametrize("first", ["hard", "easy"])
def test_the_kept_are_least_similar_to_earlier_ones(first):
    embeddings = blobs(300)
    unit = unit_rows(embeddings)
    cluster, centrality = spherical_clusters(unit, 6, seed=1)
    similar = unit.astype(np.float64) @ unit.T.astype(np.float64)
    keys = random_keys(300, 1)
    highest = np.empty(300)
    for number in range(6):
        sign = 1 if first == "hard" else -1
        members = sorted(np.flatnonzero(cluster == number), key=lambda row: (sign * centrality[row], keys[row]))
        for place, row in enumerate(members):
            highest[row] = max((similar[row, before] for before in members[:place]), default=-2)
    for budget in (6, 40, 200):
        keep = semantic_deduplication(embeddings, budget, samples_per_cluster=50, first=first, seed=1)
        assert highest[keep].max() <= highest[~keep].min() + 1e-6


def test_all_copies_go_before_anything_else():
    """Copies, of any length, however the embeddings are scaled: cosine, not inner product."""
    points = blobs(100)
    copies = np.concatenate([points, 7 * points[:60]])
    keep = semantic_deduplication(copies, 100, samples_per_cluster=1000, seed=0)
    assert (keep[:60] ^ keep[100:]).all()
    assert keep[60:100].all()


def test_pairs_across_blocks_are_seen():
    unit = unit_rows(np.random.default_rng(0).normal(size=(2500, 8)).astype(np.float32))
    similar = unit.astype(np.float64) @ unit.T.astype(np.float64)
    similar[np.triu_indices(2500)] = -2
    np.testing.assert_allclose(highest_to_earlier(unit), similar.max(axis=1), atol=1e-6)


@pytest.mark.parametrize("end", ["hard", "easy"])
def test_prototypes_rank_over_all_clusters(end):
    embeddings = blobs(400)
    keep = prototypes(embeddings, 100, end=end, clusters=4, seed=0)
    _, centrality = spherical_clusters(unit_rows(embeddings), 4, seed=0)
    assert (
        centrality[keep].max() <= centrality[~keep].min()
        if end == "hard"
        else (centrality[keep].min() >= centrality[~keep].max())
    )


def test_centrality_is_the_cosine_to_the_nearest_mean():
    unit = unit_rows(blobs(500))
    cluster, centrality = spherical_clusters(unit, 4, seed=0)
    means = np.array([unit[cluster == number].astype(np.float64).mean(axis=0) for number in range(4)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(centrality, (unit @ means.T).max(axis=1), atol=0.02)


def test_settings_without_sense_are_refused():
    with pytest.raises(ValueError, match="at least one cluster"):
        prototypes(blobs(10), 2, clusters=0, seed=0)
    with pytest.raises(ValueError, match="samples_per_cluster must be at least 1"):
        semantic_deduplication(blobs(10), 2, samples_per_cluster=0, seed=0)
