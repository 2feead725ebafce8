"""Observers against the papers' formulas, written out in float64 over the recorded history of each sample."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.scorers.contract import TrainingBatch
from secateur.scorers.observers.accumulated_margin import AccumulatedMargin
from secateur.scorers.observers.aum import Aum
from secateur.scorers.observers.correctness import Correctness
from secateur.scorers.observers.el2n import El2n
from secateur.scorers.observers.entropy import Entropy
from secateur.scorers.observers.forgetting import Forgetting
from secateur.scorers.observers.loss import Loss
from secateur.scorers.observers.margin import Margin

CPU = torch.device("cpu")
STORED = ("latest", "residuals")
"""Accumulators that hold a number as it came and are never summed."""


@dataclass
class Run:
    """A training run as recorded: per epoch its batches of (ids, logits float32 `[b, classes]`)."""

    labels: np.ndarray
    epochs: list[list[tuple[np.ndarray, np.ndarray]]]

    def history(self, row):
        """(epoch, logits float64) of each presentation of a sample, in order."""
        return [
            (epoch, logits[np.flatnonzero(ids == row)[0]].astype(np.float64))
            for epoch, batches in enumerate(self.epochs)
            for ids, logits in batches
            if row in ids
        ]


def recorded(seed, *, samples=11, classes=4, epochs=6):
    """Every epoch presents another part of the samples, the first one all of them, in batches of 1 to 5."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, samples)
    signal = generator.normal(size=samples)
    run = Run(labels, [])
    for epoch in range(epochs):
        order = generator.permutation(samples)
        order = order[: samples if epoch == 0 else generator.integers(1, samples + 1)]
        batches = []
        while len(order):
            ids, order = np.split(order, [generator.integers(1, 6)])
            logits = 3 * generator.normal(size=(len(ids), classes))
            logits[np.arange(len(ids)), labels[ids]] += 4 * signal[ids]  # some are learned, some never
            batches.append((ids, logits.astype(np.float32)))
        run.epochs.append(batches)
    return run


def observation(ids, logits, labels, device=CPU):
    logits = torch.as_tensor(logits, device=device)
    target = torch.as_tensor(labels, device=device)
    losses = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    return TrainingBatch(torch.as_tensor(ids, device=device), logits, target, losses)


def play(run, watcher, *, start=0, stop=None):
    for epoch, batches in list(enumerate(run.epochs))[start:stop]:
        for ids, logits in batches:
            watcher.observe(observation(ids, logits, run.labels[ids]))
        watcher.end_epoch(epoch)
    return watcher


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def margin(values, y):
    return values[y] - max(value for c, value in enumerate(values) if c != y)


def mean_loss(history, y):
    return np.mean([-np.log(softmax(z)[y]) for _, z in history])


def share_correct(history, y):
    return np.mean([np.argmax(z) == y for _, z in history])


def mean_logit_margin(history, y):
    return np.mean([margin(z, y) for _, z in history])


def mean_probability_margin(history, y):
    return np.mean([margin(softmax(z), y) for _, z in history])


def last_probability_margin(history, y):
    return margin(softmax(history[-1][1]), y)


def last_entropy(history, y):
    return -sum(p * np.log(p) for p in softmax(history[-1][1]) if p > 0)


def early_el2n(history, y, epochs=10):
    return np.mean([np.linalg.norm(softmax(z) - np.eye(len(z))[y]) for epoch, z in history if epoch < epochs])


def forgetting_events(history, y, never_learned="presentations", per="run"):
    correct = [int(np.argmax(z) == y) for _, z in history]
    events = sum(before == 1 and after == 0 for before, after in itertools.pairwise(correct))
    if not any(correct):
        events = len(correct) if never_learned == "presentations" else 0
    return events / len(correct) if per == "presentation" else events


REFERENCES = [
    (Loss, {}, mean_loss),
    (Correctness, {}, share_correct),
    (Aum, {}, mean_logit_margin),
    (AccumulatedMargin, {}, mean_probability_margin),
    (Margin, {}, last_probability_margin),
    (Entropy, {}, last_entropy),
    (El2n, {}, early_el2n),
    (El2n, {"epochs": 1}, early_el2n),
    (El2n, {"epochs": 3}, early_el2n),
    *(
        (Forgetting, {"never_learned": never, "per": per}, forgetting_events)
        for never in ("presentations", "zero")
        for per in ("run", "presentation")
    ),
]
each = pytest.mark.parametrize(
    ("kind", "chosen", "reference"),
    REFERENCES,
    ids=lambda value: value.__name__ if callable(value) else "-".join(map(str, value.values())),
)


@each
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    samples=st.integers(1, 12),
    classes=st.integers(2, 6),
    epochs=st.integers(1, 13),
)
def test_scores_are_the_formula(kind, chosen, reference, seed, samples, classes, epochs):
    run = recorded(seed, samples=samples, classes=classes, epochs=epochs)
    scores = play(run, kind(samples, CPU, **chosen)).scores()
    expected = [reference(run.history(row), run.labels[row], **chosen) for row in range(samples)]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=2e-5, atol=2e-6)


def test_the_recorded_runs_hold_what_the_references_tell_apart():
    run = recorded(0, samples=200, epochs=8)
    histories = [run.history(row) for row in range(200)]
    correct = [[np.argmax(z) == y for _, z in history] for history, y in zip(histories, run.labels, strict=True)]
    assert len({len(history) for history in histories}) > 3
    assert any(not any(row) for row in correct)
    assert any(all(row) for row in correct)
    assert max(forgetting_events(history, y) for history, y in zip(histories, run.labels, strict=True)) >= 2


