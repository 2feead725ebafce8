"""The training loop: its dependencies, its calls of observers, and its learning rate."""

import itertools
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

from secateur.scorers.contract import Observer
from secateur.scorers.observers.aum import Aum
from secateur.scorers.observers.loss import Loss
from secateur.selectors.samplers.fixed_subset import FixedSubset
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.selectors.samplers.rs2 import Rs2
from secateur.selectors.samplers.seta import Seta
from secateur.trainers.augmentation import Augmentation
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop import train as loop
from secateur.trainers.loop.run import Run
from secateur.trainers.loop.schedule import Epoch, once_each, rate_at
from secateur.trainers.loop.train import train
from secateur.trainers.models.networks import Standardise

CPU = torch.device("cpu")


def blobs(samples=90, classes=3, features=5, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, samples)
    inputs = generator.normal(size=(samples, features)) + 2 * np.eye(classes, features)[labels]
    return Data(inputs.astype(np.float32), labels, classes)


class Recorder(Observer):
    """Records all arguments of an observer."""

    def __init__(self, samples):
        super().__init__(samples, CPU)
        self.batches, self.ended = [], []

    def update(self, batch):
        values = (batch.outputs, batch.targets, batch.losses)
        self.batches.append((batch.ids.numpy().copy(), *(each.clone() for each in values)))

    def reduce(self):
        return self.presentations

    def end_epoch(self, epoch):
        self.ended.append((epoch, len(self.batches)))


def recorded(data, config, **kwargs):
    recorder = Recorder(len(data))
    return recorder, train(data, config, seed=kwargs.pop("seed", 0), observers=[recorder], device=CPU, **kwargs)


def parameters_of(trained):
    return {name: value.numpy().tobytes() for name, value in trained.model.state_dict().items()}


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_the_same_call_gives_the_same_bits(optimiser):
    data, config = blobs(), TrainingConfig(epochs=4, batch_size=16, optimiser=optimiser)
    results = []
    for _ in range(2):
        watchers = [Aum(len(data), CPU), Loss(len(data), CPU)]
        trained = train(data, config, seed=3, observers=watchers, device=CPU)
        results.append((parameters_of(trained), [watcher.scores().tobytes() for watcher in watchers]))
    assert results[0] == results[1]
    assert parameters_of(train(data, config, seed=4, device=CPU)) != results[0][0]


def test_observers_change_nothing():
    data, config = blobs(), TrainingConfig(epochs=2, batch_size=16)
    plain = train(data, config, seed=0, device=CPU)
    watched = train(data, config, seed=0, observers=[Aum(len(data), CPU)], device=CPU)
    assert parameters_of(plain) == parameters_of(watched)


def noisy(shape, classes):
    """A network that draws random numbers in its forward pass."""
    return torch.nn.Sequential(torch.nn.Linear(shape[0], 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, classes))


def test_private_generators_serve_dropout_and_the_global_ones_stay_as_they_were(monkeypatch):
    monkeypatch.setitem(sys.modules, "noisy_networks", SimpleNamespace(noisy=noisy))
    data, config = blobs(), TrainingConfig(model="noisy_networks:noisy", epochs=2, batch_size=16)
    torch.manual_seed(11)
    np.random.seed(11)
    before = torch.get_rng_state(), json.dumps(np.random.get_state(legacy=False), default=str)
    first = train(data, config, seed=0, device=CPU)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert json.dumps(np.random.get_state(legacy=False), default=str) == before[1]
    torch.rand(3)
    np.random.rand(3)
    assert parameters_of(train(data, config, seed=0, device=CPU)) == parameters_of(first)


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
    config = TrainingConfig(batch_size=batch_size, **({"steps": 3 * length} if by_steps else {"epochs": length}))
    recorder, trained = recorded(data, config, keep=keep, seed=seed)
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
    data, config = blobs(), TrainingConfig(epochs=2, batch_size=90)
    orders = [tuple(ids) for seed in (0, 1) for ids, *_ in recorded(data, config, seed=seed)[0].batches]
    assert len(set(orders)) == 4


