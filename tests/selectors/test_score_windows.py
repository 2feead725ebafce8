"""Selectors that cut a sorted score, against the sort; each on the side that it documents."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.static.double_end import double_end
from secateur.selectors.static.el2n_offset import el2n_offset
from secateur.selectors.static.quantile_window import quantile_window
from secateur.selectors.static.top import top


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.sampled_from([0.0, 0.1, 0.29, 0.5]), st.data())
def test_cuts_are_slices_of_the_sorted_score(count, fraction, data):
    scores = np.random.default_rng(count).permutation(count).astype(np.float32)
    cut = int(fraction * count)
    budget = data.draw(st.integers(1, count - cut))
    kept = np.flatnonzero(double_end(scores, budget, cutoff=fraction))
    assert set(scores[kept]) == set(range(cut, cut + budget))
    kept = np.flatnonzero(el2n_offset(scores, budget, offset=fraction))
    assert set(scores[kept]) == set(range(count - cut - budget, count - cut))
    assert set(scores[top(scores, budget)]) == set(range(count - budget, count))
    assert set(scores[top(scores, budget, end="low")]) == set(range(budget))


def test_double_end_with_nothing_to_cut_at_the_easy_end():
    """The published slice `[cut : -chop]` is empty when `chop` is 0."""
    aum = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(double_end(aum, 7, cutoff=0.3), aum >= 3)


def test_windows_draw_evenly_between_their_quantiles():
    scores = np.random.default_rng(0).permutation(50).astype(np.float32)
    times = sum(quantile_window(scores, 10, low=0.2, high=0.6, seed=seed).astype(int) for seed in range(200))
    inside = (scores >= 10) & (scores < 30)
    assert (times[~inside] == 0).all()
    assert (np.abs(times[inside] - 100) < 6 * np.sqrt(50)).all()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda s: quantile_window(s, 2, low=0.5, high=0.5, seed=0), "0 <= low < high <= 1"),
        (lambda s: quantile_window(s, 6, low=0.5, seed=0), "above 5"),
        (lambda s: double_end(s, 6, cutoff=0.5), "above 5"),
        (lambda s: el2n_offset(s, 2, offset=1.0), "within \\[0, 1\\)"),
    ],
)
def test_impossible_windows_are_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call(np.arange(10, dtype=np.float32))
