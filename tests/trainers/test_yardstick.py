"""The yardstick against scikit-learn and a closed form; the fit of a run to its own samples."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

from secateur.scorers.contract import TrainingBatch
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging import yardstick
from secateur.trainers.judging.yardstick import LEAST_ROWS, MOST_ROWS, rows_within, yardstick_of
from secateur.trainers.loop import training_fit
from secateur.trainers.loop.train import train
from secateur.trainers.loop.training_fit import TrainingFit
from secateur.trainers.tasks.multi_label import MultiLabel
from secateur.trainers.tasks.regression import Regression

CPU = torch.device("cpu")


def digits(count: int) -> tuple[Data, Data]:
    """So many pictures and a hundred more, uint8 `[n, 8, 8, 1]`."""
    inputs, labels = load_digits(return_X_y=True)
    pictures, labels = inputs.reshape(-1, 8, 8, 1).astype(np.uint8), labels.astype(np.int64)
    data = Data(pictures[:count], labels[:count], 10)
    return data, Data(pictures[-100:], labels[-100:], data.task)


def test_pictures_are_judged_by_logistic_regression_of_their_pixels() -> None:
    data, test = digits(300)
    found = yardstick_of(data, test, "image", rows=300)
    flat, other = (each.inputs.reshape(len(each), -1).astype(np.float64) for each in (data, test))
    scale = flat.astype(np.float32).std() * np.sqrt(64)
    model = LogisticRegression(C=10.0, max_iter=100).fit((flat - flat.mean(axis=0)) / scale, data.targets)
    expected = (model.predict((other - flat.mean(axis=0)) / scale) == test.targets).mean()
    assert found.metrics["accuracy"] == pytest.approx(expected)
    assert (found.model, found.inputs) == ("logistic regression", "the same pixels")
    assert found.metrics["accuracy"] > 0.8, "scikit-learn's own handbook has 0.95 of all digits"


def test_the_scale_of_pixels_does_not_matter() -> None:
    data, test = digits(300)
    found = yardstick_of(data, test, "image", rows=300)
    dim, dim_test = (Data(each.inputs.astype(np.float32) * 2.0**-40, each.targets, data.task) for each in (data, test))
    assert yardstick_of(dim, dim_test, "image", rows=300).metrics == pytest.approx(found.metrics)


def test_a_part_of_the_rows_is_drawn_by_the_seed_and_may_lack_a_class() -> None:
    data, test = digits(300)
    few = [yardstick_of(data, test, "image", rows=12, seed=seed) for seed in (0, 0, 1)]
    assert few[0].metrics == few[1].metrics
    assert few[0].metrics != few[2].metrics
    assert (few[0].rows, few[0].samples, few[0].columns, few[0].of_columns) == (12, 300, 64, 64)
    assert 0 < few[0].metrics["accuracy"] < 1


def test_of_many_test_samples_some_are_drawn_to_judge_on(monkeypatch: pytest.MonkeyPatch) -> None:
    data, test = digits(300)
    whole = yardstick_of(data, test, "image", rows=300)
    assert whole.judged == 100
    monkeypatch.setattr(yardstick, "MOST_JUDGED", 60)
    found, again = (yardstick_of(data, test, "image", rows=300) for _ in range(2))
    assert found.judged == 60
    assert found == again
    assert found.metrics["accuracy"] * 60 == pytest.approx(round(found.metrics["accuracy"] * 60))
    assert abs(found.metrics["accuracy"] - whole.metrics["accuracy"]) < 0.1


def test_memory_holds_a_block_of_the_test_samples_that_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    data, test = digits(300)
    many = Data(np.tile(test.inputs, (60, 1, 1, 1)), np.tile(test.targets, 60), data.task)
    monkeypatch.setattr(yardstick, "MOST_JUDGED", 5000)
    sizes: list[int] = []
    take = Data.take

    def taking(held: Data, rows: np.ndarray) -> Data:
        sizes.append(len(rows))
        return take(held, rows)

    monkeypatch.setattr(Data, "take", taking)
    assert yardstick_of(data, many, "image", rows=300).judged == 5000
    assert sorted(sizes)[-2:] == [904, 4096]


def test_numbers_are_judged_by_ridge_regression() -> None:
    inputs, targets = load_diabetes(return_X_y=True)
    inputs, targets = (10 * inputs).astype(np.float32), targets[:, None]
    data = Data(inputs[:300], targets[:300], Regression())
    test = Data(inputs[300:], targets[300:], data.task)
    found = yardstick_of(data, test, "text", rows=300)
    wide, mean = data.inputs.astype(np.float64), data.inputs.astype(np.float64).mean(axis=0)
    centred, own = wide - mean, targets[:300] - targets[:300].mean()
    weights = np.linalg.solve(centred.T @ centred + 0.1 * np.eye(10), centred.T @ own)
    guesses = (test.inputs.astype(np.float64) - mean) @ weights + targets[:300].mean()
    assert found.metrics["rmse"] == pytest.approx(float(np.sqrt(((guesses - test.targets) ** 2).mean())), rel=1e-4)
    assert found.model == "ridge regression"


def test_tables_are_judged_by_boosted_trees_that_know_codes_of_categories() -> None:
    random = np.random.default_rng(0)
    table = np.stack([random.integers(0, 6, 400), random.normal(size=400)], axis=1).astype(np.float32)
    labels = (np.isin(table[:, 0], [1, 4]) ^ (table[:, 1] > 0)).astype(np.int64)
    settings = {"kind": "codes", "categories": [6, None]}
    data = Data(table[:300], labels[:300], 2, settings)
    test = Data(table[300:], labels[300:], data.task, settings)
    found = yardstick_of(data, test, "features", rows=300)
    trees = HistGradientBoostingClassifier(categorical_features=[0], early_stopping=False, random_state=0)
    assert found.metrics["accuracy"] == trees.fit(table[:300], labels[:300]).score(table[300:], labels[300:])
    assert found.model == "boosted trees"


def test_tokens_are_read_as_tf_idf_without_padding_and_labels_one_by_one() -> None:
    random = np.random.default_rng(0)
    ids = random.integers(1, 30, (200, 12)).astype(np.int32)
    ids[:, 8:] = 0
    labels = np.stack([(ids == 3).any(axis=1), (ids == 5).any(axis=1), np.zeros(200, bool)], axis=1)
    settings = {"kind": "tokens", "vocabulary": 30, "padding_id": 0}
    data = Data(ids[:150], labels[:150], MultiLabel(3), settings)
    test = Data(ids[150:], labels[150:], data.task, settings)
    found = yardstick_of(data, test, "text", rows=150)
    counts = csr_matrix(np.stack([np.bincount(row[row > 0], minlength=30) for row in ids]))
    weighted = TfidfTransformer(sublinear_tf=True).fit(counts[:150]).transform(counts)
    losses = []
    for column in range(2):
        model = LogisticRegression(C=10.0).fit(weighted[:150], labels[:150, column])
        shares = model.predict_proba(weighted[150:])[np.arange(50), labels[150:, column].astype(int)]
        losses.append(-np.log(shares))
    # A label without rows has almost no loss.
    assert found.metrics["loss"] == pytest.approx(np.mean([*losses, np.zeros(50)]), rel=1e-3)


def test_rows_are_as_many_as_the_work_allows_within_the_caps() -> None:
    wide = Data(np.ones((30_000, 50), np.float32), np.zeros(30_000, np.int64), 2)
    sparse = Data(wide.inputs * (np.arange(50) < 5), wide.targets, 2)
    assert rows_within(100.0 * 2 * 50 * 2 * 1_500, sparse, "text") == 15_000, "of texts the terms that are there count"
    assert rows_within(100.0 * 2 * 50 * 2 * 1_500, sparse, "image") == 1_500
    assert rows_within(100.0 * 2 * 50 * 2 * 5_000, wide, "text") == 5_000
    assert rows_within(0.0, wide, "text") == LEAST_ROWS
    assert rows_within(1e15, wide, "text") == MOST_ROWS
    assert rows_within(1e15, wide.take(np.arange(70)), "text") == 70


def test_what_a_run_knows_of_its_samples_is_what_it_put_out_for_them_last(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = digits(200)
    config = TrainingConfig(epochs=3, batch_size=32, model_settings={"hidden": (16,)})
    fit, seen = TrainingFit.of(data, CPU), list[tuple[Any, Any]]()
    assert fit

    class Recorder(TrainingFit):
        def update(self, batch: TrainingBatch) -> None:
            seen.append((batch.ids.numpy().copy(), batch.outputs.numpy().copy()))

    train(data, config, seed=0, observers=[fit, Recorder(200, CPU, width=10, counts=False)], device=CPU)
    epochs = [seen[start : start + 7] for start in range(0, 21, 7)]
    shares = [np.mean(np.concatenate([o.argmax(1) == data.targets[i] for i, o in steps])) for steps in epochs]
    told = fit.summary(data)
    np.testing.assert_allclose(told["accuracy"], shares, rtol=1e-12)
    assert told["metrics"]["accuracy"] == pytest.approx(shares[-1])
    monkeypatch.setattr(training_fit, "MOST", 100)
    small = TrainingFit.of(data, CPU)
    assert small
    train(data, config, seed=0, observers=[small], device=CPU)
    assert small.summary(data) == {"metrics": {}, "accuracy": told["accuracy"]}