def test_training_on_a_subset_depends_on_nothing_outside_it():
    data = blobs()
    keep = np.arange(90) % 3 != 0
    spoilt = Data(data.inputs.copy(), data.targets.copy(), data.task.width)
    spoilt.inputs[~keep] = 1e6
    spoilt.targets[~keep] = (spoilt.targets[~keep] + 1) % 3
    config = TrainingConfig(epochs=2, batch_size=16)
    first, second = (train(each, config, seed=0, keep=keep, device=CPU) for each in (data, spoilt))
    assert parameters_of(first) == parameters_of(second)


def test_keeping_everything_is_training_on_everything():
    data, config = blobs(), TrainingConfig(epochs=2, batch_size=16)
    first, second = (train(data, config, seed=0, keep=keep, device=CPU) for keep in (None, np.ones(90, bool)))
    assert parameters_of(first) == parameters_of(second)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_steps_are_those_of_a_loop_written_out(label_smoothing):
    """Logits before the update, per-sample losses, the schedule, the smoothed objective and the optimiser together."""
    data = blobs()
    config = TrainingConfig(steps=12, batch_size=32, warmup=0.25, weight_decay=0.01, label_smoothing=label_smoothing)
    recorder, trained = recorded(data, config, seed=5)
    model = loop.build(config, (5,), 3, seed=5)
    model[0].fit(data)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01, fused=False, foreach=False)
    labels = torch.from_numpy(data.targets)
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
        before = loop.build(TrainingConfig(steps=1), (5,), 3, seed=0).state_dict()
        after = train(blobs(), TrainingConfig(steps=steps), seed=0, device=CPU).model.state_dict()
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
    assert rate_at(1.7, warmup) == 0  # A run that overshoots does not rise again.


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


def test_large_images_are_measured_in_smaller_blocks(monkeypatch):
    generator = np.random.default_rng(0)
    data = Data(generator.integers(0, 256, (300, 4, 6, 3), dtype=np.uint8), np.zeros(300, np.int64), 1)
    whole, parted, sizes, take = Standardise(3), Standardise(3), [], Data.take
    whole.fit(data)
    monkeypatch.setattr("secateur.trainers.models.networks.FITTED_AT_ONCE", 50 * 4 * 6 * 3 * 8)
    monkeypatch.setattr(Data, "take", lambda held, rows: sizes.append(len(rows)) or take(held, rows))
    parted.fit(data)
    assert sizes == [1, *[50] * 6]
    for name in ("mean", "std"):
        np.testing.assert_allclose(getattr(parted, name).numpy(), getattr(whole, name).numpy(), rtol=1e-6)


def test_a_column_that_never_varies_keeps_a_deviation_of_one():
    constants = np.float32([0.1, 1 / 3, -1234.567, 1e7 + 1, 3e-20, 0, 1.6e9])
    inputs = np.tile(np.append(constants, np.float32(0)), (5000, 1))
    inputs[:, -1] = np.arange(5000)
    layer = Standardise(8)
    layer.fit(Data(inputs, np.zeros(5000, np.int64), 1))
    assert layer.std[:-1].tolist() == [1] * 7
    assert torch.equal(layer(torch.from_numpy(inputs))[:, :-1], torch.zeros(5000, 7))


def test_large_offsets_do_not_swallow_the_deviation():
    seconds = 1.6e9 + 256 * np.arange(8192)  # Seconds since 1970, over a month.
    identifiers = 1e7 + np.arange(8192) % 3
    outlier = np.where(np.arange(8192) == 0, 1e9, np.arange(8192) % 5)  # The first number of its column.
    inputs = np.stack([seconds, identifiers, outlier], axis=1).astype(np.float32)
    layer = Standardise(3)
    layer.fit(Data(inputs, np.zeros(8192, np.int64), 1))
    np.testing.assert_allclose(layer.std.numpy(), inputs.astype(np.float64).std(axis=0), rtol=1e-6)


