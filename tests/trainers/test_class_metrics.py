"""The deciding metric, all metrics against scikit-learn, and those of a model without inputs."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from sklearn.dummy import DummyClassifier
from torch import nn

from secateur.trainers.contract import Data
from secateur.trainers.judging.evaluation import decided, judged
from secateur.trainers.tasks.class_metrics import rarest
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.contract import Metric
from secateur.trainers.tasks.multi_label import MultiLabel
from secateur.trainers.tasks.registry import task_from

draws = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize(
    ("counts", "name"),
    [
        ((750, 250), "accuracy"),  # A quarter is half of an even share.
        ((751, 249), "average_precision"),
        ((23, 977), "average_precision"),
        ((100, 100, 40), "accuracy"),
        ((100, 100, 39), "balanced_accuracy"),
        ((100, 100, 0), "accuracy"),  # A class without samples does not count.
        ((190, 10, 0), "balanced_accuracy"),
        ((5, 0), "accuracy"),
        ((), "accuracy"),
    ],
)
def test_the_metric_that_decides_follows_the_shares_of_the_training_classes(counts, name):
    task = Classification(len(counts) or 2).fitted(np.repeat(np.arange(len(counts)), counts))
    assert task.metrics[0].name == name
    assert sorted(metric.name for metric in task.metrics) == sorted(
        metric.name for metric in Classification(task.classes).metrics
    )
    assert task_from(json.loads(json.dumps(task.state()))) == task
    assert (rarest(counts) is None) == (name == "accuracy")


@draws
@given(seed=st.integers(0, 2**32), samples=st.integers(1, 60), classes=st.integers(2, 5), share=st.floats(0.02, 0.5))
def test_every_metric_is_scikit_learns(seed, samples, classes, share):
    generator = np.random.default_rng(seed)
    labels = np.where(generator.random(samples) < share, generator.integers(0, classes, samples), 0)
    logits = generator.normal(size=(samples, classes)).astype(np.float32).round(1)  # with ties
    task = Classification(classes).fitted(labels)
    found, guess = task.evaluate(logits, labels), logits.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(labels, guess), abs=1e-12)
    assert found["macro_f1"] == pytest.approx(sklearn.f1_score(labels, guess, average="macro"), abs=1e-12)
    here = np.unique(labels)
    recalls = [sklearn.accuracy_score(labels[labels == each], guess[labels == each]) for each in here]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls), abs=1e-12)
    if len(here) > 1 and set(guess) <= set(labels):  # scikit-learn warns of others.
        assert found["balanced_accuracy"] == pytest.approx(sklearn.balanced_accuracy_score(labels, guess), abs=1e-12)
    assert found["worst_class_accuracy"] == pytest.approx(min(recalls), abs=1e-12)
    by_class = task.recalls(logits, labels)
    assert [each for each in by_class if each is not None] == pytest.approx(recalls, abs=1e-12)
    assert [number for number, each in enumerate(by_class) if each is not None] == here.tolist()
    assert set(found) | set(task.undefined(labels)) >= {metric.name for metric in task.metrics}
    assert not set(found) & set(task.undefined(labels))
    if classes == 2 and len(here) == 2:
        rare = 0 if (labels == 0).sum() < (labels == 1).sum() else 1
        assert task.positive == rare
        difference = logits[:, rare].astype(np.float64) - logits[:, 1 - rare]
        assert found["auroc"] == pytest.approx(sklearn.roc_auc_score(labels == rare, difference), abs=1e-12)
        expected = sklearn.average_precision_score(labels == rare, difference)
        assert found["average_precision"] == pytest.approx(expected, abs=1e-12)


@draws
@given(seed=st.integers(0, 2**32), classes=st.integers(2, 5), absent=st.booleans())
def test_floors_are_what_scikit_learns_dummy_comes_to(seed, classes, absent):
    generator = np.random.default_rng(seed)
    train = generator.choice(classes, 50, p=generator.dirichlet(np.ones(classes)))
    test = generator.integers(int(absent), classes, 30)
    task = Classification(classes).fitted(train)
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((50, 1)), train)
    known = dict(zip(dummy.classes_, dummy.predict_proba(np.zeros((1, 1)))[0], strict=True))
    constant = np.tile([known.get(number, 0.0) for number in range(classes)], (30, 1)).astype(np.float32)
    expected = task.evaluate(constant, test)
    floors = task.floors(test)
    assert floors == pytest.approx({name: expected[name] for name in floors}, abs=1e-12)
    assert set(floors) == set(expected) - {"loss", "calibration_error"}


def test_a_metric_that_the_samples_leave_undefined_is_refused_with_the_reason():
    data = Data(np.zeros((6, 2), np.float32), np.int64([0, 0, 0, 0, 0, 1]), Classification(2, ("no", "yes")))
    assert data.task.metrics[0].name == "average_precision"
    negatives, model = data.take(np.arange(4)), nn.Linear(2, 2)
    assert "average_precision" not in judged(model, negatives).metrics
    with pytest.raises(ValueError, match=r"average_precision is undefined.* no row is of class 'yes'; name another"):
        decided(model, negatives)
    assert decided(model, negatives, Metric("accuracy", percent=True)) in (0.0, 1.0)
    three = Classification(3).undefined(np.array([0, 1, 2]))
    assert three["auroc"] == "it is of two classes, the data have 3"


def test_the_rarer_class_is_the_datas_whatever_order_a_model_learned_them_in():
    """A model with the classes in the other order ranks and finds the same samples."""
    generator = np.random.default_rng(3)
    labels = (generator.random(200) < 0.1).astype(np.int64)
    logits = generator.normal(size=(200, 2)).astype(np.float32)
    data = Data(logits, labels, Classification(2, ("no", "yes")))
    model, turned = nn.Identity(), nn.Identity()
    model.weight = turned.weight = nn.Parameter(data=nn.Linear(1, 1).weight.data)  # The evaluation reads its device.
    turned.task = Classification(2, ("yes", "no"), counts=(1, 9))
    reversed_data = Data(logits[:, ::-1].copy(), labels, data.task)
    assert judged(turned, reversed_data) == judged(model, data)
    expected = sklearn.average_precision_score(labels, np.float64(logits[:, 1]) - logits[:, 0])
    assert judged(model, data).metrics["average_precision"] == pytest.approx(expected, abs=1e-12)


def test_recalls_of_labels_are_those_of_each_label():
    generator = np.random.default_rng(4)
    truth, outputs = generator.random((80, 4)) < [0.5, 0.2, 0.1, 0.0], generator.normal(size=(80, 4))
    found = MultiLabel(4).recalls(outputs, truth)
    assert found[3] is None
    assert found[:3] == pytest.approx(sklearn.recall_score(truth[:, :3], outputs[:, :3] > 0, average=None))
