"""Training with a start model and a hook after each step; schedules and optimisers of configs."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.schedule import Position, Schedule, rate_at
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.train import train
from secateur.trainers.models.registry import build

CONFIG = TrainingConfig(model="mlp", model_settings={"hidden": [5]}, steps=6, batch_size=8, warmup=0.0)


@pytest.fixture
def data() -> Data:
    draws = np.random.default_rng(0)
    return Data(draws.normal(size=(20, 4)).astype(np.float32), draws.integers(0, 3, 20), 3)


def begun(data: Data) -> nn.Module:
    return build(CONFIG, (4,), 3, seed=9)


def test_a_start_is_trained_from_and_stays_as_it_was(data: Data) -> None:
    start = begun(data)
    before = copy.deepcopy(start.state_dict())
    config = CONFIG.model_copy(
        update={"optimiser": "sgd", "momentum": 0.0, "schedule": "constant", "weight_decay": 0.0}
    )
    trained = train(data, config.model_copy(update={"learning_rate": 0.1}), seed=1, start=start).model
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    # Written out: plain gradient descent at a constant rate, over the batches of the loop.
    twin, rows = copy.deepcopy(start).double(), torch.arange(20)
    twin[0].float()
    course, at, steps = Schedule(config, rows, None, 1), Position(), 0
    while steps < 6:
        order = course.order(at.epoch)
        for first in range(0, 20, 8):
            if steps == 6:
                break
            ids = order[first : first + 8]
            inputs = twin[0](torch.tensor(data.inputs[ids.numpy()])).double()
            loss = functional.cross_entropy(twin[1](inputs), torch.tensor(data.targets)[ids])
            for parameter, gradient in zip(
                twin.parameters(), torch.autograd.grad(loss, list(twin.parameters())), strict=True
            ):
                parameter.data -= 0.1 * gradient
            steps += 1
        at.epoch += 1
    for (name, mine), theirs in zip(trained.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.double(), theirs, atol=1e-6, rtol=1e-5, msg=name)


def test_parameters_that_do_not_learn_stay(data: Data) -> None:
    start = begun(data)
    first = next(start[1].parameters())
    first.requires_grad_(False)
    trained = train(data, CONFIG.model_copy(update={"weight_decay": 0.5}), seed=1, start=start).model
    assert torch.equal(next(trained[1].parameters()), first)
    assert not torch.equal(list(trained[1].parameters())[1], list(start[1].parameters())[1])


def test_after_step_is_told_of_each_step_and_may_change_weights(data: Data) -> None:
    told = []

    def after(model: nn.Module, done: int, steps: int) -> None:
        told.append((done, steps))
        for parameter in model.parameters():
            parameter.data.fill_(0.25)

    trained = train(data, CONFIG, seed=0, after_step=after).model
    assert told == [(done, 6) for done in range(1, 7)]
    assert all((parameter == 0.25).all() for parameter in trained.parameters())


def test_a_snapshot_of_another_start_or_of_another_hook_is_refused(data: Data, tmp_path: Path) -> None:
    def after(model: nn.Module, done: int, steps: int) -> None:
        pass

    start, other = begun(data), build(CONFIG, (4,), 3, seed=8)
    kept = Snapshots(tmp_path, steps=2, keep=True)
    whole = train(data, CONFIG, seed=0, start=start, after_step=after, snapshots=kept)
    again = train(data, CONFIG, seed=0, start=start, after_step=after, snapshots=kept)
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))
    for told in ({"start": other, "after_step": after}, {"start": start}, {"after_step": after}, {}):
        with pytest.raises(ValueError, match=r"snapshot of another run: .*(start|after_step)"):
            train(data, CONFIG, seed=0, snapshots=kept, **told)  # type: ignore[arg-type]
    frozen = copy.deepcopy(start)
    next(frozen.parameters()).requires_grad_(False)
    with pytest.raises(ValueError, match="another run: start"):
        train(data, CONFIG, seed=0, start=frozen, after_step=after, snapshots=kept)


def test_schedules() -> None:
    assert [rate_at(p, 0.0, "step") for p in (0.0, 0.499, 0.5, 0.749, 0.75, 1.0)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert [rate_at(p, 0.2, "constant") for p in (0.1, 0.2, 0.9)] == [0.5, 1, 1]
    assert math.isclose(rate_at(0.6, 0.2), 0.5)
    assert TrainingConfig(epochs=1).schedule == "cosine"


@pytest.mark.parametrize("told", [{"momentum": 1.0}, {"betas": [0.9]}, {"betas": [0.9, 1.0]}, {"schedule": "linear"}])
def test_wrong_configs_are_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(told))):
        TrainingConfig(epochs=1, **told)  # type: ignore[arg-type]
