"""CCS against a literal transcription of the paper's algorithm, and against the defects of the published code."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from secateur.selectors.draws.ranks import keep_smallest
from secateur.selectors.static.coverage_centric import coverage_centric, equal_width_strata

FINITE = st.floats(-1e6, 1e6, width=32)
SCORES = st.one_of(
    npst.arrays(np.float32, st.integers(1, 80), elements=FINITE),
    npst.arrays(np.float32, st.integers(1, 80), elements=st.floats(-5, -1, width=32)),
    npst.arrays(np.float32, st.integers(1, 80), elements=st.integers(0, 4).map(float)),
    st.builds(lambda n, value: np.full(n, value, np.float32), st.integers(1, 80), FINITE),
)


def bin_of(score, low, high, strata):
    """The last bin whose lower edge the score has reached; the last bin is closed."""
    if high == low:
        return 0
    width = (high - low) / strata
    return max(b for b in range(strata) if b == 0 or score >= low + b * width)


def literal_bins(scores, alive, strata):
    low, high = float(min(scores[alive])), float(max(scores[alive]))
    return {int(row): bin_of(float(scores[row]), low, high, strata) for row in alive}


def literal_budgets(bins, budget, strata):
    sizes = [sum(1 for b in bins.values() if b == number) for number in range(strata)]
    budgets, rest = [0] * strata, budget
    for done, number in enumerate(sorted(range(strata), key=lambda b: sizes[b])):
        budgets[number] = min(sizes[number], rest // (strata - done))
        rest -= budgets[number]
    return budgets


@settings(max_examples=120, deadline=None)
@given(SCORES, st.sampled_from([0.0, 0.1, 0.29, 0.5, 0.9]), st.sampled_from([1, 2, 7, 50, 300]), st.data())
def test_bin_budgets_are_the_papers(scores, cutoff, strata, data):
    count = len(scores)
    left = count - int(cutoff * count)
    budget = data.draw(st.integers(1, left))
    aum = np.random.default_rng(count).permutation(count).astype(np.float32)
    keep = coverage_centric(scores, aum, budget, cutoff=cutoff, bins=strata, seed=data.draw(st.integers(0, 5)))
    assert keep.sum() == budget
    bins = literal_bins(scores, np.argsort(aum)[count - left :], strata)
    kept = [bins[int(row)] for row in np.flatnonzero(keep)]  # KeyError: a sample that the cut removed
    assert [kept.count(number) for number in range(strata)] == literal_budgets(bins, budget, strata)


@settings(max_examples=100, deadline=None)
@given(SCORES, st.sampled_from([1, 3, 10, 50, 255, 256]))
def test_strata_are_the_literal_intervals(scores, strata):
    literal = literal_bins(scores, np.arange(len(scores)), strata)
    np.testing.assert_array_equal(equal_width_strata(scores, strata), list(literal.values()))


@settings(max_examples=60, deadline=None)
@given(SCORES, st.sampled_from([0.1, 0.29, 0.5, 0.9]), st.sampled_from([1, 7, 50, 63, 300]), st.integers(0, 3))
def test_the_score_that_is_cut_by_itself(scores, cutoff, strata, seed):
    """Ties at the threshold are cut by hash; what is left makes the strata, however far below the rest lies."""
    count = len(scores)
    cut = int(cutoff * count)
    dead = keep_smallest(scores, cut, seed=seed) if cut else np.zeros(count, bool)
    bins = literal_bins(scores, np.flatnonzero(~dead), strata)
    budget = max((count - cut) // 2, 1)
    keep = coverage_centric(scores, scores, budget, cutoff=cutoff, bins=strata, seed=seed)
    kept = [bins[int(row)] for row in np.flatnonzero(keep)]
    assert [kept.count(number) for number in range(strata)] == literal_budgets(bins, budget, strata)
    np.testing.assert_array_equal(
        keep, coverage_centric(scores, scores.copy(), budget, cutoff=cutoff, bins=strata, seed=seed)
    )
    codes = equal_width_strata(scores, strata, dead)
    assert [bins.get(row, strata) for row in range(count)] == codes.tolist()


def test_negative_and_zero_scores_keep_the_budget():
    """The published code selects nothing of zeros, and loses the highest of negative scores."""
    aum = np.arange(20_000, dtype=np.float32)
    assert coverage_centric(np.zeros(20_000, np.float32), aum, 10_000, cutoff=0.0, seed=0).sum() == 10_000
    negative = np.float32(-1) - np.random.default_rng(0).random(20_000, np.float32)
    keep = coverage_centric(negative, aum, 20_000, cutoff=0.0, seed=0)
    assert keep[negative.argmax()]
    assert keep.all()


def test_the_cut_follows_aum_whatever_is_stratified():
    scores = np.random.default_rng(0).random(1000, np.float32)
    aum = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    keep = coverage_centric(scores, aum, 700, cutoff=0.3, seed=0)
    np.testing.assert_array_equal(keep, aum >= np.sort(aum)[300])


def test_constant_scores_are_a_random_draw():
    scores, aum = np.ones(200, np.float32), np.ones(200, np.float32)
    draws = [coverage_centric(scores, aum, 50, cutoff=0.1, seed=seed) for seed in range(100)]
    assert (np.abs(np.sum(draws, axis=0) - 25) < 6 * np.sqrt(100 * 0.25 * 0.75)).all()


@pytest.mark.parametrize(("cutoff", "text"), [(0.31, "above 69"), (1.0, "within \\[0, 1\\)"), (-0.1, "within")])
def test_impossible_settings_are_refused(cutoff, text):
    scores = np.arange(100, dtype=np.float32)
    with pytest.raises(ValueError, match=text):
        coverage_centric(scores, scores, 70, cutoff=cutoff, seed=0)


def test_no_strata_are_refused():
    scores = np.arange(4, dtype=np.float32)
    with pytest.raises(ValueError, match="at least 1"):
        coverage_centric(scores, scores, 2, cutoff=0.0, bins=0, seed=0)
