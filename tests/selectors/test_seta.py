"""SeTa: the published sequence of windows, epochs by literal clusters, floors and budgets."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from secateur.selectors.samplers.seta import Seta, window_of

LOSSES = st.lists(st.floats(0, 50, width=32), min_size=1, max_size=60)


def after(losses: np.ndarray, epoch: int, **chosen: object) -> Seta:
    """A sampler at `epoch` of 40 that observed these losses of all samples in epoch 0."""
    sampler = Seta(len(losses), 40, **chosen)  # type: ignore[arg-type]
    sampler.observe(torch.arange(len(losses)), torch.from_numpy(losses.astype(np.float32)))
    sampler.set_epoch(epoch)
    return sampler


@pytest.mark.parametrize(
    ("groups", "window", "rounding", "ends"),
    [
        (5, 0.9, "half to even", [(0, 5), (1, 5), (0, 4), (1, 5), (0, 4)]),
        (5, 0.6, "half to even", [(0, 5), (1, 4), (2, 5), (0, 3), (1, 4)]),
        (10, 0.5, "half to even", [(0, 10), (1, 6), (2, 7), (3, 8), (4, 9), (5, 10), (0, 5)]),
        (5, 0.9, "up", [(0, 5)] * 6),
        (5, 0.5, "half to even", [(0, 5), (1, 3), (2, 4), (3, 5), (0, 2)]),
        (5, 0.5, "up", [(0, 5), (1, 4), (2, 5), (0, 3)]),
        (1, 0.1, "half to even", [(0, 1), (0, 1)]),
        (10, 0.3, "up", [(0, 10), (1, 4)]),
    ],
)
def test_sequence_of_windows(groups: int, window: float, rounding: str, ends: list[tuple[int, int]]) -> None:
    assert [window_of(epoch, groups, window, rounding) for epoch in range(len(ends))] == ends


def test_window_is_never_empty() -> None:
    """round(1 · 0.5) is 0 in Python, and the published code then trains on a single random sample."""
    assert round(1 * 0.5) == 0
    assert window_of(3, 1, 0.5, "half to even") == (0, 1)


@pytest.mark.parametrize("epoch", range(1, 6))
def test_epochs_are_the_clusters_of_the_window(epoch: int) -> None:
    """Against clusters by sklearn from many starts, on losses in clear clumps."""
    generator = np.random.default_rng(0)
    losses = np.concatenate([generator.normal(centre, 0.05, 40) for centre in (1, 3, 5, 8, 12)])
    generator.shuffle(losses)
    model = KMeans(5, n_init=10, random_state=0).fit(losses[:, None])
    rank = np.argsort(np.argsort(model.cluster_centers_[:, 0]))[model.labels_]
    first, beyond = window_of(epoch, 5, 0.6, "half to even")
    sampler = after(losses, epoch, prune=0.0, window=0.6)
    assert set(sampler.epoch_ids().tolist()) == set(np.flatnonzero((rank >= first) & (rank < beyond)).tolist())


@settings(max_examples=40, deadline=None)
@given(LOSSES, st.integers(1, 9), st.integers(1, 8))
def test_quantile_clusters_are_of_equal_size(losses: list[float], groups: int, epoch: int) -> None:
    sampler = after(np.array(losses), epoch, prune=0.0, groups=groups, window=0.5, clusters="quantile")
    fewer = min(groups, len(losses))
    first, beyond = window_of(epoch, fewer, 0.5, "half to even")
    ids = sampler.epoch_ids()
    assert len(ids) == beyond * len(losses) // fewer - first * len(losses) // fewer
    ranked = np.sort(np.array(losses, dtype=np.float32))
    assert (
        np.sort(np.array(losses, dtype=np.float32)[ids]) == ranked[first * len(losses) // fewer :][: len(ids)]
    ).all()


def test_equal_losses_in_quantiles_are_split_at_random_not_by_row() -> None:
    kept = [
        after(np.ones(1000), 1, prune=0.0, groups=2, window=0.5, clusters="quantile", seed=s).epoch_ids()
        for s in (1, 2)
    ]
    assert len(kept[0]) == 500
    assert set(kept[0].tolist()) != set(kept[1].tolist())
    assert abs(kept[0].mean() - 499.5) < 5 * 1000 / math.sqrt(12 * 500)


def test_k_means_epochs_of_long_tails_vary_and_a_floor_holds_them_up() -> None:
    """Window 0.6 of five clusters of lognormal losses keeps 35%, 10% and 98% of the data in turn."""
    losses = np.random.default_rng(0).lognormal(size=20_000)
    sizes = [len(after(losses, epoch, prune=0.0, window=0.6)) for epoch in (1, 2, 3)]
    assert min(sizes) < 0.15 * 20_000
    assert max(sizes) > 0.95 * 20_000
    window = set(after(losses, 2, prune=0.0, window=0.6).epoch_ids().tolist())
    held = after(losses, 2, prune=0.0, window=0.6, floor=0.25)
    ids = held.epoch_ids().tolist()
    assert len(ids) == len(set(ids)) == 5000
    assert window <= set(ids)
    assert set(after(losses, 2, prune=0.0, window=0.6, floor=10).epoch_ids().tolist()) == window


@settings(max_examples=50, deadline=None)
@given(LOSSES, st.data(), st.integers(0, 39), st.sampled_from(["k-means", "quantile"]))
def test_a_budget_is_held_exactly(losses: list[float], data: st.DataObject, epoch: int, clusters: str) -> None:
    budget = data.draw(st.integers(1, len(losses)))
    sampler = after(np.array(losses), epoch, keep=budget, window=0.5, clusters=clusters)
    ids = sampler.epoch_ids().tolist()
    assert len(ids) == len(set(ids)) == budget
    assert all(plan.exact and plan.samples == budget for plan in sampler.plan(40))


def test_random_part() -> None:
    losses = np.arange(1000.0)
    assert len(after(losses, 0, prune=0.3)) == 700
    first, second = (set(after(losses, epoch, prune=0.3, groups=1).epoch_ids().tolist()) for epoch in (1, 2))
    assert len(first) == len(second) == 700
    assert 400 < len(first & second) < 600


@pytest.mark.parametrize("epochs", [90, 100, 30, 8])
def test_annealing_is_random_without_a_window(epochs: int) -> None:
    sampler = Seta(200, epochs, prune=0.1, window=0.4)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        sampler.observe(torch.arange(200), torch.arange(200.0))
        if epoch + 1 > 0.875 * epochs:
            assert len(sampler) == 180
            assert sampler.plan(epochs)[epoch].exact
        elif epoch:
            assert len(sampler) < 120
            assert sampler.plan(epochs)[epoch + 1].samples == 180


def test_fewer_distinct_losses_than_clusters() -> None:
    """Published code takes the mean of an empty cluster."""
    losses = np.repeat([1.0, 2.0], 50)
    assert set(after(losses, 1, prune=0.0, groups=5, window=0.5).epoch_ids().tolist()) == set(range(50, 100))
    assert len(after(np.ones(30), 3, prune=0.0)) == 30


def test_unseen_samples_are_in_every_window() -> None:
    """Published scores begin at 3, and unseen samples are clustered as if that were their loss."""
    sampler = Seta(100, 40, prune=0.0, groups=2, window=0.5)
    sampler.observe(torch.arange(60), torch.arange(60) // 30 + 1.0)
    for epoch, seen in ((1, range(30, 60)), (2, range(30))):
        sampler.set_epoch(epoch)
        assert set(sampler.epoch_ids().tolist()) == {*seen, *range(60, 100)}
