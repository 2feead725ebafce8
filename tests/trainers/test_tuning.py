"""Settings are chosen on held-out training rows, by accuracy alone, among the candidates that can fill the budget."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.contract import resolve_keep
from secateur.selectors.draws.ranks import random_keys
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging import tuning
from secateur.trainers.judging.tuning import tune
from secateur.trainers.tasks.contract import Metric


def numbered(counts):
    """Data with the row number as its only feature, and so many samples of each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = labels[np.argsort(random_keys(len(labels), 0))]
    return Data(np.arange(len(labels), dtype=np.float32)[:, None], labels, len(counts))


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(0, 40), min_size=2, max_size=6),
    fraction=st.sampled_from([0.1, 0.2, 0.5]),
    seed=st.integers(0, 9),
)
def test_the_split_is_stratified_and_never_overlaps(counts, fraction, seed):
    counts = [20, 20, *counts]
    data = numbered(counts)
    there, classes = sum(count for count in counts if count > 1), sum(count > 1 for count in counts)
    if np.ceil(fraction * there) < classes:
        with pytest.raises(ValueError, match="validation split"):
            data.task.split(data.targets, fraction, seed)
        return
    pool, validation = data.task.split(data.targets, fraction, seed)
    assert sorted([*pool, *validation]) == list(range(len(data)))
    assert not set(pool) & set(validation)
    assert pool.dtype == validation.dtype == np.int64
    assert len(validation) == np.ceil(fraction * there)
    for label, count in enumerate(counts):
        held = int((data.targets[validation] == label).sum())
        assert held == 0 if count < 2 else abs(held - fraction * count) < 2
    again = data.task.split(data.targets, fraction, seed)
    assert np.array_equal(pool, again[0])


def test_a_class_of_one_sample_stays_in_the_pool():
    data = numbered([30, 30, 1])
    pool, validation = data.task.split(data.targets, 0.2, 0)
    assert (data.targets[pool] == 2).sum() == 1
    assert (data.targets[validation] == 2).sum() == 0


@pytest.mark.parametrize("counts", [[1, 1, 1], [2, 2, 2, 2], [1, 0]])
def test_data_too_small_to_split_is_refused(counts):
    with pytest.raises(ValueError, match=r"validation split of 0.1 of .* cannot hold"):
        numbered(counts).task.split(numbered(counts).targets, 0.1, 0)


@pytest.fixture
def scripted(monkeypatch):
    """Training and evaluation with accuracies from a table by the candidate that chose the mask."""
    log = SimpleNamespace(trained=[], judged=[], accuracy={}, metric=None, candidate=None)

    def train(data, config, *, seed, keep):
        log.trained.append((data.inputs[:, 0].astype(int), keep, seed))
        return SimpleNamespace(model=None, steps=3, samples_seen=3 * config.batch_size, seconds=0.0)

    def decided(model, data, metric):
        assert metric == log.metric
        log.judged.append(data.inputs[:, 0].astype(int))
        value = log.accuracy[log.candidate]
        return value[log.trained[-1][2]] if isinstance(value, list) else value

    monkeypatch.setattr(tuning, "train", train)
    monkeypatch.setattr(tuning, "decided", decided)

    def choose(rows, budget, candidate, seed):
        log.candidate = candidate
        if log.accuracy[candidate] is None:
            raise ValueError(f"cutoff {candidate} leaves too few")
        keep = np.zeros(len(rows), dtype=np.bool_)
        keep[:budget] = True
        return keep

    log.choose = choose
    return log


CONFIG = TrainingConfig(steps=3)


def test_nothing_that_is_chosen_from_is_validated_on(scripted):
    scripted.accuracy = {0.0: 0.5, 0.1: 0.6}
    data = numbered([50, 50])
    tune(data, CONFIG, scripted.choose, (0.0, 0.1), keep=0.3, seeds=2)
    pool, validation = data.task.split(data.targets, 0.2, 0)
    assert len(scripted.trained) == len(scripted.judged) == 4
    assert [seed for *_, seed in scripted.trained] == [0, 1, 0, 1]
    assert all(np.array_equal(rows, pool) for rows, *_ in scripted.trained)
    assert all(np.array_equal(rows, validation) for rows in scripted.judged)
    assert all(keep.sum() == 24 for _, keep, _ in scripted.trained)


