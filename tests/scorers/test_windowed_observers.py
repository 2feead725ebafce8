"""Observers of windows, and the early mean, against their formulas over each sample's whole recorded history."""

import itertools
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.scorers.contract import TrainingBatch
from secateur.scorers.observers.dual import Dual
from secateur.scorers.observers.dynamic_uncertainty import DynamicUncertainty
from secateur.scorers.observers.mean_probability import MeanProbability
from secateur.scorers.observers.tdds import Tdds

CPU = torch.device("cpu")
CLASSES = 4


def recorded(seed, samples, epochs):
    """Labels, and per epoch batches of (ids, logits): the first presents everyone, later ones whom they please."""
    generator = np.random.default_rng(seed)
    labels, run = generator.integers(0, CLASSES, samples), []
    for epoch in range(epochs):
        shown = generator.permutation(samples)[: samples if epoch == 0 else generator.integers(1, samples + 1)]
        parts = np.array_split(shown, generator.integers(1, 4))
        run.append([(ids, generator.normal(size=(len(ids), CLASSES)).astype(np.float32) * 2) for ids in parts])
    return labels, run


def observation(ids, logits, labels):
    logits, target = torch.as_tensor(logits), torch.as_tensor(labels[ids])
    losses = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    return TrainingBatch(torch.as_tensor(ids), logits, target, losses)


def play(watcher, labels, run, start=0):
    for epoch, batches in list(enumerate(run))[start:]:
        for ids, logits in batches:
            watcher.observe(observation(ids, logits, labels))
        watcher.end_epoch(epoch)
    return watcher


def histories(labels, run, epochs=None):
    """Each sample's softmax at its presentations in order, float64."""
    found = [[] for _ in labels]
    for batches in run[:epochs]:
        for ids, logits in batches:
            for row, z in zip(ids, logits.astype(np.float64), strict=True):
                e = np.exp(z - z.max())
                found[row].append(e / e.sum())
    return found


def windows(values, size):
    """All runs of `size` neighbours; where there are fewer values, all of them as one."""
    return [values[at : at + size] for at in range(max(1, len(values) - size + 1))]


def deviation(values):
    return statistics.stdev(values) if len(values) > 1 else 0.0


def wavering(history, label, window):
    return statistics.fmean(deviation(part) for part in windows([p[label] for p in history], window))


def dual(history, label, window):
    parts = windows([p[label] for p in history], window)
    return statistics.fmean((1 - statistics.fmean(part)) * deviation(part) for part in parts)


def mean_probability(history, label, window):
    return statistics.fmean(p[label] for p in history)


def tdds(history, label, window, decay=0.9):
    changes = [sum(abs(q * (np.log(q) - np.log(p)))) for p, q in itertools.pairwise(history)]
    if len(history) < window:
        return 0.0
    values = [np.linalg.norm(np.subtract(part, np.mean(part))) for part in windows(changes, window - 1)]
    return sum(decay * (1 - decay) ** (len(values) - 1 - k) * value for k, value in enumerate(values))


CASES = {
    "dynamic_uncertainty": (lambda n, w: DynamicUncertainty(n, CPU, window=w), wavering, None),
    "dual": (lambda n, w: Dual(n, CPU, window=w, epochs=5), dual, 5),
    "mean_probability": (lambda n, w: MeanProbability(n, CPU, epochs=5), mean_probability, 5),
    "mean_probability, whole run": (lambda n, w: MeanProbability(n, CPU, epochs=None), mean_probability, None),
    "tdds": (lambda n, w: Tdds(n, CPU, window=w), tdds, None),
    "tdds, first epochs": (lambda n, w: Tdds(n, CPU, window=w, epochs=5), tdds, 5),
}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), samples=st.integers(1, 9), epochs=st.integers(1, 9), window=st.integers(2, 5))
@pytest.mark.parametrize("name", CASES)
def test_formula_over_unequal_presentations(name, seed, samples, epochs, window):
    build, formula, counted = CASES[name]
    labels, run = recorded(seed, samples, epochs)
    got = play(build(samples, window), labels, run).scores()
    expected = [
        formula(history, label, window) for history, label in zip(histories(labels, run, counted), labels, strict=True)
    ]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_run_continues_from_its_state(name):
    build, _, _ = CASES[name]
    labels, run = recorded(1, 8, 9)
    whole = play(build(8, 3), labels, run)
    for epochs in (0, 3, 7):
        first, second = play(build(8, 3), labels, run[:epochs]), build(8, 3)
        second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
        np.testing.assert_array_equal(play(second, labels, run, start=epochs).scores(), whole.scores())


