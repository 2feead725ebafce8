"""The interval of a test split: against draws of many splits, and in a study's messages."""

import re
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from secateur.pipelines.runs.findings import findings_of
from secateur.pipelines.runs.test_size import half_width
from secateur.pipelines.storage.store import Store
from secateur.trainers.tasks.classification import Classification

DRAWS = 2000


def test_accuracies_of_drawn_splits_lie_within_the_width() -> None:
    """A model that is right by a fair coin, on 2,000 splits: 95% of its results lie within, and not far within."""
    rng = np.random.default_rng(0)
    for counts in ([20, 20], [7, 60], [5, 10, 30]):
        truth = np.repeat(np.arange(len(counts)), counts)
        right = rng.random((DRAWS, len(truth))) < 0.5
        guess = np.where(right, truth, (truth + 1) % len(counts))
        accuracy = np.abs(right.mean(axis=1) - 0.5)
        balanced = np.abs(np.array([balanced_accuracy_score(truth, one) for one in guess[:300]]) - 0.5)
        for name, found, slack in (("accuracy", accuracy, 0.03), ("balanced_accuracy", balanced, 0.05)):
            wide = half_width(name, counts)
            assert wide is not None
            assert np.mean(found <= wide + 1e-9) >= 0.95 - slack
            assert np.mean(found <= 0.6 * wide) < 0.9


def test_aurocs_of_drawn_splits_lie_within_the_width() -> None:
    rng, counts = np.random.default_rng(1), [60, 7]
    truth = np.repeat([0, 1], counts)
    found = [roc_auc_score(truth, rng.normal(size=67) + 0.5 * truth) for _ in range(300)]
    wide = half_width("auroc", counts, 1)
    assert wide == half_width("auroc", counts[::-1], 0)
    assert wide is not None
    assert np.mean(np.abs(np.array(found) - np.mean(found)) <= wide) >= 0.95


@pytest.mark.parametrize(("name", "counts"), [("loss", [3, 3]), ("accuracy", []), ("auroc", [3, 3, 3])])
def test_of_other_metrics_nothing_is_known(name: str, counts: list[int]) -> None:
    assert half_width(name, counts) is None


@pytest.mark.parametrize(
    ("counts", "metric", "said"),
    [
        ([20, 18], None, "has 38 samples: .*, accuracy may be off by up to 16 points, at 95%"),
        ([200, 190], None, None),
        ([393, 7], "average_precision", "has 400 samples, 7 of class 'b': .* average precision may be off by up to 37"),
        ([393, 7], "accuracy", None),
        ([200, 7], "balanced_accuracy", "7 of class 'b': .* balanced accuracy may be off by up to 19 points"),
    ],
)
def test_a_study_says_that_its_test_split_is_small(
    counts: list[int], metric: str | None, said: str | None, write_study: Any, tmp_path: Any
) -> None:
    study, store = write_study(metric=metric).study, Store(tmp_path / "assets")
    task = Classification(2, ["a", "b"])
    store.save((study.name, "source"), {"task": task.state(), "label_names": ["a", "b"], "test_counts": counts})
    found = [one for one in findings_of(store, study) if one["kind"] == "few test samples"]
    if said is None:
        assert not found
    else:
        [finding] = found
        assert finding["count"] == sum(counts)
        assert re.search(said, finding["text"])
