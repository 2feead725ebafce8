"""The report's messages about models that a simple one beats, and about proxies that memorise their labels."""

from collections.abc import Callable
from typing import Any

import pytest

from secateur.pipelines.runs.findings import findings_of
from secateur.pipelines.runs.yardstick import beside, is_behind
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.trainers.judging.comparison import summarise
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.tasks.contract import Metric

WriteStudy = Callable[..., StudyFile]
ACCURACY, RMSE = Metric("accuracy", percent=True), Metric("rmse", higher_is_better=False, unit="mg")
SIMPLE = {
    "model": "logistic regression", "inputs": "the same TF-IDF vectors", "rows": 800, "samples": 1000, "columns": 64,
    "of_columns": 64, "metrics": {"accuracy": 0.878, "rmse": 4.0},
}  # fmt: skip


@pytest.fixture
def study(write_study: WriteStudy) -> Study:
    study = write_study().study
    assert isinstance(study, Study)
    return study


def known(training: float, test: float, curve: list[float], **simple: Any) -> dict[str, Any]:
    """The content of the asset `yardstick`."""
    proxy = {"training": {"accuracy": training}, "test": {"accuracy": test}, "accuracy": curve, "held_out": {}}
    return {"model": SIMPLE | simple, "proxy": proxy, "test_samples": 1000}


def whole(*values: float) -> dict[Trial, Outcome]:
    return {Trial("full", seed): Outcome(metrics={"accuracy": value}) for seed, value in enumerate(values)}


@pytest.mark.parametrize(
    ("values", "value", "metric", "test_samples", "behind"),
    [
        ([0.835, 0.834, 0.836], 0.878, ACCURACY, 1000, True),
        ([0.835, 0.834, 0.836], 0.840, ACCURACY, 1000, False),  # less than a point
        ([0.80, 0.87, 0.85], 0.878, ACCURACY, 1000, False),  # within the interval of the seeds
        ([0.835], 0.878, ACCURACY, 1000, False),  # one seed has none
        ([0.835, 0.834, 0.836], 0.878, ACCURACY, 60, False),  # three test samples
        ([0.9, 0.91, 0.89], 0.878, ACCURACY, 1000, False),
        ([4.5, 4.51, 4.49], 4.0, RMSE, 60, True),
        ([3.5, 3.51, 3.49], 4.0, RMSE, 60, False),
    ],
)
def test_everything_is_behind_by_more_than_seeds_and_a_point_and_five_samples(
    values: list[float], value: float, metric: Metric, test_samples: int, behind: bool
) -> None:
    assert is_behind(summarise(values), value, metric, test_samples) == behind


def test_both_findings_say_the_numbers_and_what_to_do(study: Study, tmp_path: Any) -> None:
    found = beside(study, known(0.996, 0.573, [0.4, 0.7, 0.9, 0.996]), ACCURACY, whole(0.835, 0.834, 0.836))
    findings = findings_of(Store(tmp_path), study, known=found)
    assert [finding["kind"] for finding in findings] == ["weak model", "learned by heart"]
    weak, heart = (finding["text"] for finding in findings)
    assert weak.startswith(
        "logistic regression on the same TF-IDF vectors gets 87.8% on the test samples, and networks trained on "
        "everything get 83.5% ± 0.2 over 3 seeds: "
    )
    assert heart.startswith("the proxy gets 99.6% on the samples that it learned from, and 57.3% on the test samples")
    assert "write proxy: {folds: 5}" in heart
    assert "from epoch 2 on" in heart
    assert found.sentences == (
        "Yardstick, accuracy: logistic regression on the same TF-IDF vectors, fitted to 800 of 1,000 training samples, "
        "gets 87.8% on the test samples; networks trained on everything 83.5% ± 0.2 over 3 seeds.",
        "The proxy gets 99.6% on the samples that it learned from, in its last epoch, and 57.3% on the test samples.",
    )


def test_a_yardstick_of_some_test_samples_says_of_how_many(study: Study) -> None:
    told = known(0.9, 0.8, [0.9])
    told |= {"test_samples": 1_000_000, "model": told["model"] | {"judged": 100_000}}
    assert "gets 87.8% on 100,000 of the test samples" in beside(study, told, ACCURACY, {}).sentences[0]


@pytest.mark.parametrize(("training", "test"), [(0.94, 0.5), (0.99, 0.95)])
def test_a_proxy_that_predicts_what_it_knows_is_no_finding(training: float, test: float, study: Study) -> None:
    assert beside(study, known(training, test, [0.5, training]), ACCURACY, {}).by_heart == ""