@pytest.mark.parametrize("name", CASES)
def test_samples_do_not_depend_on_their_batches(name):
    build, _, _ = CASES[name]
    labels, run = recorded(2, 8, 6)
    alone = [[(ids[at : at + 1], z[at : at + 1]) for ids, z in batches for at in range(len(ids))] for batches in run]
    whole, apart = play(build(8, 3), labels, run), play(build(8, 3), labels, alone)
    np.testing.assert_allclose(apart.scores(), whole.scores(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_a_sample_that_was_never_presented_is_named(name):
    build, _, _ = CASES[name]
    labels, run = recorded(0, 6, 1)
    ids, logits = np.arange(5), np.concatenate([z for _, z in run[0]])[:5]
    with pytest.raises(ValueError, match=r"never presented row 5$"):
        play(build(6, 3), labels, [[(ids, logits)]]).scores()


@pytest.mark.parametrize("name", CASES)
def test_nan_is_named(name):
    build, _, _ = CASES[name]
    labels, _ = recorded(0, 6, 5)
    everyone = [[(np.arange(6), np.ones((6, CLASSES), np.float32) * epoch)] for epoch in range(5)]
    everyone[2][0][1][4] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite at row 4"):
        play(build(6, 3), labels, everyone).scores()


def test_first_epochs_that_left_a_sample_out_are_said():
    labels, run = recorded(0, 6, 3)
    late = [[(ids[ids != 4], z[ids != 4]) for ids, z in run[0]], *run[:1]]
    with pytest.raises(ValueError, match=r"the first 1 epochs never presented row 4$"):
        play(Dual(6, CPU, window=2, epochs=1), labels, late).scores()
    assert np.isfinite(play(Dual(6, CPU, window=2, epochs=2), labels, late).scores()).all()


def test_memory_does_not_grow_with_epochs():
    labels, run = recorded(0, 50, 12)
    for build, _, _ in CASES.values():
        watcher = play(build(50, 3), labels, run[:1])
        before = {name: value.numel() for name, value in watcher.state_dict().items()}
        play(watcher, labels, run, start=1)
        assert {name: value.numel() for name, value in watcher.state_dict().items()} == before
        assert max(before.values()) <= 50 * CLASSES


def test_settled_samples_are_the_least_uncertain():
    labels = np.zeros(3, np.int64)
    steady, wavers, hopeless = [4.0, 0, 0, 0], [0.0, 0, 0, 0], [-4.0, 0, 0, 0]
    run = []
    for epoch in range(6):
        wavers[0] = 3.0 * (-1) ** epoch
        run.append([(np.arange(3), np.array([steady, wavers, hopeless], np.float32))])
    for build in (CASES["dynamic_uncertainty"][0], CASES["dual"][0], CASES["tdds"][0]):
        scores = play(build(3, 3), labels, run).scores()
        assert scores[1] > 0.1
        np.testing.assert_allclose(scores[[0, 2]], 0, atol=1e-6)


def test_beta_sampling_reads_what_an_observer_is_called():
    from secateur.scorers.registry import scorers
    from secateur.selectors.static.beta_sampling import beta_sampling

    assert "mean_probability" in beta_sampling.reads
    assert scorers()["mean_probability"] is MeanProbability
