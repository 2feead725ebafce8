"""OrderDP: the published rule, the odds of each rank by counting pools, and whose gradient it is not."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch

from secateur.selectors.samplers.order_dp import OrderDp


def after(losses: np.ndarray, epoch: int = 1, **chosen: object) -> OrderDp:
    """A sampler at `epoch` that observed these losses of all samples in epoch 0."""
    sampler = OrderDp(len(losses), **chosen)  # type: ignore[arg-type]
    sampler.observe(torch.arange(len(losses)), torch.from_numpy(losses.astype(np.float32)))
    sampler.set_epoch(epoch)
    return sampler


def by_counting(samples: int, pool: int, kept: int, guarded: int) -> np.ndarray:
    """How often each rank, the highest loss first, is kept: over every pool that there is."""
    found = np.zeros(samples)
    for ranks in combinations(range(samples), pool):
        found[list(ranks[guarded : guarded + kept])] += 1
    return found / comb(samples, pool)


NIGHT = pytest.mark.nightly


@pytest.mark.parametrize(
    ("pool", "top", "guard"),
    [
        (0.8, 0.5, 0.25),
        pytest.param(0.75, 0.5, 0.0, marks=NIGHT),
        pytest.param(0.5, 1.0, 0.0, marks=NIGHT),
        pytest.param(1.0, 0.3, 0.0, marks=NIGHT),
    ],
)
def test_odds_of_a_rank_are_the_share_of_pools_that_keep_it(pool: float, top: float, guard: float) -> None:
    sampler = OrderDp(10, pool=pool, top=top, guard=guard)
    expected = by_counting(10, sampler.pool, sampler.kept, sampler.guarded)
    np.testing.assert_allclose(sampler.inclusion(), expected, atol=1e-12)
    assert sampler.inclusion().sum() == pytest.approx(sampler.kept)
    losses = np.random.default_rng(0).permutation(10.0 + np.arange(10))
    sampler, drawn, epochs = after(losses, 1, pool=pool, top=top, guard=guard), np.zeros(10), 200
    for epoch in range(1, epochs + 1):
        sampler.set_epoch(epoch)
        drawn[sampler.epoch_ids()] += 1
    found, slack = drawn[np.argsort(-losses)] / epochs, 4.5 * np.sqrt(expected * (1 - expected) / epochs)
    assert (np.abs(found - expected) <= slack + 1e-12).all()


def test_published_odds_of_the_cifar_run() -> None:
    """a = 0.8, b = 0.375 of 50,000: certain within the pool to rank 18,500, half that at 18,750, none from 19,000."""
    odds = OrderDp(50_000, pool=0.8, top=0.375).inclusion()
    assert odds[18_499] == pytest.approx(0.8, abs=0.005)
    assert odds[18_749] == pytest.approx(0.4, abs=0.005)
    assert odds[18_999] < 5e-4
    assert (odds[19_100:] < 1e-6).all()


def test_it_is_the_gradient_of_another_objective_and_no_weights_mend_that() -> None:
    """Each sample's gradient is a vector of its own: over all pools the sum is that of odds, and not that of ones."""
    odds, gradients = by_counting(10, 8, 4, 0), np.random.default_rng(1).normal(size=(10, 3))
    sampler = OrderDp(10, pool=0.8, top=0.5)
    whole = sum(gradients[list(ranks[:4])].sum(0) for ranks in combinations(range(10), 8)) / comb(10, 8)
    np.testing.assert_allclose(whole, sampler.inclusion() @ gradients)
    assert np.abs(whole - gradients.sum(0) * 0.4).max() > 0.1
    assert (odds[10 - (8 - 4) :] == 0).all(), "what has no odds has no weight either"
    assert torch.equal(sampler.weights(torch.arange(10)), torch.ones(10))


def test_each_epoch_keeps_the_highest_losses_of_a_pool() -> None:
    """What is left out of the pool is below what is kept: at most as many higher losses are missing as it lacks."""
    losses = np.random.default_rng(2).permutation(200).astype(np.float64)
    sampler = after(losses, pool=0.75, top=0.4)
    for epoch in range(1, 6):
        sampler.set_epoch(epoch)
        kept = np.sort(losses[sampler.epoch_ids()])
        assert len(kept) == 60
        assert (losses > kept[0]).sum() - 59 <= 50
    guarded = after(losses, pool=1.0, top=0.4, guard=0.1)
    assert set(losses[guarded.epoch_ids()]) == set(range(100, 180))


def test_samples_not_seen_count_as_one_of_their_loss() -> None:
    for unseen, expected in (
        (3.0, range(6, 10)),
        ("first", range(4)),
        (-1.0, range(6, 10)),
        (6.5, [0, 1, 2, 3, 7, 8, 9]),
    ):
        sampler = OrderDp(10, pool=1.0, top=0.4, unseen=unseen)  # type: ignore[arg-type]
        sampler.observe(torch.arange(4, 10), torch.arange(4, 10).float())
        sampler.set_epoch(1)
        assert set(sampler.epoch_ids().tolist()) <= set(expected)
    assert len({tuple(OrderDp(10, pool=1.0, top=0.4, seed=seed).epoch_ids().tolist()) for seed in range(9)}) > 1


@pytest.mark.parametrize(("keep", "pool"), [(0.4, 80), (40, 80), (0.9, 100), (1, 2)])
def test_a_budget_is_held_exactly(keep: float | int, pool: int) -> None:
    sampler = after(np.arange(100.0), keep=keep, top=0.5)
    assert sampler.pool == pool
    assert len(sampler) == len(set(sampler.epoch_ids().tolist())) == (keep if isinstance(keep, int) else keep * 100)
    assert all(plan.exact and plan.samples == len(sampler) for plan in sampler.plan(9))


def test_nothing_is_annealed() -> None:
    sampler = after(np.arange(100.0))
    assert {len(after(np.arange(100.0), epoch)) for epoch in (1, 50, 199)} == {len(sampler)} == {63}