def test_of_a_metric_that_is_given_its_own_direction_counts(scripted):
    scripted.metric = Metric("loss", higher_is_better=False)
    scripted.accuracy = {0.0: [0.9, 0.1], 0.3: [0.6, 0.6], 0.2: [0.4, 0.5]}
    tuned = tune(
        numbered([50, 50]), CONFIG, scripted.choose, (0.0, 0.3, 0.2), keep=0.5, seeds=2, metric=scripted.metric
    )
    assert tuned.value == 0.2


def test_the_best_mean_wins(scripted):
    scripted.accuracy = {0.0: [0.9, 0.1], 0.3: [0.6, 0.6], 0.2: [0.5, 0.5]}
    tuned = tune(numbered([50, 50]), CONFIG, scripted.choose, (0.0, 0.3, 0.2), keep=0.5, seeds=2)
    assert tuned.value == 0.3
    assert tuned.results == pytest.approx({0.0: 0.5, 0.3: 0.6, 0.2: 0.5})


@pytest.mark.parametrize("candidates", [(0.0, 0.1, 0.2), (0.2, 0.1, 0.0)])
def test_equals_go_to_the_earlier_candidate(scripted, candidates):
    scripted.accuracy = dict.fromkeys(candidates, 0.7)
    assert tune(numbered([50, 50]), CONFIG, scripted.choose, candidates, keep=0.5).value == candidates[0]


def test_candidates_that_cannot_fill_the_budget_are_left_out(scripted):
    scripted.accuracy = {0.0: 0.5, 0.4: 0.6, 0.5: None}
    told = []
    tuned = tune(
        numbered([50, 50]),
        CONFIG,
        scripted.choose,
        (0.0, 0.4, 0.5),
        keep=0.5,
        progress=lambda *each: told.append(each),
    )
    assert tuned.value == 0.4
    assert set(tuned.results) == {0.0, 0.4}
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_candidate_that_fails_for_one_seed_is_left_out_whole(scripted):
    scripted.accuracy = {0.0: 0.5, 0.4: [0.99, 0.99, 0.99]}

    def choose(rows, budget, candidate, seed):
        if candidate == 0.4 and seed == 2:
            raise ValueError("too few")
        return scripted.choose(rows, budget, candidate, seed)

    tuned = tune(numbered([50, 50]), CONFIG, choose, (0.0, 0.4), keep=0.5)
    assert tuned.value == 0.0
    assert set(tuned.results) == {0.0}


def test_when_nothing_fits_the_last_refusal_is_told(scripted):
    scripted.accuracy = {0.1: None, 0.4: None}
    with pytest.raises(ValueError, match=r"no candidate of \(0.1, 0.4\) fits a budget of 72 .*: cutoff 0.4 leaves too"):
        tune(numbered([50, 50]), CONFIG, scripted.choose, (0.1, 0.4), keep=0.9)


@settings(max_examples=30)
@given(keep=st.one_of(st.integers(1, 97), st.floats(0.006, 1)))
def test_a_count_is_the_same_share_of_the_pool_as_of_the_data(keep):
    data, budgets = numbered([50, 47]), []

    def choose(rows, budget, candidate, seed):
        budgets.append((budget, len(rows)))
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        tune(data, CONFIG, choose, (0.0,), keep=keep)
    ((budget, pool),) = budgets
    assert abs(budget - resolve_keep(keep, 97) * pool / 97) <= 0.5 or budget == 1


def test_tuning_finds_the_candidate_that_learns():
    """Without a script: one feature separates two classes; candidate 1 keeps both of them, candidate 0 only one."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 200)
    inputs = (generator.normal(size=(200, 2)) + 3 * labels[:, None]).astype(np.float32)
    data = Data(inputs, labels, 2)

    def choose(rows, budget, candidate, seed):
        order = np.argsort(labels[rows] if candidate == 0 else random_keys(rows, seed), kind="stable")
        keep = np.zeros(len(rows), dtype=np.bool_)
        keep[order[:budget]] = True
        return keep

    tuned = tune(data, TrainingConfig(steps=60, learning_rate=0.01), choose, (0.0, 1.0), keep=0.2, seeds=2)
    assert tuned.value == 1.0
    assert tuned.results[1.0] > 0.9
    assert tuned.results[0.0] < 0.7
    again = tune(data, TrainingConfig(steps=60, learning_rate=0.01), choose, (0.0, 1.0), keep=0.2, seeds=2)
    assert replace(again, cost=tuned.cost) == tuned
    assert again.cost.backward == tuned.cost.backward > 0
