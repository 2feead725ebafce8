"""A schedule over subsets: sizes as planned, nested, from the end that was asked."""

from itertools import pairwise

import numpy as np
import pytest

from secateur.selectors.samplers.subset_schedule import SubsetSchedule, sizes_of

SCORES = np.random.default_rng(0).permutation(100).astype(np.float32)


def subsets(sampler: SubsetSchedule, epochs: int) -> list[set[int]]:
    """Rows of each epoch."""
    rows = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        rows.append(set(sampler))
        assert len(sampler) == len(rows[-1]) == sampler.plan(epochs)[epoch].samples
    return rows


def test_easy_to_hard() -> None:
    rows = subsets(SubsetSchedule(SCORES, 6, keeps=(0.2, 0.5, 1.0)), 8)
    assert [len(subset) for subset in rows] == [20, 20, 50, 50, 100, 100, 100, 100]
    assert rows[0] == set(np.flatnonzero(SCORES < 20).tolist())
    assert rows[2] == set(np.flatnonzero(SCORES < 50).tolist())
    high = subsets(SubsetSchedule(SCORES, 2, keeps=(10, 30), first="high"), 2)
    assert high == [set(np.flatnonzero(SCORES >= 90).tolist()), set(np.flatnonzero(SCORES >= 70).tolist())]


def test_shrinking_by_a_line() -> None:
    rows = subsets(SubsetSchedule(SCORES, 5, keeps=(1.0, 20), pace="line"), 5)
    assert [len(subset) for subset in rows] == [100, 80, 60, 40, 20]
    assert all(later < earlier for earlier, later in pairwise(rows))


def test_a_constant_score_gives_nested_random_subsets() -> None:
    rows = subsets(SubsetSchedule(np.zeros(1000, np.float32), 3, keeps=(100, 200, 300), seed=4), 3)
    assert rows[0] < rows[1] < rows[2]
    assert abs(np.mean(list(rows[0])) - 499.5) < 5 * 1000 / np.sqrt(12 * 100)
    assert subsets(SubsetSchedule(np.zeros(1000, np.float32), 3, keeps=(100,), seed=5), 1)[0] != rows[0]


@pytest.mark.parametrize(
    ("targets", "epochs", "pace", "sizes"),
    [
        ([1, 2, 3], 2, "steps", [1, 2]),
        ([1, 9, 3], 5, "line", [1, 5, 9, 6, 3]),
        ([4], 3, "line", [4, 4, 4]),
        ([4, 8], 1, "line", [4]),
    ],
)
def test_sizes(targets: list[int], epochs: int, pace: str, sizes: list[int]) -> None:
    assert sizes_of(targets, epochs, pace) == sizes


def test_scores_must_be_finite() -> None:
    with pytest.raises(ValueError, match="row 1"):
        SubsetSchedule(np.float32([1, np.nan]), 3, keeps=(1,))
