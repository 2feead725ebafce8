"""Metrics against scikit-learn, float64 formulas, and torchmetrics if it is installed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, recall_score
from torch import nn
from torch.nn import functional

from secateur.trainers.contract import Data
from secateur.trainers.judging.evaluation import evaluate, outputs_of
from secateur.trainers.tasks.class_metrics import calibration_error


def split(labels, classes, inputs=None):
    labels = np.asarray(labels, np.int64)
    return Data(np.zeros((len(labels), 2), np.float32) if inputs is None else inputs, labels, classes)


def metrics_of(logits, data):
    return data.task.evaluate(logits, data.targets)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), samples=st.integers(1, 80), classes=st.integers(2, 6), scale=st.floats(0.1, 8))
def test_metrics_are_those_of_other_libraries(seed, samples, classes, scale):
    generator = np.random.default_rng(seed)
    logits = (scale * generator.normal(size=(samples, classes))).astype(np.float32)
    labels = generator.integers(0, classes, samples)
    metrics = metrics_of(logits, split(labels, classes))
    exact = logits.astype(np.float64)
    probabilities = np.exp(exact) / np.exp(exact).sum(axis=1, keepdims=True)
    guesses = exact.argmax(axis=1)
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, guesses))
    theirs = functional.cross_entropy(torch.from_numpy(exact), torch.from_numpy(labels))  # scikit-learn clips.
    assert metrics["loss"] == pytest.approx(float(theirs), rel=1e-9)
    recalls = recall_score(labels, guesses, labels=range(classes), average=None, zero_division=np.nan)
    assert metrics["worst_class_accuracy"] == pytest.approx(np.nanmin(recalls))
    confidence = probabilities.max(axis=1)
    bins = [(confidence >= edge / 15) & (confidence < (edge + 1) / 15) for edge in range(15)]
    bins[-1] |= confidence == 1
    gaps = [
        abs((guesses == labels)[each].mean() - confidence[each].mean()) * each.mean() for each in bins if each.any()
    ]
    assert metrics["calibration_error"] == pytest.approx(sum(gaps), abs=1e-9)


def test_calibration_error_is_the_sum_over_bins_that_is_published():
    """Also with confidences at the edges of bins, each of which belongs to the bin above."""
    generator = np.random.default_rng(7)
    confidence = np.concatenate([generator.uniform(0, 1, 400), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]])
    correct = generator.uniform(size=len(confidence)) < confidence**2
    total = 0.0
    for edge in range(15):
        inside = [(c, right) for c, right in zip(confidence, correct, strict=True) if edge == min(int(c * 15), 14)]
        sure, hit = (np.mean([pair[at] for pair in inside], dtype=np.float64) for at in (0, 1))
        total += len(inside) / len(confidence) * abs(hit - sure)
    assert total > 0.1
    assert calibration_error(confidence, correct) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_calibration_error_is_that_of_torchmetrics(classes):
    """It rounds to float32; without a confidence of 1, which has a separate bin there."""
    theirs = pytest.importorskip("torchmetrics.classification")
    generator = np.random.default_rng(classes)
    probabilities = generator.dirichlet(np.full(classes, 0.6), 300)
    confidence, labels = probabilities.max(axis=1), generator.integers(0, classes, 300)
    assert confidence.astype(np.float32).max() < 1
    error_of = theirs.MulticlassCalibrationError(num_classes=classes, n_bins=15, norm="l1")
    expected = float(error_of(torch.from_numpy(probabilities), torch.from_numpy(labels)))
    found = calibration_error(confidence, probabilities.argmax(axis=1) == labels)
    assert found == pytest.approx(expected, abs=2e-6)


def test_calibration_error_by_hand():
    # Confidences 0.9 (right), 0.9 (wrong), 0.6 (right): gaps |1 - 1.8| and |1 - 0.6|, over 3 samples.
    error = calibration_error(np.array([0.9, 0.9, 0.6]), np.array([True, False, True]))
    assert error == pytest.approx((0.8 + 0.4) / 3, abs=1e-12)


def test_a_class_that_the_split_lacks_is_not_the_worst():
    metrics = metrics_of(np.float32([[2, 1, 0], [2, 1, 0]]), split([0, 0], 3))
    assert (metrics["accuracy"], metrics["worst_class_accuracy"]) == (1.0, 1.0)


def test_certain_predictions_are_in_the_last_bin():
    metrics = metrics_of(np.float32([[1000, 0], [0, 1000]]), split([0, 1], 2))
    assert (metrics["calibration_error"], metrics["loss"]) == (0.0, 0.0)


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="empty"):
        metrics_of(np.zeros((0, 2), np.float32), split([], 2))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_of_a_diverged_model_are_refused_with_rows(value):
    logits = np.zeros((4, 2), np.float32)
    logits[2, 1] = value
    with pytest.raises(ValueError, match=r"outputs.*row 2.*learning rate"):
        metrics_of(logits, split([0, 1, 0, 1], 2))


def test_models_are_judged_in_evaluation_mode_and_in_order():
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(5000, 3)).astype(np.float32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    model[1].running_mean.fill_(0.3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data = split(generator.integers(0, 2, 5000), 2, inputs)
    logits = outputs_of(model, data)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(inputs)).numpy()
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert evaluate(model, data) == metrics_of(logits, data)


def test_read_only_arrays_serve():
    data = split([0, 1, 1], 2, np.eye(3, dtype=np.float32))
    logits = np.eye(3, 2, dtype=np.float32)
    for array in (data.inputs, data.targets, logits):
        array.setflags(write=False)
    assert metrics_of(logits, data)["accuracy"] == pytest.approx(2 / 3)
    assert evaluate(nn.Linear(3, 2), data)["accuracy"] >= 0
