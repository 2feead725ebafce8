"""S2L against a walk over sources and clusters that is written out, and what its clusters are."""

import numpy as np
import pytest

from secateur.selectors.check_selector import check_selector
from secateur.selectors.static.s2l import FEW, clusters_of, s2l, shared_out


def curves(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Loss curves of groups far apart, float32 `[n, 4]`, shuffled, and the group of each."""
    random = np.random.default_rng(seed)
    group = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (10.0 * group[:, None] + random.random((len(group), 4))).astype(np.float32), group


def walk(sizes: list[int], budget: int) -> list[int]:
    """How many each group gives: the smallest first, each an equal part of what is left, or all that it has."""
    given, rest = [0] * len(sizes), budget
    order = sorted(range(len(sizes)), key=lambda one: sizes[one])
    for left, one in zip(range(len(order), 0, -1), order, strict=True):
        given[one] = min(sizes[one], rest // left)
        rest -= given[one]
    return given


def shares(groups: list[int], budget: int) -> tuple[list[int], int]:
    """Of a source's clusters: how many each of the large ones gives, and how many all small ones together."""
    large = [size for size in groups if size > 2]
    among = min(budget, sum(large))
    return sorted(walk(large, among)), budget - among


@pytest.mark.parametrize("budget", [1, 7, 23, 40, 66, 75, 80, 85])
def test_sources_and_clusters_share_the_budget_as_in_a_plain_walk(budget: int) -> None:
    by_source = {3: [30, 12, 2, 1], 5: [9, 7], 8: [1, 1, 22]}
    parts = [curves(sizes, number) for number, sizes in enumerate(by_source.values())]
    trajectories = np.concatenate([part[0] for part in parts])
    strata = np.concatenate([np.full(len(part[1]), source) for source, part in zip(by_source, parts, strict=True)])
    keep = s2l(trajectories, strata, budget, clusters=60, seed=1)
    totals = walk([sum(sizes) for sizes in by_source.values()], budget)
    for (source, sizes), total, (_, group) in zip(by_source.items(), totals, parts, strict=True):
        kept = keep[strata == source]
        assert kept.sum() == total
        if total in (0, sum(sizes)):
            continue
        # k-means of more clusters than groups splits these: what is shared out are the clusters that it made.
        made = clusters_of(trajectories[strata == source], 60, seed=1)
        assert all(len(np.unique(group[made == one])) == 1 for one in np.unique(made)), "no cluster holds two groups"
        found = np.bincount(made)
        large, small = shares(found[found > 0].tolist(), total)
        assert sorted(kept[made == one].sum() for one in np.flatnonzero(found > 2)) == large
        assert kept[np.isin(made, np.flatnonzero(found <= FEW))].sum() == small


def test_clusters_are_those_of_lloyds_rounds_in_float64() -> None:
    trajectories, _ = curves([40, 30, 20])
    made = clusters_of(trajectories, 3, seed=0)
    wide = trajectories.astype(np.float64)
    centres = np.stack([wide[made == one].mean(axis=0) for one in range(3)])
    nearest = ((wide[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(made, nearest, "a fixed point: each row is nearest to the mean of its own cluster")


def test_all_rows_teach_the_clusters() -> None:
    """FAISS would draw 256 rows per centroid, which leaves the few rows far away without one."""
    trajectories = np.zeros((3000, 2), np.float32)
    trajectories[-3:] = 1000
    for seed in range(3):
        made = clusters_of(trajectories + np.random.default_rng(0).random((3000, 2)).astype(np.float32), 4, seed=seed)
        assert len(np.unique(made)) == 4
        assert np.isfinite(made).all()


def test_small_clusters_come_last_and_large_ones_give_all_first() -> None:
    clusters = np.repeat([0, 1, 2, 3], [5, 2, 4, 1])
    cells, quotas = shared_out(clusters, 10)
    np.testing.assert_array_equal(cells, np.repeat([0, 2, 1, 2], [5, 2, 4, 1]))
    assert quotas == [5, 4, 1]
    assert shared_out(clusters, 6)[1] == [3, 3, 0]


def test_a_loss_that_is_not_a_number_is_an_error_and_no_learned_row() -> None:
    trajectories, group = curves([8, 8])
    trajectories[5, 2] = np.nan
    with pytest.raises(ValueError, match=r"'loss_trajectories' is NaN or infinite at row 5"):
        s2l(trajectories, group, 4, seed=0)


def test_laws() -> None:
    check_selector(s2l, settings={"clusters": 4})