@each
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.integers(0, 6))
def test_a_run_continued_from_its_state_scores_the_same(kind, chosen, reference, seed, cut):
    run = recorded(seed)
    whole = play(run, kind(11, CPU, **chosen)).scores()
    first = play(run, kind(11, CPU, **chosen), stop=cut)
    saved = {name: value.clone() for name, value in first.state_dict().items()}
    second = kind(11, CPU, **chosen)
    second.load_state_dict(saved)
    np.testing.assert_array_equal(play(run, second, start=cut).scores(), whole)


@each
def test_a_state_of_other_samples_or_another_scorer_is_refused(kind, chosen, reference):
    watcher, other = kind(11, CPU, **chosen), kind(1, CPU, **chosen)
    with pytest.raises(ValueError, match=f"{kind.card.name}.*cannot continue"):
        watcher.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="cannot continue"):
        watcher.load_state_dict({**watcher.state_dict(), "stranger": torch.zeros(11)})


@each
def test_accumulators_hold_at_most_one_exact_number_per_sample(kind, chosen, reference):
    state = kind(1000, CPU, **chosen).state_dict()
    assert state["presentations"].dtype == torch.int64
    for name, value in state.items():
        assert value.numel() in (0, 1, 1000), name
        wide = {torch.float64, torch.int64, torch.bool}
        assert value.dtype in wide or (name in STORED and value.dtype == torch.float32), name


@each
def test_rows_that_were_never_presented_are_named(kind, chosen, reference):
    watcher = kind(6, CPU, **chosen)
    watcher.observe(observation(np.array([0, 1, 3, 5]), np.eye(4, dtype=np.float32), np.array([0, 1, 2, 3])))
    with pytest.raises(ValueError, match=f"{kind.card.name}.*never presented rows 2, 4$"):
        watcher.scores()


@each
def test_nan_logits_are_refused_with_their_rows(kind, chosen, reference):
    # All NaN: argmax answers 0, which would pass for a correct prediction of label 0.
    logits = np.zeros((4, 3), np.float32)
    logits[0] = logits[2, 1] = np.nan
    watcher = kind(4, CPU, **chosen)
    watcher.observe(observation(np.arange(4), logits, np.array([0, 0, 2, 1])))
    with pytest.raises(ValueError, match=f"{kind.card.name}.*NaN or infinite at rows 0, 2$"):
        watcher.scores()


def test_el2n_names_rows_that_came_after_its_epochs():
    watcher = El2n(3, CPU, epochs=1)
    eye = np.eye(3, dtype=np.float32)
    watcher.observe(observation(np.array([0, 2]), eye[:2], np.array([0, 1])))
    watcher.end_epoch(0)
    watcher.observe(observation(np.array([1]), eye[:1], np.array([0])))
    with pytest.raises(ValueError, match=r"first 1 epochs never presented row 1$"):
        watcher.scores()


@each
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_order_within_batches_does_not_matter(kind, chosen, reference, seed):
    run, generator = recorded(seed), np.random.default_rng(seed)
    shuffled = Run(run.labels, [])
    for batches in run.epochs:
        orders = [generator.permutation(len(ids)) for ids, _ in batches]
        shuffled.epochs.append([(ids[o], logits[o]) for (ids, logits), o in zip(batches, orders, strict=True)])
    first, second = (play(each_run, kind(11, CPU, **chosen)).scores() for each_run in (run, shuffled))
    np.testing.assert_array_equal(first, second)


@each
def test_observing_never_waits_for_the_device(kind, chosen, reference):
    # Tensors on `meta` have no values: reading one, or an operation whose shape depends on values, raises.
    meta = torch.device("meta")
    with pytest.raises(RuntimeError):
        torch.zeros((), device=meta).item()
    watcher = kind(11, meta, **chosen)
    batch = TrainingBatch(
        torch.zeros(5, dtype=torch.int64, device=meta),
        torch.zeros(5, 3, device=meta),
        torch.zeros(5, dtype=torch.int64, device=meta),
        torch.zeros(5, device=meta),
    )
    watcher.observe(batch)
    watcher.end_epoch(0)
    watcher.observe(batch)
    assert {value.device.type for name, value in watcher.state_dict().items() if name != "epoch"} == {"meta"}


def test_observers_leave_the_graph_of_the_loss_alone():
    logits = torch.randn(5, 3, requires_grad=True, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 1, 2, 0, 1])
    losses = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    batch = TrainingBatch(torch.arange(5), logits, target, losses)
    for kind, chosen, _ in REFERENCES:
        watcher = kind(5, CPU, **chosen)
        watcher.observe(batch)
        assert not any(value.requires_grad for value in watcher.state_dict().values())
    losses.mean().backward()
    assert logits.grad is not None


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_reduced_in_float32(precision):
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.5, 4.0, 0.0]], dtype=precision)
    target = torch.tensor([0, 0])
    losses = torch.nn.functional.cross_entropy(logits.float(), target, reduction="none")
    watcher = AccumulatedMargin(2, CPU)
    watcher.observe(TrainingBatch(torch.arange(2), logits, target, losses))
    expected = [margin(softmax(row.double().numpy()), 0) for row in logits]
    np.testing.assert_allclose(watcher.scores(), expected, rtol=1e-6)
