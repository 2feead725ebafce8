"""A segmenter of thirty lines on generated shapes, from scores to a comparison with random."""

import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from secateur.scorers.checkpoints.checkpoint_loss import checkpoint_loss
from secateur.scorers.observers.aum import Aum
from secateur.scorers.observers.correctness import Correctness
from secateur.scorers.observers.forgetting import Forgetting
from secateur.scorers.observers.loss import Loss
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.selectors.static.top import top
from secateur.selectors.static.uniform_random import uniform_random
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.train import train
from secateur.trainers.passes.scoring import score_rows
from secateur.trainers.tasks.contract import Metric
from secateur.trainers.tasks.own import OwnTask, own_task

CPU = torch.device("cpu")
SAMPLES, SIDE = 96, 12
CONFIG = TrainingConfig(epochs=12, batch_size=16, learning_rate=0.02)


class Shapes(OwnTask):
    """Pixels of a bright rectangle in a noisy picture; every sixth training mask is wrong."""

    metrics = (Metric("intersection_over_union", percent=True),)

    def samples(self, split):
        random, found = np.random.default_rng({"train": 0, "test": 1}[split]), []
        for number in range(SAMPLES):
            mask = np.zeros((SIDE, SIDE), bool)
            top_left, size = random.integers(0, SIDE // 2, 2), random.integers(3, SIDE // 2, 2)
            mask[tuple(slice(start, start + length) for start, length in zip(top_left, size, strict=True))] = True
            picture = mask + random.normal(0, 0.3, mask.shape)
            wrong = split == "train" and number % 6 == 0
            found.append({"picture": picture.astype(np.float32)[None], "mask": mask != wrong, "wrong": wrong})
        return found

    def model(self):
        return Network()

    def losses(self, outputs, batch):
        wanted = batch["mask"].float()
        return functional.binary_cross_entropy_with_logits(outputs["pixels"], wanted, reduction="none").mean((1, 2))

    def measure(self, model, batches):
        both = either = 0
        for batch in batches:
            found, mask = model(batch)["pixels"] > 0, batch["mask"]
            both, either = both + (found & mask).sum().item(), either + (found | mask).sum().item()
        return {"intersection_over_union": both / either}

    def correct(self, batch):
        return ((batch.outputs["pixels"] > 0) == batch.targets["mask"]).float().mean((1, 2)) > 0.9


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))

    def forward(self, batch):
        return {"pixels": self.layers(batch["picture"]).squeeze(1)}


@pytest.fixture(scope="module")
def task():
    sys.modules["shapes_of_test"] = sys.modules[__name__]
    yield own_task("shapes_of_test:Shapes")
    del sys.modules["shapes_of_test"]


@pytest.fixture(scope="module")
def data(task):
    return Data.of(task, "train")


@pytest.fixture(scope="module")
def wrong(task):
    return np.array([sample["wrong"] for sample in task.samples("train")])


def test_scored_selected_trained_and_beside_random(task, data, wrong):
    watchers = [kind(SAMPLES, CPU) for kind in (Loss, Correctness, Forgetting)]
    run = train(data, CONFIG, seed=0, observers=watchers, device=CPU)
    scores = watchers[0].scores()
    assert roc_auc_score(wrong, scores) > 0.95
    assert roc_auc_score(wrong, -watchers[1].scores()) > 0.95
    late = score_rows([[run.model]], data, np.arange(SAMPLES), {"checkpoint_loss": (checkpoint_loss, {})}, device=CPU)
    with torch.no_grad():
        batch = task.collate(task.samples("train"))
        np.testing.assert_allclose(late["checkpoint_loss"], task.losses(run.model(batch), batch), rtol=1e-4)
    budget, test = int(0.8 * SAMPLES), Data.of(task, "test")
    kept = top(-scores, budget, seed=0)
    assert not (kept & wrong).any()
    results = {}
    for name, keep in (("top", kept), ("random", uniform_random(np.arange(SAMPLES), budget, seed=0))):
        model = train(data, CONFIG, seed=0, keep=keep, device=CPU).model
        results[name] = evaluate(model, test)["intersection_over_union"]
    assert results["top"] > results["random"] > 0


def test_weights_come_from_the_seed_alone(data):
    one, two, other = (train(data, CONFIG, seed=seed, device=CPU).model.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


def test_batches_in_parts_and_by_workers_tell_the_same(data):
    found = []
    for more in ({}, {"accumulate": 3}, {"loading": "workers", "workers": 1}):
        watchers = [kind(SAMPLES, CPU) for kind in (Loss, Correctness)]
        config = CONFIG.model_copy(update={"epochs": 2, **more})
        train(data, config, seed=0, observers=watchers, device=CPU)
        found.append(np.stack([watcher.scores() for watcher in watchers]))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[2], found[0])


def test_a_sampler_prunes_in_training_and_a_run_goes_on_from_a_snapshot(data, tmp_path):
    def run(epochs, **more):
        return train(data, CONFIG.model_copy(update={"epochs": epochs}), seed=0, device=CPU, **more)

    pruned = run(4, sampler=InfoBatch(SAMPLES, 4, keep=0.5))
    assert min(pruned.epoch_samples) == SAMPLES // 2

    def stop(model, done, total):
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(4, snapshots=Snapshots(tmp_path, epochs=1), checkpoint=stop)
    whole, resumed = run(4), run(4, snapshots=Snapshots(tmp_path, epochs=1))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])


def test_signals_that_it_does_not_define_are_refused_first(data, monkeypatch):
    monkeypatch.setattr(Network, "forward", lambda *_: pytest.fail("training began"))
    with pytest.raises(
        ValueError,
        match=r"'aum' reads margin, which shapes_of_test:Shapes has none of: it does not define margin.*correctness",
    ):
        train(data, CONFIG, seed=0, observers=[Aum(SAMPLES, CPU)], device=CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_smoothing": 0.1}, "label_smoothing is for classes"),
        ({"channels_last": True}, "channels_last is for images"),
        ({"augmentation": {"flip": True}}, "vary the samples in the task's own data set"),
    ],
)
def test_settings_that_are_not_for_it_are_refused(data, change, message):
    with pytest.raises(ValueError, match=message):
        train(data, TrainingConfig(**CONFIG.model_dump() | change), seed=0, device=CPU)


def test_losses_must_be_one_per_sample(data, monkeypatch):
    monkeypatch.setattr(Shapes, "losses", lambda self, outputs, batch: outputs["pixels"].mean())
    with pytest.raises(ValueError, match=r"shapes_of_test:Shapes must give one loss per sample, \[16\], it gave \[\]"):
        train(data, CONFIG, seed=0, device=CPU)


def test_metrics_must_be_those_named(task, data, monkeypatch):
    monkeypatch.setattr(Shapes, "measure", lambda self, model, batches: {"intersection_over_union": float("nan")})
    with pytest.raises(ValueError, match="gave no number for"):
        evaluate(task.model(), data)


def test_a_factory_of_something_else_is_refused():
    with pytest.raises(ValueError, match="abstract"):
        own_task("secateur.trainers.tasks.own:OwnTask")
