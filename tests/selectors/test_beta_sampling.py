"""DUAL's weights against SciPy's beta density; draws against NumPy's weighted choice."""

import numpy as np
import pytest
from scipy import stats

from secateur.selectors.static.beta_sampling import arrival_times, beta_sampling


def test_one_draw_follows_score_times_beta_density():
    """Chi-square of 1500 draws of one sample: p above 1e-6, so a false alarm once in a million seeds."""
    count, exponent = 12, 4.0
    numbers = np.random.default_rng(0)
    scores, mean = numbers.random(count).astype(np.float32), numbers.uniform(0.05, 0.95, count).astype(np.float32)
    hardest = mean[np.argsort(-scores)[:10]].astype(np.float64).mean()
    b = 15 * (1 - hardest) * (1 - (1 - 1 / count) ** exponent)
    weights = scores * stats.beta.pdf(mean.astype(np.float64), 16 - b, b)
    draws = sum(beta_sampling(scores, mean, 1, exponent=exponent, seed=seed).astype(int) for seed in range(1500))
    expected = 1500 * weights / weights.sum()
    common = expected > 5
    observed = np.append(draws[common], draws[~common].sum())
    assert stats.chisquare(observed, np.append(expected[common], expected[~common].sum())).pvalue > 1e-6


def test_arrivals_are_draws_without_replacement():
    """Inclusion frequencies against NumPy's sequential weighted draws, six standard errors."""
    weights, rounds = np.array([1.0, 2, 3, 4, 10]), 4000
    ours, theirs = np.zeros(5), np.zeros(5)
    numbers = np.random.default_rng(1)
    for seed in range(rounds):
        ours[np.argsort(arrival_times(np.log(weights), seed=seed))[:2]] += 1
        theirs[numbers.choice(5, 2, replace=False, p=weights / weights.sum())] += 1
    assert (np.abs(ours - theirs) < 6 * np.sqrt(2 * rounds * 0.25)).all()


def test_more_pruning_leans_to_easier_samples():
    numbers = np.random.default_rng(2)
    scores, mean = numbers.random(2000).astype(np.float32), numbers.random(2000).astype(np.float32)
    kept = [mean[beta_sampling(scores, mean, budget, exponent=4.0, seed=0)].mean() for budget in (100, 600, 1400)]
    assert kept[0] > kept[1] > kept[2]


def test_certain_predictions_do_not_break_the_density():
    """At a mean probability of 1 the published density is infinite and the draw fails."""
    scores, mean = np.ones(50, np.float32), np.ones(50, np.float32)
    assert beta_sampling(scores, mean, 20, exponent=4.0, seed=0).sum() == 20


def test_worthless_scores_come_last():
    scores = np.float32([1, 0, 2, -1, 3])
    mean = np.full(5, 0.5, np.float32)
    np.testing.assert_array_equal(beta_sampling(scores, mean, 3, exponent=4.0, seed=0), scores > 0)


def test_other_numbers_than_probabilities_are_refused():
    with pytest.raises(ValueError, match="'mean_probability' must lie within \\[0, 1\\], it does not at row 1"):
        beta_sampling(np.ones(3, np.float32), np.float32([0, 2, 1]), 1, exponent=4.0, seed=0)