def test_progress_is_told_after_each_epoch():
    told = []
    train(blobs(), TrainingConfig(steps=8, batch_size=32), seed=0, device=CPU, progress=lambda *each: told.append(each))
    assert told == [(3, 8), (6, 8), (8, 8)]


def test_the_model_comes_back_in_evaluation_mode():
    trained = train(blobs(), TrainingConfig(epochs=1), seed=0, device=CPU)
    assert not any(module.training for module in trained.model.modules())
    assert trained.seconds > 0


def test_it_learns():
    data = blobs(300)
    model = train(data, TrainingConfig(epochs=20, batch_size=32, learning_rate=0.01), seed=0, device=CPU).model
    with torch.no_grad():
        logits = model(torch.from_numpy(data.inputs))
    assert functional.cross_entropy(logits, torch.from_numpy(data.targets)) < 0.4


def test_what_cannot_be_trained_on_is_refused():
    data, config = blobs(), TrainingConfig(steps=2)
    with pytest.raises(ValueError, match="0 of 90 samples are kept"):
        train(data, config, seed=0, keep=np.zeros(90, bool), device=CPU)
    with pytest.raises(ValueError, match="mask is over 80 samples, the data holds 90"):
        train(data, config, seed=0, keep=np.ones(80, bool), device=CPU)
    data.targets[[4, 7]] = 3, -1
    with pytest.raises(ValueError, match="within 0 … 2, they are not at rows 4, 7"):
        train(data, config, seed=0, device=CPU)


def test_read_only_data_serve():
    data = blobs()
    data.inputs.setflags(write=False)
    data.targets.setflags(write=False)
    train(data, TrainingConfig(steps=2), seed=0, device=CPU)


@pytest.mark.parametrize("length", [{}, {"epochs": 1, "steps": 1}, {"epochs": -1}, {"steps": 1, "rate": 1}])
def test_configs_that_say_too_little_or_too_much_are_refused(length):
    with pytest.raises(ValueError, match=r"epochs|steps|rate"):
        TrainingConfig(**length)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_generators_of_the_gpu_stay_as_they_were():
    torch.cuda.manual_seed_all(1)
    before = torch.cuda.get_rng_state_all()
    train(blobs(), TrainingConfig(steps=2), seed=0)
    train(blobs(), TrainingConfig(steps=2), seed=0, device=CPU)
    assert all(torch.equal(a, b) for a, b in zip(before, torch.cuda.get_rng_state_all(), strict=True))


# In-training selection, objectives


def literal_run(data, config, steps, *, seed, descend):
    """Training written out in float64: `steps` are (ids, rate), `descend(logits, ids)` the scalar of a step."""
    model = loop.build(config, data.inputs.shape[1:], data.task.width, seed=seed)
    model[0].fit(data)
    model.double()
    optimiser = torch.optim.SGD(model.parameters(), 1.0, momentum=0.9, nesterov=True, weight_decay=config.weight_decay)
    seen = []
    for ids, rate in steps:
        optimiser.param_groups[0]["lr"] = rate
        logits = model[1]((torch.from_numpy(data.inputs[ids]).double() - model[0].mean) / model[0].std)
        seen.append(logits.detach())
        optimiser.zero_grad()
        descend(logits, torch.from_numpy(ids)).backward()
        optimiser.step()
    return model, seen


def rate_of(progress, config):
    share = progress / config.warmup if progress < config.warmup else None
    falling = (1 + math.cos(math.pi * (progress - config.warmup) / (1 - config.warmup))) / 2
    return config.learning_rate * (falling if share is None else share)


