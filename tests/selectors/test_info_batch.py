"""InfoBatch against the paper's formulas in float64, its unbiasedness, and each published defect."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from secateur.selectors.samplers.info_batch import InfoBatch

LOSSES = st.lists(st.floats(0, 50, width=32), min_size=1, max_size=60)


def after(losses: list[float] | np.ndarray, **chosen: object) -> InfoBatch:
    """A sampler at epoch 1 that observed these losses of all samples in epoch 0."""
    sampler = InfoBatch(len(losses), 10, **chosen)  # type: ignore[arg-type]
    sampler.observe(torch.arange(len(losses)), torch.tensor(np.asarray(losses), dtype=torch.float32))
    sampler.set_epoch(1)
    return sampler


def literal_mean_rule(losses: list[float], keep: Fraction) -> tuple[set[int], int]:
    """The paper's rule in exact arithmetic: rows that may be pruned, and how many of them stay."""
    exact = [Fraction(float(np.float32(loss))) for loss in losses]
    mean = Fraction(float(np.asarray(losses, dtype=np.float32).mean(dtype=np.float64)))
    easy = {row for row, loss in enumerate(exact) if loss < mean}
    return easy, max(1, math.floor(keep * len(easy))) if easy else 0


@settings(max_examples=60, deadline=None)
@given(LOSSES, st.sampled_from(["0", "0.1", "0.3", "0.5", "0.9"]))
def test_mean_rule(losses: list[float], prune: str) -> None:
    sampler = after(losses, prune=float(prune))
    easy, stay = literal_mean_rule(losses, 1 - Fraction(prune))
    kept = set(sampler.epoch_ids().tolist())
    assert set(range(len(losses))) - easy <= kept
    assert len(kept & easy) == stay
    assert len(kept) == len(sampler)
    weights = sampler.weights(torch.arange(len(losses))).double().numpy()
    for row in kept:
        assert weights[row] == pytest.approx(len(easy) / stay if row in easy else 1.0, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(LOSSES)
def test_percentile_rule(losses: list[float]) -> None:
    """Lowest 20% keep a quarter, up to 85% a half, the rest all, as in the authors' ImageNet config."""
    sampler = after(losses, rule="percentile")
    values = np.asarray(losses, dtype=np.float32).astype(np.float64)
    low, high = np.quantile(values, 0.2), np.quantile(values, 0.85)
    groups = [values < low, (values >= low) & (values < high), values >= high]
    kept = np.zeros(len(losses), dtype=bool)
    kept[sampler.epoch_ids()] = True
    weights = sampler.weights(torch.arange(len(losses))).double().numpy()
    for rows, share in zip(groups, (0.25, 0.5, 1.0), strict=True):
        if rows.any():
            stay = max(1, int(share * rows.sum()))
            assert (kept & rows).sum() == stay
            assert weights[rows] == pytest.approx(rows.sum() / stay, rel=1e-6)


def test_saving_of_the_percentile_rule_is_the_published_one() -> None:
    losses = np.random.default_rng(0).lognormal(size=20_000)
    assert 1 - len(after(losses, rule="percentile")) / 20_000 == pytest.approx(0.2 * 0.75 + 0.65 * 0.5, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(LOSSES)
def test_median_rule(losses: list[float]) -> None:
    """Of the losses below the median half stay, however large the largest ones are."""
    values = np.asarray(losses, dtype=np.float32).astype(np.float64)
    easy = values < np.median(values)
    sampler = after(losses, rule="median")
    kept = np.zeros(len(losses), dtype=bool)
    kept[sampler.epoch_ids()] = True
    assert kept[~easy].all()
    assert (kept & easy).sum() == (max(1, int(0.5 * easy.sum())) if easy.any() else 0)


def test_outliers_decide_the_mean_and_not_the_median() -> None:
    losses = np.r_[np.random.default_rng(0).chisquare(1, size=1000), np.full(10, 1e4)].tolist()
    assert len(after(losses, rule="mean")) == 510, "all but ten are easy"
    assert len(after(losses, rule="median")) == 505 + 505 // 2


def test_per_class_median() -> None:
    random = np.random.default_rng(0)
    losses, strata = random.lognormal(size=101), random.integers(0, 3, 101)
    sampler = after(losses.tolist(), strata=strata, per_class=True, rule="median")
    medians = np.array([np.median(losses.astype(np.float32)[strata == stratum]) for stratum in range(3)])
    hard = np.flatnonzero(losses.astype(np.float32) >= medians[strata])
    assert set(hard) <= set(sampler.epoch_ids().tolist())
    assert len(sampler) == len(hard) + (101 - len(hard)) // 2


def test_per_class_mean() -> None:
    """With one mean, the easy class would be pruned and the hard one not at all."""
    losses = np.concatenate((np.linspace(0, 1, 40), np.linspace(10, 11, 40)))
    labels = np.repeat([7, 3], 40)
    sampler = after(losses, strata=labels, per_class=True)
    kept = sampler.epoch_ids()
    assert np.isin(np.r_[20:40, 60:80], kept).all()
    assert len(sampler) == 60
    assert np.isin(np.r_[40:80], after(losses).epoch_ids()).all()


DRAWS, DIRECTIONS, ERROR_RATE = 200, 12, 1e-4


@pytest.mark.parametrize(
    "chosen", [{"prune": 0.5}, {"rule": "percentile"}, {"keep": 0.6}, {"keep": 0.15}, {"keep": 0.02}], ids=str
)
def test_expected_rescaled_gradient_is_the_full_gradient(chosen: dict[str, object]) -> None:
    """Mean over draws of the weighted gradient sum, by Student's t in each of 12 directions.

    The error rate over all directions is 1e-4 (Bonferroni). Linear regression, so that gradients vary in size and
    direction with the losses that decide who is pruned; without weights the same test finds the bias.
    """
    generator = np.random.default_rng(3)
    inputs, truth = generator.normal(size=(400, 6)), generator.normal(size=6)
    residuals = inputs @ (truth + 0.7) - inputs @ truth + generator.normal(size=400)
    gradients = residuals[:, None] * np.hstack((inputs, inputs**2))
    losses = (0.5 * residuals**2).astype(np.float32)
    weighted, plain = np.empty((2, DRAWS, DIRECTIONS))
    for seed in range(DRAWS):
        sampler = after(losses, seed=seed, **chosen)
        ids = sampler.epoch_ids()
        weighted[seed] = sampler.weights(torch.from_numpy(ids)).double().numpy() @ gradients[ids]
        plain[seed] = gradients[ids].sum(axis=0)
    bound = stats.t.isf(ERROR_RATE / 2 / DIRECTIONS, DRAWS - 1)

    def deviations(sums: np.ndarray) -> np.ndarray:
        return abs(sums.mean(axis=0) - gradients.sum(axis=0)) / (sums.std(axis=0, ddof=1) / math.sqrt(DRAWS))

    assert (deviations(weighted) < bound).all()
    assert (deviations(plain) > bound).any()


@settings(max_examples=60, deadline=None)
@given(LOSSES, st.data(), st.sampled_from(["mean", "percentile"]))
def test_a_budget_is_held_exactly(losses: list[float], data: st.DataObject, rule: str) -> None:
    budget = data.draw(st.integers(1, len(losses)))
    sampler = after(losses, keep=budget, rule=rule)
    ids = sampler.epoch_ids()
    assert len(ids) == len(set(ids.tolist())) == budget == sampler.plan(2)[1].samples
    assert sampler.plan(2)[1].exact
    assert sampler.weights(torch.from_numpy(ids)).double().sum().item() == pytest.approx(len(losses), rel=1e-5)


def test_a_budget_spares_hard_samples_while_it_can() -> None:
    losses = np.r_[np.zeros(80), np.ones(20)]
    hard = set(range(80, 100))
    for budget in (99, 50, 28):
        assert hard <= set(after(losses, keep=budget).epoch_ids().tolist())
    sampler = after(losses, keep=27)  # a tenth of the easy ones is 8
    assert len(hard & set(sampler.epoch_ids().tolist())) == 19
    assert sampler.weights(torch.tensor([0, 99])).tolist() == pytest.approx([10, 20 / 19])


@pytest.mark.parametrize("epochs", [10, 30, 60, 90, 100, 200, 300, 7, 1])
def test_annealing_begins_whatever_the_number_of_epochs(epochs: int) -> None:
    """Published weights are reset only where 0.875 · epochs is whole: at 90 epochs, annealing has weights of 2."""
    sampler = InfoBatch(20, epochs)
    losses = torch.arange(20.0)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        sampler.observe(torch.arange(20), losses)
        pruned = epoch > 0 and epoch + 1 <= Fraction("0.875") * epochs
        assert len(sampler) == (15 if pruned else 20)
        assert sampler.weights(torch.arange(20)).max().item() == (2 if pruned else 1)
    exact = [planned.exact for planned in sampler.plan(epochs)]
    assert exact == [epoch + 1 > Fraction("0.875") * epochs for epoch in range(epochs)]


def test_0_29_of_100_epochs_is_29() -> None:
    assert 0.29 * 100 < 29
    assert InfoBatch(5, 100, anneal_from=0.29).pruned_epochs == 29


def test_unseen_samples_are_always_kept_and_not_in_the_mean() -> None:
    """Published scores begin at 3, so that an unseen sample counts as easy or hard by the scale of the loss."""
    sampler = InfoBatch(100, 10)
    sampler.observe(torch.arange(50), torch.linspace(100, 200, 50))
    sampler.set_epoch(1)
    kept = set(sampler.epoch_ids().tolist())
    assert set(range(25, 100)) <= kept
    assert len(kept) == 75 + 12
    assert sampler.weights(torch.arange(50, 100)).tolist() == [1.0] * 50


def test_equal_losses_prune_nothing_at_any_size() -> None:
    """A float32 mean of six million threes exceeds 3, and published InfoBatch then halves the first epoch."""
    losses = np.full(6_000_000, 3.0, dtype=np.float32)
    assert np.cumsum(losses, dtype=np.float32)[-1] / len(losses) != 3
    sampler = after(losses)
    assert len(sampler) == len(losses)


def test_losses_of_half_precision_do_not_touch_ids() -> None:
    sampler = InfoBatch(50_002, 10)
    sampler.observe(torch.tensor([50_001, 2_049]), torch.tensor([1.0, 2.0], dtype=torch.float16))
    sampler.set_epoch(1)
    assert sampler.observed is not None
    assert sampler.observed.losses[[50_001, 2_049]].tolist() == [1.0, 2.0]
    assert sampler.observed.losses.isnan().sum() == 50_000


def test_no_rescaling_on_request() -> None:
    assert after(np.arange(10.0), rescale=False).weights(torch.arange(10)).tolist() == [1.0] * 10


def test_labels_must_fit() -> None:
    with pytest.raises(ValueError, match="one for each of 5 samples, got 0"):
        InfoBatch(5, 10, per_class=True)
