"""RePB after its abstract: windows by hand, the gradient in expectation, and weights by history, which are biased."""

import numpy as np
import pytest
import torch

from secateur.selectors.samplers.repb import Repb

N = 60


def losses_at(epoch: int) -> np.ndarray:
    """Losses by row, and a trend within the epoch that is added by place: see `shown`."""
    return (1 + np.sin(np.arange(N) * 12.9898 + epoch) ** 2).astype(np.float32)


def shown(sampler: Repb, epoch: int, trend: float = 0.0) -> tuple[list[int], np.ndarray]:
    """One epoch of a loop whose losses fall by `trend` from its first to its last sample."""
    sampler.set_epoch(epoch)
    order = sampler.epoch_ids().tolist()
    losses = losses_at(epoch)[order] - np.float32(trend) * np.arange(len(order), dtype=np.float32) / len(order)
    for ids, values in zip(np.array_split(order, 7), np.array_split(losses, 7), strict=True):
        sampler.observe(torch.from_numpy(ids), torch.from_numpy(values))
    return order, losses


@pytest.mark.parametrize("window", [6, 0.25, 60, 7])
def test_easy_is_what_is_below_the_mean_of_its_own_window(window: float | int) -> None:
    sampler, easy = Repb(N, window=window, prune=0.5, seed=3), set[int]()
    size = window if isinstance(window, int) else round(window * N)
    for epoch in range(5):
        order, losses = shown(sampler, epoch, trend=30.0)
        if epoch:
            assert set(range(N)) - easy <= set(order), "hard samples all stay"
            assert len(order) == N - len(easy) + max(1, len(easy) // 2)
        windows = max(1, round(len(order) / size))
        place = [i * windows // len(order) for i in range(len(order))]
        for i, row in enumerate(order):
            mine = [float(loss) for loss, at in zip(losses, place, strict=True) if at == place[i]]
            (easy.add if losses[i] < sum(mine) / len(mine) else easy.discard)(row)
        sampler.set_epoch(epoch + 1)
        assert set(np.flatnonzero(sampler.observed.easy.numpy()).tolist()) == easy


def test_a_trend_makes_late_samples_easy_without_windows_and_not_with_them() -> None:
    """Losses of one kind that fall by a lot: the mean of everything calls late ones easy, the mean of a window half."""
    late = {}
    for window in (60, 6):
        sampler = Repb(N, window=window, seed=1)
        order, _ = shown(sampler, 0, trend=30.0)
        sampler.set_epoch(1)
        late[window] = sampler.observed.easy.numpy()[order[N // 2 :]].mean()
    assert late[60] == 1.0
    assert 0.25 < late[6] < 0.75


def drawn(rescale: str, seeds: int, epochs: int = 1) -> np.ndarray:
    """Sum of weighted gradients of an epoch behind `epochs` others, for each seed: `[seeds, 3]`."""
    gradients, found = np.random.default_rng(5).normal(size=(N, 3)) + 1, []
    for seed in range(seeds):
        sampler = Repb(N, window=60, prune=0.7, rescale=rescale, seed=seed)  # type: ignore[arg-type]
        for epoch in range(epochs):
            ids = torch.from_numpy(sampler.epoch_ids())
            sampler.observe(ids, torch.from_numpy(losses_at(0))[ids])
            sampler.set_epoch(epoch + 1)
        ids = torch.from_numpy(sampler.epoch_ids())
        found.append(sampler.weights(ids).double().numpy() @ gradients[ids.numpy()])
    return np.array(found) - gradients.sum(0)


def test_with_weights_of_probability_the_gradient_is_that_of_all_data_in_expectation() -> None:
    off = drawn("probability", 120)
    error = off.std(0, ddof=1) / len(off) ** 0.5
    assert (error > 0).all()
    assert (np.abs(off.mean(0)) < 4.5 * error).all()


@pytest.mark.parametrize("rescale", ["history", "none"])
def test_with_other_weights_it_is_not(rescale: str) -> None:
    off = drawn(rescale, 40)
    error = off.std(0, ddof=1) / len(off) ** 0.5
    assert (np.abs(off.mean(0)) > 10 * error).all()


def test_weights_of_history_are_epochs_over_those_that_held_the_sample() -> None:
    sampler, held = Repb(N, rescale="history", prune=0.8), np.zeros(N)
    for epoch in range(25):
        order, _ = shown(sampler, epoch)
        held[order] += 1
        expected = np.minimum((epoch + 1) / held[order], 10)
        np.testing.assert_allclose(sampler.weights(torch.tensor(order)).numpy(), expected, rtol=1e-6)
    assert sampler.weights(torch.tensor(order)).max() > 1


@pytest.mark.parametrize("keep", [0.2, 0.5, 40, 60])
def test_a_budget_is_held_exactly(keep: float | int) -> None:
    sampler = Repb(N, keep=keep)
    for epoch in range(4):
        order, _ = shown(sampler, epoch)
        assert len(set(order)) == len(order) == (keep if isinstance(keep, int) else keep * N)
    assert all(plan.exact for plan in sampler.plan(4))