@pytest.mark.parametrize("by_steps", [False, True])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_sampled_steps_are_those_of_a_loop_written_out(by_steps, accumulate):
    """Epochs, weights, the sampler's losses, the schedule and the gradient, against float64."""
    data, length = blobs(), {"steps": 14} if by_steps else {"epochs": 5}
    config = TrainingConfig(
        **length, batch_size=25, optimiser="sgd", learning_rate=0.02, warmup=0.2, label_smoothing=0.1,
        accumulate=accumulate,
    )  # fmt: skip
    sampler, mine = (InfoBatch(90, 5, prune=0.5, seed=3) for _ in range(2))
    recorder, trained = recorded(data, config, sampler=sampler, seed=5)
    labels, batches_left = torch.from_numpy(data.targets), [ids for ids, *_ in recorder.batches]
    steps, weights, epoch = [], {}, 0
    while batches_left:  # Ids, epoch and rate of each step.
        mine.set_epoch(epoch)
        expected, here = mine.epoch_ids(), 0
        per_epoch = math.ceil(len(expected) / 25)
        while here < len(expected) and batches_left:
            ids = batches_left.pop(0)
            np.testing.assert_array_equal(ids, expected[here : here + 25])
            weights[len(steps)] = mine.weights(torch.from_numpy(ids)).double()
            done = len(steps) + 0.5
            progress = done / 14 if by_steps else (epoch + (here // 25 + 0.5) / per_epoch) / 5
            steps.append((ids, rate_of(progress, config)))
            mine.observe(torch.from_numpy(ids), recorder.batches[len(steps) - 1][3])
            here += len(ids)
        epoch += 1
    number = iter(range(len(steps)))

    def descend(logits, ids):
        each = functional.cross_entropy(logits, labels[ids], reduction="none", label_smoothing=0.1)
        return (weights[next(number)] * each).sum() / len(ids)

    model, logits = literal_run(data, config, steps, seed=5, descend=descend)
    assert trained.steps == len(steps) == (14 if by_steps else len(steps))
    assert trained.epochs == epoch == len(trained.epoch_samples)
    assert trained.samples_seen == sum(trained.epoch_samples) == sum(len(ids) for ids, _ in steps)
    assert trained.length == ("steps" if by_steps else "epochs")
    assert len({len(weight.unique()) for weight in weights.values()}) > 1  # Some samples had a larger weight.
    for (_, got, *_), exact in zip(recorder.batches, logits, strict=True):
        torch.testing.assert_close(got.double(), exact, rtol=2e-4, atol=2e-5)
    for name, value in trained.model.state_dict().items():
        torch.testing.assert_close(value.double(), model.state_dict()[name], rtol=2e-4, atol=2e-5)


def test_an_objective_is_descended_and_scores_stay_plain():
    data = blobs()
    config = TrainingConfig(
        steps=9, batch_size=25, optimiser="sgd", learning_rate=0.02, warmup=0.2, label_smoothing=0.4
    )
    inputs_seen = []

    def objective(batch, inputs):
        inputs_seen.append(inputs)
        assert batch.outputs.requires_grad
        assert batch.losses.requires_grad
        return batch.outputs.square().mean(dim=1) + batch.ids * batch.losses

    recorder, trained = recorded(data, config, objective=objective)
    labels = torch.from_numpy(data.targets)

    def descend(logits, ids):
        return (logits.square().mean(1) + ids * functional.cross_entropy(logits, labels[ids], reduction="none")).mean()

    steps = [(ids, rate_of((step + 0.5) / 9, config)) for step, (ids, *_) in enumerate(recorder.batches)]
    model, _ = literal_run(data, config, steps, seed=0, descend=descend)
    for name, value in trained.model.state_dict().items():
        torch.testing.assert_close(value.double(), model.state_dict()[name], rtol=5e-4, atol=5e-5)
    for (ids, logits, target, losses), inputs in zip(recorder.batches, inputs_seen, strict=True):
        torch.testing.assert_close(losses, functional.cross_entropy(logits, target, reduction="none"))
        np.testing.assert_array_equal(inputs.numpy(), data.inputs[ids])


def test_the_plain_cross_entropy_as_objective_changes_no_bit():
    data, config = blobs(), TrainingConfig(epochs=2, batch_size=16)
    given_one = train(data, config, seed=0, objective=lambda batch, inputs: batch.losses, device=CPU)
    assert parameters_of(given_one) == parameters_of(train(data, config, seed=0, device=CPU))


def test_an_objective_that_gives_no_loss_per_sample_is_refused():
    with pytest.raises(ValueError, match=r"one loss per sample, \[64\], it gave \[\]"):
        train(blobs(), TrainingConfig(steps=1), seed=0, objective=lambda batch, inputs: batch.losses.mean(), device=CPU)


@pytest.mark.parametrize("kind", ["rs2", "seta", "fixed", "info_batch"])
def test_epochs_of_every_sampler_end_where_they_should(kind):
    data = blobs()
    sampler = {
        "rs2": lambda: Rs2(90, keep=0.37, seed=1),
        "seta": lambda: Seta(90, 6, seed=1),
        "fixed": lambda: FixedSubset(np.arange(90) < 40, seed=1),
        "info_batch": lambda: InfoBatch(90, 6, prune=0.7, seed=1),
    }[kind]()
    rates, told = [], []

    class Rates(Recorder):
        def update(self, batch):
            super().update(batch)
            rates.append(optimisers[0].param_groups[0]["lr"])

    optimisers, real = [], loop.Run.__post_init__

    def remember(run):
        real(run)
        optimisers.append(run.optimiser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Run, "__post_init__", remember)
        recorder = Rates(90)
        trained = train(
            data, TrainingConfig(epochs=6, batch_size=8, warmup=0), seed=0, sampler=sampler, observers=[recorder],
            device=CPU, progress=lambda *each: told.append(each),
        )  # fmt: skip
    assert [epoch for epoch, _ in recorder.ended] == list(range(6))
    assert told[-1] == (trained.steps, trained.steps)
    assert [done for done, _ in told] == [end for _, end in recorder.ended]
    assert all(done <= total for done, total in told)
    assert all(before > after for before, after in itertools.pairwise(rates))
    assert 0 < rates[-1] < 1e-3 * 0.01
    for number, (_, end) in enumerate(recorder.ended):  # At half of the epochs the rate is half-way down.
        assert rates[end - 1] >= 1e-3 * rate_at((number + 1) / 6, 0.0)
        assert number == 5 or rates[end] < 1e-3 * rate_at((number + 1) / 6, 0.0)


@settings(max_examples=30)
@given(count=st.integers(1, 80), size=st.integers(1, 30), join=st.booleans())
def test_steps_cover_an_epoch_and_leave_no_sample_alone(count, size, join):
    steps = Epoch(0, torch.arange(count), size, join_last=join).steps
    assert [place for step in steps for place in range(step.start, step.stop)] == list(range(count))
    lengths = [step.stop - step.start for step in steps]
    assert all(length == size for length in lengths[:-1])
    assert lengths[-1] <= size + 1
    assert not join or 1 not in lengths or count == 1 or size == 1
    assert join or len(steps) == math.ceil(count / size)


@settings(max_examples=50)
@given(ids=st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_ids_that_occur_twice_are_told_in_turns(ids):
    turns = once_each(torch.tensor(ids))
    if len(set(ids)) == len(ids):
        assert turns is None
        return
    assert sorted(torch.cat(turns).tolist()) == list(range(len(ids)))
    told = []
    for turn in turns:
        told += [(ids[place], place) for place in turn.tolist()]
        assert len({ids[place] for place in turn.tolist()}) == len(turn)
    for sample in set(ids):  # In order of arrival.
        assert [place for each, place in told if each == sample] == [n for n, each in enumerate(ids) if each == sample]


def test_observers_are_told_of_a_sample_from_two_passes_twice():
    watcher = Aum(90, CPU)
    recorder, trained = recorded(blobs(), TrainingConfig(epochs=9, batch_size=70), sampler=Rs2(90, keep=0.7, seed=1))
    train(blobs(), TrainingConfig(epochs=9, batch_size=70), seed=0, sampler=Rs2(90, keep=0.7, seed=1),
          observers=[watcher], device=CPU)  # fmt: skip
    assert len(recorder.batches) > trained.steps  # Some batch had a sample twice.
    ids = np.concatenate([each for each, *_ in recorder.batches])
    assert all(len(set(each)) == len(each) for each, *_ in recorder.batches)
    assert watcher.presentations.tolist() == np.bincount(ids, minlength=90).tolist()
    assert len(ids) == trained.samples_seen


def test_samplers_that_do_not_fit_are_refused():
    data, config = blobs(), TrainingConfig(epochs=2, batch_size=16)
    with pytest.raises(ValueError, match="keep mask and the sampler Rs2 were given"):
        train(data, config, seed=0, keep=np.ones(90, bool), sampler=Rs2(90, keep=0.5), device=CPU)
    with pytest.raises(ValueError, match="over 80 samples, the data holds 90"):
        train(data, config, seed=0, sampler=Rs2(80, keep=0.5), device=CPU)
    sampler = InfoBatch(90, 2)
    train(data, TrainingConfig(epochs=1, batch_size=16), seed=0, sampler=sampler, device=CPU)
    with pytest.raises(ValueError, match="trained with already"):
        train(data, config, seed=0, sampler=sampler, device=CPU)


# Computation of a step


def pictures(samples=70, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, samples)
    images = generator.integers(0, 120, (samples, 8, 8, 2)) + 40 * labels[:, None, None, None]
    return Data(images.astype(np.uint8), labels, 3)


CNN = {"model": "cnn", "model_settings": {"width": 4}, "batch_size": 32}
VIEWS = Augmentation(crop_padding=1, flip=True, cutout=2)


@pytest.mark.parametrize("batch_size", [7, 32])
def test_parts_of_a_batch_add_up_to_it(batch_size):
    data = blobs()
    whole, parts = (
        recorded(data, TrainingConfig(epochs=3, batch_size=batch_size, accumulate=n, learning_rate=0.01))
        for n in (1, 4)
    )
    assert whole[1].steps == parts[1].steps
    for one, other in zip(whole[0].batches, parts[0].batches, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        for mine, theirs in zip(one[1:], other[1:], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("changes", [{"precision": "bfloat16"}, {"precision": "float16"}, {"channels_last": True}])
def test_other_precisions_and_layouts_train_the_same_model_nearly(changes):
    data = pictures()
    plain, other = (recorded(data, TrainingConfig(**CNN, steps=8, **each)) for each in ({}, changes))
    for (_, logits, *_), (_, near, _, near_losses) in zip(plain[0].batches, other[0].batches, strict=True):
        assert near.dtype == near_losses.dtype == torch.float32
        torch.testing.assert_close(near, logits, rtol=0.05, atol=0.05)
    for value in other[1].model.state_dict().values():
        assert value.is_contiguous()
        assert value.dtype in (torch.float32, torch.int64)
    first = plain[0].batches[0][1]
    assert torch.equal(first, other[0].batches[0][1]) == ("channels_last" in changes)


def test_channels_last_is_for_images():
    with pytest.raises(ValueError, match="channels_last is for images"):
        train(blobs(), TrainingConfig(steps=1, channels_last=True), seed=0, device=CPU)


def test_a_batch_cannot_have_more_parts_than_samples():
    with pytest.raises(ValueError, match="batch of 8 cannot be computed in 9 parts"):
        TrainingConfig(steps=1, batch_size=8, accumulate=9)


@pytest.mark.nightly
def test_a_compiled_network_trains_the_same_model_nearly():
    data = pictures()
    try:
        compiled = recorded(data, TrainingConfig(**CNN, steps=4, compile=True))
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"torch.compile finds no compiler here: {error}")
    plain = recorded(data, TrainingConfig(**CNN, steps=4))
    for one, other in zip(plain[0].batches, compiled[0].batches, strict=True):
        torch.testing.assert_close(one[1], other[1], rtol=1e-3, atol=1e-3)


# Outputs of a run


class Log:
    def __init__(self):
        self.told = []

    def log(self, values, *, step):
        self.told.append((step, values))


def test_trackers_are_told_of_each_epoch():
    data, log = blobs(), Log()
    config = TrainingConfig(epochs=3, batch_size=25, label_smoothing=0.2)
    recorder, trained = recorded(data, config, trackers=[log], sampler=InfoBatch(90, 3, prune=0.6, seed=1))
    assert [step for step, _ in log.told] == [end for _, end in recorder.ended]
    starts = [0] + [end for _, end in recorder.ended]
    for (_, values), start, end, samples in zip(log.told, starts, starts[1:], trained.epoch_samples, strict=False):
        losses = torch.cat([losses for *_, losses in recorder.batches[start:end]]).double()
        assert values["loss"] == pytest.approx(float(losses.mean()), rel=1e-6)
        assert values["objective"] != pytest.approx(values["loss"], rel=1e-3)
        assert values["epoch_samples"] == samples == len(losses)
        assert values["samples_per_second"] > 0
    assert parameters_of(trained) == parameters_of(
        recorded(data, config, sampler=InfoBatch(90, 3, prune=0.6, seed=1))[1]
    )


def test_a_checkpoint_may_evaluate_the_model():
    """The best epoch on validation samples: the hook sees every epoch, and does not change the run."""
    config, accuracies = TrainingConfig(**CNN, epochs=3), []
    looked_at = train(
        pictures(), config, seed=0, device=CPU,
        checkpoint=lambda model, done, total: accuracies.append(evaluate(model, pictures(40, 1))["accuracy"]),
    )  # fmt: skip
    assert len(accuracies) == 3
    assert parameters_of(looked_at) == parameters_of(train(pictures(), config, seed=0, device=CPU))


def reads_in_an_epoch(batch_size):
    """Names of the functions by which the loop reads a tensor's values on the host, in one epoch of 70 samples."""
    reads = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("item", "tolist", "cpu", "__bool__", "__float__", "__int__"):
            real = getattr(torch.Tensor, name)

            def counted(self, *arguments, real=real, name=name, **kwargs):
                caller = sys._getframe(1).f_globals["__name__"]
                if caller in (
                    "secateur.trainers.loop.run",
                    "secateur.trainers.loop.trackers",
                    "secateur.trainers.loop.train",
                ):
                    reads.append(name)
                return real(self, *arguments, **kwargs)

            patch.setattr(torch.Tensor, name, counted)
        config = TrainingConfig(**{**CNN, "batch_size": batch_size}, epochs=1, augmentation=VIEWS)
        train(
            pictures(), config, seed=0, device=CPU, sampler=InfoBatch(70, 1), trackers=[Log()],
            objective=lambda batch, inputs: batch.losses,
        )  # fmt: skip
    return reads


def test_nothing_waits_for_the_device_within_an_epoch():
    """At its end it synchronises twice, for any number of batches: for divergence and for the trackers' numbers."""
    assert reads_in_an_epoch(7) == reads_in_an_epoch(32) == ["tolist", "tolist"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_no_step_waits_for_the_gpu(precision, monkeypatch):
    """CUDA itself raises at any synchronisation, from the first objective of an epoch to its last step; the end of an
    epoch synchronises once, for divergence.
    """
    plain = Run.end_epoch

    def objective(batch, inputs):
        torch.cuda.set_sync_debug_mode("error")
        return batch.losses

    def end_epoch(run):
        torch.cuda.set_sync_debug_mode("default")
        plain(run)

    monkeypatch.setattr(Run, "end_epoch", end_epoch)

    config = TrainingConfig(**CNN, epochs=3, precision=precision, channels_last=True, accumulate=2, augmentation=VIEWS)
    watchers = [Aum(70, torch.device("cuda")), Loss(70, torch.device("cuda"))]
    try:
        trained = train(
            pictures(), config, seed=0, sampler=InfoBatch(70, 3, seed=1), observers=watchers, objective=objective
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert next(trained.model.parameters()).is_cuda
    assert watchers[1].scores().shape == (70,)
