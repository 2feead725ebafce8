"""The training loop: what it may depend on, what it tells observers, and how its learning rate runs."""

import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from secateur.scorers.aum import Aum
from secateur.scorers.contract import Observer
from secateur.scorers.loss import Loss
from secateur.trainers import loop
from secateur.trainers.contract import Data, Recipe
from secateur.trainers.loop import rate_at, train
from secateur.trainers.models import Standardise

CPU = torch.device("cpu")


def blobs(samples=90, classes=3, features=5, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, samples)
    inputs = generator.normal(size=(samples, features)) + 2 * np.eye(classes, features)[labels]
    return Data(inputs.astype(np.float32), labels, classes)


class Recorder(Observer):
    """Everything that an observer is told."""

    def __init__(self, samples):
        super().__init__(samples, CPU)
        self.batches, self.ended = [], []

    def update(self, batch):
        values = (batch.logits, batch.labels, batch.losses)
        self.batches.append((batch.ids.numpy().copy(), *(each.clone() for each in values)))

    def reduce(self):
        return self.presentations

    def end_epoch(self, epoch):
        self.ended.append((epoch, len(self.batches)))


def recorded(data, recipe, **kwargs):
    recorder = Recorder(len(data))
    return recorder, train(data, recipe, seed=kwargs.pop("seed", 0), observers=[recorder], device=CPU, **kwargs)


def parameters_of(trained):
    return {name: value.numpy().tobytes() for name, value in trained.model.state_dict().items()}


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_the_same_call_gives_the_same_bits(optimiser):
    data, recipe = blobs(), Recipe(epochs=4, batch_size=16, optimiser=optimiser)
    results = []
    for _ in range(2):
        watchers = [Aum(len(data), CPU), Loss(len(data), CPU)]
        trained = train(data, recipe, seed=3, observers=watchers, device=CPU)
        results.append((parameters_of(trained), [watcher.scores().tobytes() for watcher in watchers]))
    assert results[0] == results[1]
    assert parameters_of(train(data, recipe, seed=4, device=CPU)) != results[0][0]


def test_observers_change_nothing():
    data, recipe = blobs(), Recipe(epochs=2, batch_size=16)
    plain = train(data, recipe, seed=0, device=CPU)
    watched = train(data, recipe, seed=0, observers=[Aum(len(data), CPU)], device=CPU)
    assert parameters_of(plain) == parameters_of(watched)


def noisy(shape, classes):
    """A network that draws random numbers as it runs."""
    return torch.nn.Sequential(torch.nn.Linear(shape[0], 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, classes))


def test_private_generators_serve_dropout_and_the_global_ones_stay_as_they_were(monkeypatch):
    monkeypatch.setitem(sys.modules, "noisy_networks", SimpleNamespace(noisy=noisy))
    data, recipe = blobs(), Recipe(model="noisy_networks:noisy", epochs=2, batch_size=16)
    torch.manual_seed(11)
    np.random.seed(11)
    before = torch.get_rng_state(), json.dumps(np.random.get_state(legacy=False), default=str)
    first = train(data, recipe, seed=0, device=CPU)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert json.dumps(np.random.get_state(legacy=False), default=str) == before[1]
    torch.rand(3)
    np.random.rand(3)
    assert parameters_of(train(data, recipe, seed=0, device=CPU)) == parameters_of(first)


@settings(max_examples=15, deadline=None)
@given(
    samples=st.integers(1, 40),
    batch_size=st.integers(1, 17),
    length=st.integers(1, 4),
    by_steps=st.booleans(),
    seed=st.integers(0, 99),
)
def test_epochs_present_every_kept_row_once_and_nothing_else(samples, batch_size, length, by_steps, seed):
    data = blobs(samples)
    keep = np.random.default_rng(seed).random(samples) < 0.6
    keep[seed % samples] = True
    kept = np.flatnonzero(keep)
    recipe = Recipe(batch_size=batch_size, **({"steps": 3 * length} if by_steps else {"epochs": length}))
    recorder, trained = recorded(data, recipe, keep=keep, seed=seed)
    per_epoch = math.ceil(len(kept) / batch_size)
    steps = 3 * length if by_steps else length * per_epoch
    assert trained.steps == len(recorder.batches) == steps
    assert trained.samples_seen == sum(len(ids) for ids, *_ in recorder.batches)
    assert trained.epochs == math.ceil(steps / per_epoch) == len(recorder.ended)
    assert [epoch for epoch, _ in recorder.ended] == list(range(trained.epochs))
    assert [end for _, end in recorder.ended] == [min(steps, (e + 1) * per_epoch) for e in range(trained.epochs)]
    for start in range(0, steps, per_epoch):
        seen = np.concatenate([ids for ids, *_ in recorder.batches[start : start + per_epoch]])
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(kept)
        assert start + per_epoch > steps or sorted(seen) == list(kept)


