"""Weight and temperature are chosen on held-out rows, which neither teacher nor students train on."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from secateur.selectors.static.uniform_random import uniform_random
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation import tuning as module
from secateur.trainers.distillation.objective import Distillation
from secateur.trainers.distillation.tuning import best_of, tune_distillation
from secateur.trainers.judging.outcome import Cost


def numbered(count=100, classes=2):
    """Data with the row number as its only feature."""
    return Data(np.arange(count, dtype=np.float32)[:, None], np.arange(count) % classes, classes)


def draw(rows, budget, seed):
    return uniform_random(rows, budget, seed=seed)


@pytest.fixture
def scripted(monkeypatch):
    """Training that only records, and accuracies from a table by the settings of the objective."""
    log = SimpleNamespace(trained=[], judged=[], accuracy={}, metric=None, made=None)

    def train(data, config, *, seed, keep=None, objective=None):
        log.trained.append((data.inputs[:, 0].astype(int), config, keep, seed, objective))
        return SimpleNamespace(model=objective, steps=2, samples_seen=10, seconds=0.5)

    def decided(model, data, metric):
        assert metric == log.metric
        log.judged.append(data.inputs[:, 0].astype(int))
        return log.accuracy[model]

    def objective(self, teacher, students, *, keep):
        return (round(keep, 6), self.alpha, self.temperature)

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "decided", decided)
    monkeypatch.setattr(module, "teacher_at", lambda heat, *rest: heat)
    monkeypatch.setattr(Distillation, "objective", objective)
    return log


ALPHAS, HEATS = (0.0, 0.5, 1.0), (1.0, 4.0)


def accuracies(**best):
    """0.5 everywhere except at the given best of each share."""
    table = {(share, alpha, heat): 0.5 for share in (0.1, 0.5) for alpha in ALPHAS for heat in HEATS}
    return table | {(0.1 if name == "low" else 0.5, *where): value for name, (where, value) in best.items()}


def test_students_and_teacher_see_the_pool_alone_and_are_judged_on_the_rest(scripted):
    scripted.accuracy = accuracies()
    data, told = numbered(), []
    students = TrainingConfig(steps=2, label_smoothing=0.1)
    tuned = tune_distillation(
        data,
        students,
        Distillation(seed=77),
        draw,
        keep=[0.1, 0.5],
        alphas=ALPHAS,
        temperatures=HEATS,
        seeds=2,
        progress=lambda *each: told.append(each),
    )
    pool, validation = data.task.split(data.targets, 0.2, 0)
    assert all(np.array_equal(rows, pool) for rows, *_ in scripted.trained)
    assert all(np.array_equal(rows, validation) for rows in scripted.judged)
    (_, config, keep, seed, objective), *others = scripted.trained
    assert (config, keep, seed, objective) == (TrainingConfig(steps=2), None, 77, None)
    # Per share: two seeds of alpha 0 once, and of two alphas at two temperatures each.
    assert len(others) == 2 * 2 * (1 + 2 * 2)
    assert {(each[2].sum(), each[3]) for each in others} == {(8, 0), (8, 1), (40, 0), (40, 1)}
    assert all(each[1] is students for each in others)
    assert told[-1] == (12, 12)
    assert tuned.cost == Cost(210, 210, 10.5)
    assert len(tuned.results) == 12


@pytest.mark.parametrize(
    ("table", "heat", "curve"),
    [
        (accuracies(low=((1.0, 4.0), 0.9), high=((0.5, 4.0), 0.6)), 4.0, ((0.1, 1.0), (0.5, 0.5))),
        # One temperature for all budgets: 0.9 + 0.5 beats 0.5 + 0.8, although each budget has its own best.
        (accuracies(low=((1.0, 4.0), 0.9), high=((1.0, 1.0), 0.8)), 4.0, ((0.1, 1.0), (0.5, 0.0))),
        (accuracies(), 1.0, ((0.1, 0.0), (0.5, 0.0))),
    ],
)
def test_the_temperature_is_that_of_all_budgets_and_equals_go_to_the_earlier(table, heat, curve):
    assert best_of(table, (0.1, 0.5), ALPHAS, HEATS) == (heat, curve)


def test_what_is_found_takes_its_place_in_the_settings(scripted):
    scripted.accuracy = accuracies(low=((1.0, 4.0), 0.9), high=((0.5, 4.0), 0.6))
    settings = Distillation(tune=True, top_k=3, cache=False)
    budgets = {"keep": [50, 0.1], "alphas": ALPHAS, "temperatures": HEATS, "seeds": 1}
    found = tune_distillation(numbered(), TrainingConfig(steps=2), settings, draw, **budgets).settings
    assert found == Distillation(top_k=3, cache=False, temperature=4.0, curve=((0.1, 1.0), (0.5, 0.5)))
    assert found.alpha_at(0.3) == pytest.approx(0.75)


def test_it_finds_that_a_teacher_helps_where_labels_are_wrong():
    """Without a script: a third of the labels is wrong, so a teacher of all samples knows better than 16 labels."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    inputs = (random.normal(size=(400, 2)) + 3 * labels[:, None]).astype(np.float32)
    noisy = np.where(random.random(400) < 0.35, 1 - labels, labels)
    config = TrainingConfig(steps=60, learning_rate=0.01, model_settings={"hidden": [16]})
    asked = {"keep": [16], "alphas": (0.0, 1.0), "temperatures": (1.0,), "seeds": 3}
    tuned = tune_distillation(Data(inputs, noisy, 2), config, Distillation(), draw, **asked)
    assert tuned.settings.alpha_at(16 / 400) == 1.0
    again = tune_distillation(Data(inputs, noisy, 2), config, Distillation(), draw, **asked)
    assert again.results == tuned.results


@pytest.mark.parametrize("settings", [Distillation(), Distillation(cache=False), Distillation(top_k=2)])
def test_the_teacher_is_asked_as_students_will_ask_it(settings):
    data = Data(np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32), np.arange(30) % 3, 3)
    taught = module.train(data, TrainingConfig(steps=2), seed=0)
    teacher = module.teacher_at(3.0, taught, data, TrainingConfig(steps=2), settings)
    assert (teacher.cached is not None) is settings.cache
    if teacher.cached is not None:
        assert teacher.cached.temperature == (3.0 if settings.top_k else None)
    inputs = torch.as_tensor(data.inputs)
    found, exact = (each.div(3.0).softmax(1) for each in (teacher(torch.arange(30), inputs), taught.model(inputs)))
    torch.testing.assert_close(found, exact.detach(), atol=1e-3, rtol=0)
