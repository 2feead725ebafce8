"""A model measured during training, off the clock, equals one that was not measured."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from secateur.selectors.samplers.contract import samplers
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.learning_curve import LearningCurve
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.train import Trained, train

CONFIG = TrainingConfig(model="tabular_mlp", model_settings={"dropout": 0.5}, steps=10, batch_size=8)

CODES = {"kind": "codes", "categories": [0] * 3}


def blobs(seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    labels = np.arange(40) % 2
    return Data((rng.normal(size=(40, 3)) + labels[:, None]).astype(np.float32), labels, 2, CODES)


def weights(trained: Trained) -> list[torch.Tensor]:
    return [*trained.model.state_dict().values()]


def drawing(model: nn.Module) -> Mapping[str, float]:
    """A judge that draws random numbers and leaves the model in evaluation mode."""
    model.eval()
    return {"accuracy": float(torch.rand(()))}


def test_points_are_at_equal_shares_and_the_last_is_the_trained_model() -> None:
    test = blobs(1)
    done = train(blobs(), CONFIG, seed=0, curve=LearningCurve(partial(evaluate, data=test), 4))
    assert [point.steps for point in done.curve] == [3, 5, 8, 10]
    assert done.curve[-1].metrics == evaluate(done.model, test)
    seconds = [point.seconds for point in done.curve]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= done.seconds


def test_a_measured_model_is_the_same_to_the_bit() -> None:
    plain = train(blobs(), CONFIG, seed=0)
    measured = train(blobs(), CONFIG, seed=0, curve=LearningCurve(drawing, 10))
    assert len(measured.curve) == 10
    assert all(torch.equal(*pair) for pair in zip(weights(plain), weights(measured), strict=True))
    assert plain.curve == ()


def test_a_run_of_fewer_steps_has_a_point_after_each() -> None:
    done = train(blobs(), CONFIG.model_copy(update={"steps": 3}), seed=0, curve=LearningCurve(drawing, 20))
    assert [point.steps for point in done.curve] == [1, 2, 3]
    with pytest.raises(ValueError, match="evaluations: must be at least 1, got 0"):
        LearningCurve(drawing, 0)


def test_where_a_sampler_decides_shares_are_those_of_epochs() -> None:
    config = CONFIG.model_copy(update={"steps": None, "epochs": 4})
    sampler = samplers()["rs2"](40, keep=0.5, seed=0)
    done = train(blobs(), config, seed=0, sampler=sampler, curve=LearningCurve(drawing, 2))
    assert [point.steps for point in done.curve] == [6, 12], "epochs of 20 samples in batches of 8"


def test_measuring_is_off_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of this test advances only during measurements."""
    now = 0.0

    def slow(model: nn.Module) -> Mapping[str, float]:
        nonlocal now
        now += 100.0
        return {"accuracy": 0.5}

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    done = train(blobs(), CONFIG, seed=0, curve=LearningCurve(slow, 5))
    assert now == 500.0
    assert done.seconds == 0.0
    assert [point.seconds for point in done.curve] == [0.0] * 5


class Killed(Exception):
    pass


def killing(after: int) -> Iterator[Mapping[str, float]]:
    for number in range(after):
        yield {"accuracy": float(number)}
    raise Killed


def test_a_run_that_was_killed_goes_on_with_its_points(tmp_path: Path) -> None:
    told = killing(after=3)
    keep: dict[str, Any] = {"seed": 0, "snapshots": Snapshots(tmp_path / "s", steps=2)}
    with pytest.raises(Killed):
        train(blobs(), CONFIG, **keep, curve=LearningCurve(lambda _: next(told), 5))
    second = iter([{"accuracy": 8.0}, {"accuracy": 9.0}])
    done = train(blobs(), CONFIG, **keep, curve=LearningCurve(lambda _: next(second), 5))
    assert [point.metrics["accuracy"] for point in done.curve] == [0.0, 1.0, 2.0, 8.0, 9.0]
    assert [point.steps for point in done.curve] == [2, 4, 6, 8, 10]
    plain = train(blobs(), CONFIG, seed=0)
    assert all(torch.equal(*pair) for pair in zip(weights(plain), weights(done), strict=True))