def test_orders_differ_between_epochs_and_seeds():
    data, recipe = blobs(), Recipe(epochs=2, batch_size=90)
    orders = [tuple(ids) for seed in (0, 1) for ids, *_ in recorded(data, recipe, seed=seed)[0].batches]
    assert len(set(orders)) == 4


def test_training_on_a_subset_depends_on_nothing_outside_it():
    data = blobs()
    keep = np.arange(90) % 3 != 0
    spoilt = Data(data.inputs.copy(), data.labels.copy(), data.classes)
    spoilt.inputs[~keep] = 1e6
    spoilt.labels[~keep] = (spoilt.labels[~keep] + 1) % 3
    recipe = Recipe(epochs=2, batch_size=16)
    first, second = (train(each, recipe, seed=0, keep=keep, device=CPU) for each in (data, spoilt))
    assert parameters_of(first) == parameters_of(second)


def test_keeping_everything_is_training_on_everything():
    data, recipe = blobs(), Recipe(epochs=2, batch_size=16)
    first, second = (train(data, recipe, seed=0, keep=keep, device=CPU) for keep in (None, np.ones(90, bool)))
    assert parameters_of(first) == parameters_of(second)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_steps_are_those_of_a_loop_written_out(label_smoothing):
    """Pre-update logits, per-sample losses, the schedule, the smoothed objective and the optimiser, all at once."""
    data = blobs()
    recipe = Recipe(steps=12, batch_size=32, warmup=0.25, weight_decay=0.01, label_smoothing=label_smoothing)
    recorder, trained = recorded(data, recipe, seed=5)
    model = loop.build(recipe, (5,), 3, seed=5)
    model[0].fit(data)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01, fused=False, foreach=False)
    labels = torch.from_numpy(data.labels)
    for step, (ids, logits, targets, losses) in enumerate(recorder.batches):
        progress = (step + 0.5) / 12
        share = progress / 0.25 if progress < 0.25 else (1 + math.cos(math.pi * (progress - 0.25) / 0.75)) / 2
        optimiser.param_groups[0]["lr"] = 1e-3 * share
        mine = model(torch.from_numpy(data.inputs[ids]))
        torch.testing.assert_close(logits, mine.detach(), rtol=1e-4, atol=1e-5)
        assert torch.equal(targets, labels[ids])
        chosen = mine.log_softmax(dim=1)
        expected = -chosen[torch.arange(len(ids)), targets]
        torch.testing.assert_close(losses, expected.detach(), rtol=1e-4, atol=1e-5)
        smooth = (1 - label_smoothing) * expected - label_smoothing * chosen.mean(dim=1)
        optimiser.zero_grad()
        smooth.mean().backward()
        optimiser.step()
    for name, value in trained.model.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_every_step_moves_the_weights():
    for steps in (1, 2, 7):
        before = loop.build(Recipe(steps=1), (5,), 3, seed=0).state_dict()
        after = train(blobs(), Recipe(steps=steps), seed=0, device=CPU).model.state_dict()
        assert not any(torch.equal(before[name], value) for name, value in after.items() if "weight" in name)
        rates = [rate_at((step + 0.5) / steps, 0.05) for step in range(steps)]
        assert min(rates) > 0


