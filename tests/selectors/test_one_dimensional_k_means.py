"""One-dimensional k-means: the optimum by brute force where that is possible, never worse than sklearn elsewhere."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from secateur.selectors.draws.one_dimensional_k_means import cluster_limits


def squares(values: np.ndarray, limits: np.ndarray) -> float:
    """Sum of squared distances to the cluster means, float64, computed cluster by cluster."""
    clusters = np.searchsorted(limits, values)
    parts = [values[clusters == cluster].astype(np.float64) for cluster in range(len(limits) + 1)]
    return float(sum(((part - part.mean()) ** 2).sum() for part in parts if len(part)))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 100, width=16), min_size=1, max_size=12), st.integers(1, 5))
def test_the_best_of_all_splits(losses: list[float], clusters: int) -> None:
    values = np.array(losses, dtype=np.float32)
    limits = cluster_limits(values, clusters)
    distinct = np.unique(values)
    assert len(limits) == min(clusters, len(distinct)) - 1
    assert np.isin(limits, values).all()
    assert (np.diff(limits) > 0).all()
    best = min(squares(values, np.array(cuts)) for cuts in combinations(distinct[:-1], len(limits)))
    assert squares(values, limits) == pytest.approx(best, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("clusters", [2, 5, 10])
@pytest.mark.parametrize("shape", ["lognormal", "uniform", "spike", "bimodal", "far"])
def test_no_worse_than_sklearn(shape: str, clusters: int) -> None:
    generator = np.random.default_rng(clusters)
    values = {
        "lognormal": generator.lognormal(sigma=1.5, size=20_000),
        "uniform": generator.random(20_000),
        "spike": np.where(generator.random(20_000) < 0.99, 0.01, generator.random(20_000)),
        "bimodal": np.r_[generator.normal(1, 0.1, 10_000), generator.normal(9, 2, 10_000)],
        "far": generator.lognormal(size=20_000) + 4096,
    }[shape].astype(np.float32)
    theirs = KMeans(clusters, n_init=5, random_state=0).fit(values.astype(np.float64)[:, None]).inertia_
    limits = cluster_limits(values, clusters)
    assert len(limits) == clusters - 1
    assert squares(values, limits) <= theirs * 1.002


def test_limits_are_where_lloyd_comes_to_rest() -> None:
    """Every value is nearest to the mean of its own cluster."""
    values = np.random.default_rng(1).lognormal(size=50_000).astype(np.float32)
    limits = cluster_limits(values, 6)
    clusters = np.searchsorted(limits, values)
    means = np.array([values[clusters == cluster].mean(dtype=np.float64) for cluster in range(6)])
    assert (np.abs(values[:, None] - means).argmin(axis=1) == clusters).all()


def test_order_of_the_values_does_not_matter() -> None:
    values = np.random.default_rng(2).exponential(size=5000).astype(np.float32)
    assert (cluster_limits(values, 4) == cluster_limits(values[::-1].copy(), 4)).all()


def test_many_distinct_values_in_a_narrow_place_still_make_all_clusters() -> None:
    """One huge value spoils evenly spaced marks, one common value evenly spaced ranks."""
    narrow = np.float32(1) + np.arange(3000, dtype=np.float32) * np.float32(1e-6)
    values = np.r_[np.full(2_000_000, 2, np.float32), np.unique(narrow), np.float32(1e6)]
    limits = cluster_limits(values, 8)
    assert len(limits) == 7


def test_equal_values_are_one_cluster() -> None:
    assert len(cluster_limits(np.full(1000, 3.0, dtype=np.float32), 5)) == 0
