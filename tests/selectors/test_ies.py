"""IES: the rule row by row, the first epoch that may leave samples out, what returns, and what is saved."""

import warnings

import numpy as np
import pytest
import torch

from secateur.selectors.samplers.ies import Ies, bending

N = 40


def losses_at(epoch: int) -> np.ndarray:
    """Of rows 0 to 9 constant and high, of 10 to 19 straight down, of others restless; row 10 jumps in epoch 9."""
    rows = np.arange(N)
    found = 2 + np.sin(3.0 * epoch + rows)
    found[:10] = 5.0
    found[10:20] = 4 - 0.25 * epoch
    found[10] += 3.0 * (epoch == 9)
    return found.astype(np.float32)


def mastered_by_hand(history: list[list[float]], window: int, last: int, threshold: float) -> set[int]:
    """The rule in words, one row and one number at a time."""
    found = set()
    for row, losses in enumerate(history):
        bends = [abs(losses[t] - 2 * losses[t - 1] + losses[t - 2]) for t in range(2, len(losses))]
        if len(bends) < window + last:
            continue
        averages = [sum(bends[t - window + 1 : t + 1]) / window for t in range(window - 1, len(bends))]
        if sum(averages[-last:]) < threshold:
            found.add(row)
    return found


def trained(sampler: Ies, epochs: int) -> tuple[list[set[int]], list[set[int]]]:
    """What each epoch trains on, and what it leaves out, of a loop that does as it should."""
    shown, left_out = [], []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        shown.append(set(sampler.epoch_ids().tolist()))
        left_out.append(set(sampler.forward_only.tolist()))
        for ids in (list(shown[-1]), list(left_out[-1])):
            sampler.observe(torch.tensor(ids, dtype=torch.int64), torch.from_numpy(losses_at(epoch)[ids]))
    return shown, left_out


@pytest.mark.parametrize(("window", "last", "threshold"), [(3, 1, 1e-3), (2, 2, 0.5), (1, 1, 1.2)])
def test_what_is_left_out_is_what_the_rule_says_row_by_row(window: int, last: int, threshold: float) -> None:
    shown, left_out = trained(Ies(N, threshold=threshold, window=window, last=last), 14)
    for epoch in range(14):
        history = [[float(losses_at(t)[row]) for t in range(epoch)] for row in range(N)]
        assert left_out[epoch] == mastered_by_hand(history, window, last, threshold)
        assert shown[epoch] == set(range(N)) - left_out[epoch]
    assert left_out[12]


def test_the_seventh_epoch_is_the_first_and_samples_return() -> None:
    sampler = Ies(N)
    shown, left_out = trained(sampler, 14)
    assert [len(rows) for rows in left_out[:7]] == [0] * 6 + [20]
    assert [plan.exact for plan in Ies(N).plan(9)] == [True] * 6 + [False] * 3
    assert 10 in left_out[9]
    assert 10 in shown[10]
    assert 10 in shown[13]
    assert sampler.saved_backward == sum(map(len, left_out)) == sum(N - len(rows) for rows in shown)


def test_a_loss_that_stays_high_is_mastered_and_can_be_told() -> None:
    sampler = Ies(N)
    trained(sampler, 8)
    left_out = sampler.observed.losses[torch.from_numpy(sampler.forward_only)]
    assert (left_out == 5.0).sum() == 10


def test_losses_that_nobody_computes_are_warned_of_once() -> None:
    sampler = Ies(N)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for epoch in range(12):
            sampler.set_epoch(epoch)
            ids = torch.from_numpy(sampler.epoch_ids())
            sampler.observe(ids, torch.from_numpy(losses_at(epoch))[ids])
    assert [str(one.message)[:52] for one in said] == ["samples that an epoch left out have no loss of that "]


def test_where_all_are_mastered_one_stays() -> None:
    sampler = Ies(N, threshold=100.0)
    shown, _ = trained(sampler, 8)
    assert [len(rows) for rows in shown] == [N] * 6 + [1] * 2
    history = np.stack([losses_at(epoch) for epoch in range(6)], axis=1)
    assert shown[6] == {int(np.argmax(bending(history, 3, 1)))}


def test_its_gradient_is_not_that_of_all_data() -> None:
    """Given the losses nothing is random: what is left out is left out, and weighs nothing elsewhere."""
    epochs = []
    for seed in range(5):
        sampler = Ies(N, seed=seed)
        trained(sampler, 8)
        epochs.append(set(sampler.epoch_ids().tolist()))
        assert torch.equal(sampler.weights(torch.arange(N)), torch.ones(N))
    assert all(epoch == epochs[0] != set(range(N)) for epoch in epochs)
