"""Copies of table rows and of vectors: planted ones are found, others are not, clusters are whole, order is nothing."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from secateur.scorers.copies import near_points
from secateur.scorers.copies.contract import Copies
from secateur.scorers.copies.points import row_keys, standardised, table_copies, vector_copies


def rows_of(count: int, columns: int, seed: int = 0) -> np.ndarray:
    """Rows in a few blobs, as data are."""
    random = np.random.default_rng(seed)
    centres = 3 * random.standard_normal((5, columns))
    rows = centres[random.integers(5, size=count)] + random.standard_normal((count, columns))
    return np.asarray(rows, np.float32)


def close_to(rows: np.ndarray, noise: float, seed: int = 1) -> np.ndarray:
    """The same rows with a little noise."""
    return np.asarray(rows + noise * np.random.default_rng(seed).standard_normal(rows.shape), np.float32)


def find(rows: np.ndarray, part: Any = None) -> Copies:
    """Copies of rows that are all in training, or in the parts given."""
    part = np.zeros(len(rows), np.int16) if part is None else np.array(part, np.int16)
    return table_copies(rows, part)[0]


def test_planted_rows_are_found_and_others_are_not() -> None:
    rows = rows_of(3000, 12)
    both = np.vstack([rows, close_to(rows[:30], 0.05)])
    for found in (find(both, [0] * 3000 + [1] * 30), vector_copies(both, np.array([0] * 3000 + [1] * 30, np.int16))):
        assert (found.across[3000:] == np.arange(30)).mean() >= 0.9
        assert (found.across[:30] == np.arange(3000, 3030)).mean() >= 0.9
        assert (found.group[30:3000] >= 0).mean() <= 0.01
        assert "mirrored" in found.reason


def test_partner_is_the_nearest_by_brute_force() -> None:
    rows = rows_of(400, 6)
    both = np.vstack([rows, close_to(rows[:40], 0.2)])
    found = find(both)
    points = standardised(both).astype(np.float64)
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    np.fill_diagonal(distances, np.inf)
    similarity = 1 - distances.min(axis=1) / np.sqrt(2 * 6)
    near = similarity >= found.threshold
    assert near.any()
    np.testing.assert_array_equal(found.partner >= 0, near)
    np.testing.assert_array_equal(found.partner[near], distances.argmin(axis=1)[near])
    np.testing.assert_allclose(found.similarity[near], similarity[near], rtol=1e-5)


def test_order_of_rows_changes_nothing() -> None:
    rows = np.vstack([rows_of(1000, 8), close_to(rows_of(1000, 8)[:50], 0.1)])
    order = np.random.default_rng(2).permutation(len(rows))
    one, other = find(rows), find(rows[order])
    assert one.threshold == pytest.approx(other.threshold, rel=1e-6)
    np.testing.assert_allclose(one.similarity[order], other.similarity, rtol=1e-5)
    np.testing.assert_array_equal(one.group[order] >= 0, other.group >= 0)
    np.testing.assert_array_equal(one.partner[order] >= 0, other.partner >= 0)
    linked = other.partner >= 0
    np.testing.assert_array_equal(one.partner[order][linked], order[other.partner[linked]])


@pytest.mark.parametrize("exhaustive", [10, 1 << 15], ids=["inverted lists", "exhaustive"])
def test_a_cluster_larger_than_what_is_asked_for_is_found_whole(
    exhaustive: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_points, "EXHAUSTIVE", exhaustive)
    rows = rows_of(1500, 10)
    both = np.vstack([rows, np.repeat(rows[7:8], 149, axis=0)])
    both[1500:] = close_to(both[1500:], 0.05)
    # The nearest of every one of the cluster are of its own side; each must still find the one training row.
    found = find(both, [0] * 1500 + [1] * 149)
    assert (found.group == 7).sum() == 150
    assert (found.group >= 0).sum() == 150
    assert (found.across[1500:] == 7).all()
    assert not found.stays[7]


def test_equal_rows_make_no_pairs() -> None:
    rows = np.vstack([np.ones((100_000, 3), np.float32), rows_of(100, 3)])
    found = find(rows, np.arange(len(rows)) % 2)
    assert (found.group[:100_000] == 0).all()
    assert (found.across[:100_000:2] == 1).all()
    assert found.stays[:100_000].sum() == 1


def test_missing_numbers_and_constant_columns() -> None:
    rows = np.array([[1, np.nan, 5], [1, np.nan, 5], [2, 1, 5], [-0.0, 1, 5], [0, 1, 5]], np.float32)
    found = find(rows)
    assert found.group.tolist() == [0, 0, -1, 3, 3]
    assert "too few" in found.reason
    assert standardised(rows).shape == (5, 2), "one of numbers, one of what is missing; the others are constant"
    assert row_keys(rows)[0] != row_keys(rows)[2]


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="infinite at row 1"):
        find(np.array([[0.0], [np.inf]], np.float32))
    with pytest.raises(ValueError, match="vectors are NaN or infinite at row 0"):
        vector_copies(np.array([[np.nan], [1.0]], np.float32), np.zeros(2, np.int16))


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_hardly_any_rows(rows: int) -> None:
    part = np.zeros(rows, np.int16)
    for found in table_copies(np.ones((rows, 2), np.float32), part):
        assert found.group.tolist() == [[], [-1], [0, 0]][rows]
        assert found.partner.tolist() == [[], [-1], [1, 0]][rows]


def clusters(parts: int) -> tuple[np.ndarray, np.ndarray]:
    """600 rows by themselves and 3 clusters of 60 near copies, in training and `parts` other parts."""
    random = np.random.default_rng(5)
    base = random.normal(size=(600, 8))
    copies = np.repeat(base[:3], 60, axis=0) + 0.01 * random.normal(size=(180, 8))
    numbers = np.concatenate([base, copies]).astype(np.float32)
    return numbers, np.sort(random.integers(0, parts + 1, len(numbers))).astype(np.int16)


def test_each_row_has_the_nearest_of_each_other_part_beside_training_by_brute_force() -> None:
    numbers, part = clusters(4)
    numbers = numbers[np.random.default_rng(6).permutation(len(numbers))]
    [found] = table_copies(numbers, part)
    points = standardised(numbers).astype(np.float64)
    alike = 1 - np.linalg.norm(points[:, None] - points, axis=2) / np.sqrt(2 * points.shape[1])
    np.fill_diagonal(alike, -np.inf)
    expected = {
        (row, int(own.argmax()))
        for row in np.flatnonzero(part > 0)
        for other in range(1, 5)
        if other != part[row] and (own := np.where(part == other, alike[row], -np.inf)).max() >= found.threshold
    }
    assert len(expected) > 300
    assert set(map(tuple, found.between.tolist())) == expected
    np.testing.assert_allclose(found.between_similarity, alike[tuple(found.between.T)], atol=1e-5)


def test_nothing_is_between_training_and_one_other_part() -> None:
    numbers, part = clusters(1)
    assert table_copies(numbers, part)[0].between.shape == (0, 2)


@pytest.mark.parametrize(("kind", "rows"), [("equal", 20_000), ("clustered", 8_000)])
def test_memory_grows_with_rows_and_not_with_pairs(kind: str, rows: int) -> None:
    """Half of the rows are one cluster: 50 million pairs of them, or 8 million, of 16 bytes each."""
    numbers = np.random.default_rng(1).normal(size=(rows, 4)).astype(np.float32)
    numbers[: rows // 2] = np.random.default_rng(0).normal(size=(rows // 2, 4)) * (1e-3 if kind == "clustered" else 0)
    part = (np.arange(rows) % 3).astype(np.int16)
    tracemalloc.start()
    [found] = table_copies(numbers, part)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(found.group[: rows // 2])) == 1
    assert len(found.between) >= rows // 3
    assert most < 50e6 < 16 * (rows // 2) ** 2 / 2


def test_memory_of_vectors_grows_with_rows_and_not_with_pairs() -> None:
    """Half of the vectors are one cluster: 4.5 million pairs of 16 bytes each."""
    random, rows = np.random.default_rng(0), 6000
    vectors = random.normal(size=(rows, 16)).astype(np.float32)
    vectors[: rows // 2] = vectors[0] + 1e-3 * random.normal(size=(rows // 2, 16))
    tracemalloc.start()
    found = vector_copies(vectors, (np.arange(rows) % 3).astype(np.int16))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(found.group[: rows // 2])) == 1
    assert len(found.between) >= rows // 6
    assert most < 50e6 < 16 * (rows // 2) ** 2 / 2
