"""D2 pruning against dense float64 matrices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.static.d2_pruning import d2_pruning


def literal(scores, embeddings, budget, neighbours, gamma):
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    distances = np.linalg.norm(unit[:, None] - unit, axis=2)
    np.fill_diagonal(distances, np.inf)
    near = np.argsort(distances, axis=1)[:, : min(neighbours, len(scores) - 1)]
    start = scores.astype(np.float64) - min(scores.min(), 0)
    level = start + np.array([sum(np.exp(-distances[i, j]) * start[j] for j in near[i]) for i in range(len(scores))])
    rows = []
    for _ in range(budget):
        left = [row for row in range(len(scores)) if row not in rows]
        pick = max(left, key=lambda row: level[row])
        rows.append(pick)
        for j in near[pick]:
            level[j] -= np.exp(-gamma * distances[pick, j]) * level[pick]
    return set(rows)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 40),
    st.sampled_from([1, 3, 50]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([0, -3]),
    st.data(),
)
def test_picks_are_those_of_the_dense_graph(count, neighbours, gamma, lowest, data):
    numbers = np.random.default_rng(count)
    embeddings = numbers.normal(size=(count, 6)).astype(np.float32)
    scores = (lowest + numbers.random(count) * 5).astype(np.float32)
    budget = data.draw(st.integers(1, count))
    keep = d2_pruning(scores, scores, embeddings, budget, cutoff=0.0, neighbours=neighbours, gamma=gamma)
    assert set(np.flatnonzero(keep)) == literal(scores, embeddings, budget, neighbours, gamma)


def test_the_graph_is_of_what_the_cut_leaves():
    numbers = np.random.default_rng(0)
    embeddings, scores = numbers.normal(size=(50, 6)).astype(np.float32), numbers.random(50).astype(np.float32)
    aum = numbers.permutation(50).astype(np.float32)
    keep = d2_pruning(scores, aum, embeddings, 20, cutoff=0.3)
    alive = np.flatnonzero(aum >= 15)
    expected = alive[sorted(literal(scores[alive], embeddings[alive], 20, 5, 0.1))]
    np.testing.assert_array_equal(np.flatnonzero(keep), expected)


def test_long_embeddings_pass_messages_as_well():
    """Without normalisation exp(-distance) of long embeddings is 0 and the graph does nothing."""
    numbers = np.random.default_rng(1)
    embeddings, scores = numbers.normal(size=(60, 4)).astype(np.float32), numbers.random(60).astype(np.float32)
    keeps = [d2_pruning(scores, scores, scale * embeddings, 20, cutoff=0.0) for scale in (1, 1024)]
    np.testing.assert_array_equal(*keeps)


def test_hard_samples_win_where_embeddings_say_nothing():
    scores = np.float32([0, 1, 2, 3, 4, 5])
    keep = d2_pruning(scores, -scores, np.eye(6, dtype=np.float32), 1, cutoff=0.0, neighbours=5)
    assert keep[5] or keep[4]  # nobody easy: every neighbourhood is the same
    assert not keep[:3].any()


def test_settings_without_sense_are_refused():
    scores = np.ones(4, np.float32)
    with pytest.raises(ValueError, match="neighbours must be at least 1"):
        d2_pruning(scores, scores, np.eye(4, dtype=np.float32), 2, cutoff=0.0, neighbours=0)
