"""The built-in tasks against scikit-learn, SciPy and float64 formulas."""

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit
from sklearn import metrics
from torch.nn import functional

from secateur.scorers.contract import TrainingBatch
from secateur.scorers.signals import OF_NETWORK
from secateur.trainers.contract import Data
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.contract import Metric
from secateur.trainers.tasks.multi_label import MultiLabel
from secateur.trainers.tasks.registry import task_from, tasks
from secateur.trainers.tasks.regression import Regression
from secateur.trainers.tasks.sft import Sft

RANDOM = np.random.default_rng(0)


def numbers(samples=400, targets=1):
    return RANDOM.gamma(2, size=(samples, targets)) * 10.0 ** np.arange(targets) - 3


def label_sets(samples=400, labels=6):
    return RANDOM.random((samples, labels)) < np.linspace(0.03, 0.5, labels)


def batch_of(task, outputs, targets):
    outputs = torch.as_tensor(outputs, dtype=torch.float32)
    target = task.tensor(targets)
    return TrainingBatch(torch.arange(len(target)), outputs, target, task.losses(outputs, target), task)


EXAMPLES = {
    "classification": (Classification(3, ("a", "b", "c")), RANDOM.integers(0, 3, 400)),
    "regression": (Regression(loss="huber", delta=0.5, names=("x", "y"), units=("m", "kg")), numbers(targets=2)),
    "multi_label": (MultiLabel(6), label_sets()),
    "sft": (Sft(3, ("chat", "code", "maths")), RANDOM.integers(0, 3, 400)),
}

OF_INPUTS = {"target_cut", "bare_losses", "headed_losses", "token_logits", "head_gradient"}
"""Signals that also read inputs, which a training batch does not hold."""


def test_every_built_in_task_is_found_by_its_file():
    assert set(tasks()) == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_task_survives_json(name):
    task, targets = EXAMPLES[name]
    fitted = task.fitted(targets)
    again = task_from(json.loads(json.dumps(fitted.state())))
    assert again == fitted
    assert again.fitted(targets[:50]) == fitted, "a fitted task is not fitted again"


def signal_of(name, batch):
    return batch.task.target_output(batch.outputs, batch.targets) if name == "target_output" else getattr(batch, name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_a_task_says_of_itself_fits_what_it_does(name):
    task, targets = EXAMPLES[name]
    task = task.fitted(targets)
    outputs = RANDOM.normal(size=(len(targets), task.width)).astype(np.float32)
    found = task.evaluate(outputs, targets)
    beside = {"choice_accuracy"}  # It needs further calls of the model, see test_choices.py.
    assert set(found) == {metric.name for metric in task.metrics} - beside
    assert all(np.isfinite(value) for value in found.values())
    strata = task.strata(targets)
    assert strata.dtype == np.int64
    assert len(task.stratum_names()) > strata.max()
    assert isinstance(task.shown(targets[0]), str)
    batch = batch_of(task, outputs, targets)
    for signal in task.provides - OF_NETWORK - OF_INPUTS:
        values = signal_of(signal, batch)
        assert len(values) == len(targets), signal
        assert values.isfinite().all(), signal
    for signal in task.lacks.keys() - OF_NETWORK:
        with pytest.raises(NotImplementedError, match=re.escape(task.lacks[signal])):
            signal_of(signal, batch)


@pytest.mark.parametrize("name", EXAMPLES)
def test_diverged_outputs_and_empty_splits_are_named(name):
    task, targets = EXAMPLES[name]
    task = task.fitted(targets)
    outputs = np.zeros((len(targets), task.width), np.float32)
    outputs[7, 0] = np.nan
    with pytest.raises(ValueError, match="row 7"):
        task.evaluate(outputs, targets)
    with pytest.raises(ValueError, match="empty"):
        task.evaluate(outputs[:0], targets[:0])


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "sft"])
def test_the_error_is_the_gradient_of_the_loss_over_the_parts_of_a_target(name):
    task, targets = EXAMPLES[name]
    if name == "regression":
        task = Regression(names=task.names)
    task = task.fitted(targets)
    outputs = torch.tensor(RANDOM.normal(size=(len(targets), task.width)), dtype=torch.float32, requires_grad=True)
    task.losses(outputs, task.tensor(targets)).sum().backward()
    parts = 1 if name == "classification" else task.width
    error = batch_of(task, outputs.detach(), targets).error
    torch.testing.assert_close(error, parts * outputs.grad, rtol=1e-5, atol=1e-6)