@settings(max_examples=200)
@given(warmup=st.floats(0, 0.95), progress=st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_the_rate_rises_and_then_only_falls(warmup, progress):
    progress = sorted(progress)
    rates = [rate_at(each, warmup) for each in progress]
    assert all(0 <= rate <= 1 for rate in rates)
    for here, there, low, high in zip(progress, progress[1:], rates, rates[1:], strict=False):
        assert low <= high + 1e-12 if there < warmup else (here < warmup or high <= low + 1e-12)
    assert rate_at(1.0, warmup) == 0
    assert rate_at(warmup, warmup) == 1
    assert rate_at(1.7, warmup) == 0  # a run that overshoots does not start to rise again


def test_standardised_inputs_are_numpys():
    generator = np.random.default_rng(0)
    inputs = (generator.normal(size=(5000, 4)) * [1, 1e-3, 1e4, 1] + [0, 5, -1e5, 1e4]).astype(np.float32)
    layer = Standardise(4)
    layer.fit(Data(inputs, np.zeros(5000, np.int64), 1))
    exact = inputs.astype(np.float64)
    np.testing.assert_allclose(layer.mean.numpy(), exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(layer.std.numpy(), exact.std(axis=0), rtol=1e-5)


def test_images_are_standardised_by_channel_and_turned_channels_first():
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, 256, (300, 4, 6, 3), dtype=np.uint8)
    inputs[..., 1] //= 8
    layer = Standardise(3)
    layer.fit(Data(inputs, np.zeros(300, np.int64), 1))
    exact = inputs.astype(np.float64)
    expected = ((exact - exact.mean(axis=(0, 1, 2))) / exact.std(axis=(0, 1, 2))).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(layer(torch.from_numpy(inputs)).numpy(), expected, atol=1e-5)


def test_a_column_that_never_varies_keeps_a_deviation_of_one():
    constants = np.float32([0.1, 1 / 3, -1234.567, 1e7 + 1, 3e-20, 0, 1.6e9])
    inputs = np.tile(np.append(constants, np.float32(0)), (5000, 1))
    inputs[:, -1] = np.arange(5000)
    layer = Standardise(8)
    layer.fit(Data(inputs, np.zeros(5000, np.int64), 1))
    assert layer.std[:-1].tolist() == [1] * 7
    assert torch.equal(layer(torch.from_numpy(inputs))[:, :-1], torch.zeros(5000, 7))


def test_large_offsets_do_not_swallow_the_deviation():
    seconds = 1.6e9 + 256 * np.arange(8192)  # since 1970, over a month
    identifiers = 1e7 + np.arange(8192) % 3
    outlier = np.where(np.arange(8192) == 0, 1e9, np.arange(8192) % 5)  # the first of its column
    inputs = np.stack([seconds, identifiers, outlier], axis=1).astype(np.float32)
    layer = Standardise(3)
    layer.fit(Data(inputs, np.zeros(8192, np.int64), 1))
    np.testing.assert_allclose(layer.std.numpy(), inputs.astype(np.float64).std(axis=0), rtol=1e-6)


def test_progress_is_told_after_each_epoch():
    told = []
    train(blobs(), Recipe(steps=8, batch_size=32), seed=0, device=CPU, progress=lambda *each: told.append(each))
    assert told == [(3, 8), (6, 8), (8, 8)]


def test_the_model_comes_back_in_evaluation_mode():
    trained = train(blobs(), Recipe(epochs=1), seed=0, device=CPU)
    assert not any(module.training for module in trained.model.modules())
    assert trained.seconds > 0


def test_it_learns():
    data = blobs(300)
    model = train(data, Recipe(epochs=20, batch_size=32, learning_rate=0.01), seed=0, device=CPU).model
    with torch.no_grad():
        logits = model(torch.from_numpy(data.inputs))
    assert functional.cross_entropy(logits, torch.from_numpy(data.labels)) < 0.4


def test_what_cannot_be_trained_on_is_refused():
    data, recipe = blobs(), Recipe(steps=2)
    with pytest.raises(ValueError, match="0 of 90 samples are kept"):
        train(data, recipe, seed=0, keep=np.zeros(90, bool), device=CPU)
    with pytest.raises(ValueError, match="mask is over 80 samples, the data holds 90"):
        train(data, recipe, seed=0, keep=np.ones(80, bool), device=CPU)
    data.labels[[4, 7]] = 3, -1
    with pytest.raises(ValueError, match="within 0 … 2, they are not at rows 4, 7"):
        train(data, recipe, seed=0, device=CPU)


def test_read_only_data_serve():
    data = blobs()
    data.inputs.setflags(write=False)
    data.labels.setflags(write=False)
    train(data, Recipe(steps=2), seed=0, device=CPU)


@pytest.mark.parametrize("length", [{}, {"epochs": 1, "steps": 1}, {"epochs": 0}, {"steps": 1, "rate": 1}])
def test_recipes_that_say_too_little_or_too_much_are_refused(length):
    with pytest.raises(ValueError, match=r"epochs|steps|rate"):
        Recipe(**length)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_generators_of_the_gpu_stay_as_they_were():
    torch.cuda.manual_seed_all(1)
    before = torch.cuda.get_rng_state_all()
    train(blobs(), Recipe(steps=2), seed=0)
    train(blobs(), Recipe(steps=2), seed=0, device=CPU)
    assert all(torch.equal(a, b) for a, b in zip(before, torch.cuda.get_rng_state_all(), strict=True))
