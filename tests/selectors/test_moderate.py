"""Moderate against a literal float64 reference, and against the mistakes of its copies."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.class_policy import with_class_policy
from secateur.selectors.static.moderate import moderate


def literal_distances(embeddings, labels):
    embeddings = embeddings.astype(np.float64)
    medians = {label: np.median(embeddings[labels == label], axis=0) for label in set(labels.tolist())}
    return np.array([np.linalg.norm(row - medians[int(label)]) for row, label in zip(embeddings, labels, strict=True)])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.sampled_from([np.float32, np.float16]), st.data())
def test_the_middle_of_all_distances_stays(count, kind, data):
    numbers = np.random.default_rng(count)
    embeddings = numbers.normal(3, 1, size=(count, 4)).astype(kind)
    labels = numbers.integers(-1, 3, count) * 70_000
    budget = data.draw(st.integers(1, count))
    distances = literal_distances(embeddings, labels)  # two samples of a class of two tie: compare distances
    expected = np.sort(distances)[(count - budget) // 2 :][:budget]
    kept = moderate(embeddings, labels, budget)
    np.testing.assert_allclose(np.sort(distances[kept]), expected, rtol=1e-5, atol=1e-6)


def test_kept_samples_are_the_kept_ones_and_not_the_tails():
    """A copy of the published code returns the dropped tails as the coreset."""
    embeddings = np.array([[0.0], [0.1], [1], [-1.2], [9], [-10]], np.float32)
    kept = np.flatnonzero(moderate(embeddings, np.zeros(6, np.int64), 2))
    np.testing.assert_array_equal(kept, [2, 3])


def test_a_policy_ranks_within_classes():
    numbers = np.random.default_rng(0)
    labels = np.repeat([0, 1], [40, 40])
    embeddings = (numbers.normal(size=(80, 3)) * np.where(labels == 0, 1, 10)[:, None]).astype(np.float32)
    kept = with_class_policy(moderate, "proportional")(embeddings, labels, 20)
    distances = literal_distances(embeddings, labels)
    for label in (0, 1):
        own = np.sort(distances[labels == label])
        np.testing.assert_allclose(np.sort(distances[kept & (labels == label)]), own[15:25])
    assert (kept != moderate(embeddings, labels, 20)).any()