def test_metrics_of_regression_are_those_of_other_libraries_in_the_users_units():
    targets = numbers(targets=2)
    task = Regression(names=("x", "y"), units=("m", "kg")).fitted(targets)
    outputs = task.standardised(targets) + RANDOM.normal(size=targets.shape)
    found = task.evaluate(outputs, targets)
    guesses = outputs * targets.std(axis=0) + targets.mean(axis=0)
    each = {
        "rmse": metrics.root_mean_squared_error(targets, guesses, multioutput="raw_values"),
        "mae": metrics.mean_absolute_error(targets, guesses, multioutput="raw_values"),
        "r2": metrics.r2_score(targets, guesses, multioutput="raw_values"),
        "spearman": [stats.spearmanr(targets[:, column], guesses[:, column]).statistic for column in (0, 1)],
    }
    for name, values in each.items():
        assert found[name] == pytest.approx(np.mean(values))
        assert [found[f"{name}_x"], found[f"{name}_y"]] == pytest.approx(list(values))
    assert task.metrics[0] == Metric("rmse", higher_is_better=False)
    assert Metric("mae_y", higher_is_better=False, unit="kg") in task.metrics


def test_a_change_of_units_changes_metrics_in_proportion_and_nothing_else():
    targets = numbers()
    outputs = RANDOM.normal(size=targets.shape)
    metres, feet = Regression().fitted(targets), Regression().fitted(targets / 0.3048 + 7)
    torch.testing.assert_close(metres.tensor(targets), feet.tensor(targets / 0.3048 + 7), rtol=1e-5, atol=1e-6)
    one, other = metres.evaluate(outputs, targets), feet.evaluate(outputs, targets / 0.3048 + 7)
    assert other["rmse"] * 0.3048 == pytest.approx(one["rmse"])
    assert (other["r2"], other["spearman"]) == pytest.approx((one["r2"], one["spearman"]))
    np.testing.assert_array_equal(metres.strata(targets), feet.strata(targets / 0.3048 + 7))


def test_large_offsets_do_not_swallow_small_deviations():
    targets = 1e9 + RANDOM.normal(size=(300, 1))
    values = Regression().fitted(targets).tensor(targets).double().numpy()
    np.testing.assert_allclose(values, stats.zscore(targets), atol=1e-5)


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_losses_of_regression(loss):
    targets = numbers(targets=2)
    task = Regression(loss=loss, delta=0.7).fitted(targets)
    outputs = RANDOM.normal(size=targets.shape)
    residual = outputs - stats.zscore(targets)
    size = np.abs(residual)
    each = residual**2 / 2 if loss == "squared" else np.where(size <= 0.7, residual**2 / 2, 0.7 * (size - 0.35))
    np.testing.assert_allclose(batch_of(task, outputs, targets).losses, each.mean(axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("delta", [0.0, -1.0])
def test_a_delta_that_is_no_length_is_refused(delta):
    with pytest.raises(ValueError, match="above 0"):
        Regression(loss="huber", delta=delta)


def test_missing_targets_are_refused_by_row():
    targets = numbers()
    targets[[3, 9]] = np.nan
    with pytest.raises(ValueError, match="missing or infinite at rows 3, 9"):
        Regression().fitted(targets)


def test_a_target_that_never_varies_leaves_undefined_metrics_out():
    targets = np.full((60, 1), 0.1)
    task = Regression().fitted(targets)
    assert task.scale == (1.0,)
    assert task.evaluate(np.zeros((60, 1)), targets) == pytest.approx({"rmse": 0.0, "mae": 0.0})


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), samples=st.integers(1, 900), distinct=st.integers(1, 60))
def test_strata_are_quantiles_and_a_point_mass_is_by_itself(seed, samples, distinct):
    random = np.random.default_rng(seed)
    values = random.choice(random.lognormal(sigma=3, size=distinct), samples)
    task = Regression().fitted(values)
    strata = task.strata(values)
    counts = np.bincount(strata)
    bins = max(1, min(10, samples // 50))
    assert (counts > 0).all(), "no stratum is empty"
    highest = [values[strata == stratum].max() for stratum in range(len(counts) - 1)]
    lowest = [values[strata == stratum].min() for stratum in range(1, len(counts))]
    assert all(below < above for below, above in zip(highest, lowest, strict=True))
    for value, count in zip(*np.unique(values, return_counts=True), strict=True):
        if bins > 1 and count * bins >= samples:
            assert (values[strata == strata[values == value][0]] == value).all()
    for stratum, count in enumerate(counts):
        if len(np.unique(values[strata == stratum])) > 1:
            most = -(-2 * samples // bins) + 1  # Two quantiles whose ends are rounded to rows.
            assert count <= most, "no stratum of several values has more than two quantiles"


def test_sixty_percent_of_zeros_leave_five_strata():
    values = np.r_[np.zeros(600), np.arange(1, 401)]
    assert np.bincount(Regression().fitted(values).strata(values)).tolist() == [600, 100, 100, 100, 100]


def test_metrics_of_several_labels_are_those_of_scikit_learn():
    targets = label_sets()
    task = MultiLabel(6).fitted(targets)
    outputs = (RANDOM.normal(size=targets.shape) + 2 * targets).astype(np.float32)
    found = task.evaluate(outputs, targets)
    assert found["mean_average_precision"] == pytest.approx(
        metrics.average_precision_score(targets, outputs, average="macro")
    )
    assert found["micro_f1"] == pytest.approx(metrics.f1_score(targets, outputs > 0, average="micro"))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(targets, outputs > 0, average="macro"))
    exact = outputs.astype(np.float64)
    assert found["loss"] == pytest.approx(np.where(targets, np.log1p(np.exp(-exact)), np.log1p(np.exp(exact))).mean())


def test_labels_that_the_split_lacks_do_not_count():
    targets = label_sets()
    outputs = RANDOM.normal(size=targets.shape).astype(np.float32)
    fewer = targets & (np.arange(6) != 2)
    there = np.arange(6) != 2
    found = MultiLabel(6).evaluate(outputs, fewer)
    rest = MultiLabel(5).evaluate(outputs[:, there], fewer[:, there])
    assert found["mean_average_precision"] == rest["mean_average_precision"]
    assert found["macro_f1"] == rest["macro_f1"]
    with pytest.raises(ValueError, match="has a label"):
        MultiLabel(6).evaluate(outputs, np.zeros_like(targets))


def test_signals_of_several_labels():
    targets = label_sets()
    outputs = RANDOM.normal(size=targets.shape) * 2
    batch = batch_of(MultiLabel(6), outputs, targets)
    turned = np.where(targets, outputs, -outputs)
    np.testing.assert_allclose(batch.margin, turned.min(axis=1), rtol=1e-5)
    np.testing.assert_allclose(batch.probability_margin, 2 * expit(turned).min(axis=1) - 1, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(batch.target_probabilities, expit(turned), rtol=1e-5)
    np.testing.assert_array_equal(batch.correct, ((outputs > 0) == targets).all(axis=1))
    np.testing.assert_allclose(batch.error, expit(outputs) - targets, rtol=1e-4, atol=1e-6)


def test_a_row_belongs_to_its_rarest_label():
    targets = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0], [0, 1, 0]], bool)
    task = MultiLabel(3, ("rare", "common", "rarest")).fitted(targets)
    assert task.strata(targets).tolist() == [0, 1, 2, 3, 0, 1]
    assert task.strata(targets[2:4]).tolist() == [2, 3], "what is rare is learned once"
    assert [task.shown(row) for row in targets[[0, 3]]] == ["rare, common", "no label"]


@pytest.mark.parametrize("targets", [np.zeros((4, 3), np.int64), np.zeros((4, 2), bool), np.zeros(4, bool)])
def test_targets_of_another_form_are_refused(targets):
    with pytest.raises(ValueError, match=r"bool \[n, 3\]"):
        MultiLabel(3).check(targets)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distances_to_a_teacher(temperature):
    teacher, student = RANDOM.normal(size=(2, 50, 4)) * 3
    both = [torch.tensor(each, dtype=torch.float32) for each in (teacher, student)]
    p, q = expit(teacher / temperature), expit(student / temperature)
    binary = temperature**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(axis=1)
    np.testing.assert_allclose(MultiLabel(4).distance(*both, temperature=temperature), binary, rtol=1e-3, atol=1e-5)
    squared = ((teacher - student) ** 2).mean(axis=1) / 2
    np.testing.assert_allclose(Regression().distance(*both, temperature=temperature), squared, rtol=1e-4)
    same = MultiLabel(4).distance(both[0], both[0], temperature=temperature)
    torch.testing.assert_close(same, torch.zeros(50), atol=1e-6, rtol=0)
    for task in (MultiLabel(4), Regression()):
        with pytest.raises(ValueError, match="the student"):
            task.distance(both[0], both[1][:, :3], temperature=temperature)


def test_smoothed_labels():
    targets, outputs = label_sets(), RANDOM.normal(size=(400, 6))
    found = MultiLabel(6).smoothed_losses(torch.tensor(outputs), torch.tensor(targets), 0.1)
    wanted = targets * 0.9 + 0.05
    expected = functional.binary_cross_entropy_with_logits(
        torch.tensor(outputs), torch.tensor(wanted), reduction="none"
    )
    torch.testing.assert_close(found, expected.mean(dim=1))
    with pytest.raises(ValueError, match="regression has none"):
        Regression().smoothed_losses(torch.zeros(2, 1), torch.zeros(2, 1), 0.1)


def test_test_samples_take_the_scale_of_the_training_samples():
    train = Data(np.zeros((400, 2), np.float32), numbers(), Regression())
    test = Data(np.zeros((50, 2), np.float32), numbers(50), train.task)
    assert test.task == train.task
    assert train.task.mean == pytest.approx(train.targets.mean(axis=0).tolist())
    assert train.take(np.arange(10)).task == train.task


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"name": "ranking"}, "no task 'ranking'; there are classification, multi_label, regression"),
        ({"name": "regression", "colour": 3}, "colour"),
        ({"name": "no_such_module:make"}, "no_such_module"),
        ({"name": "json:loads", "labels": 3}, "takes no settings"),
        ({"name": "collections:OrderedDict"}, "OrderedDict; it must return an OwnTask"),
    ],
)
def test_states_of_no_task_are_refused(state, message):
    with pytest.raises(ValueError, match=message):
        task_from(state)
