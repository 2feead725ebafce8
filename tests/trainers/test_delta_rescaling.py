"""Rescaling of kept deltas: formulas against brute force and simulation, and the search against its required values."""

import math
from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.scorers.networks.output_change import output_change
from secateur.selectors.masks.delta_masks import draw_each
from secateur.trainers.pruning.delta_rescaling import (
    mean_without_farthest,
    q_by_bound,
    q_by_least_bound,
    q_by_moments,
    q_by_search,
)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.floats(0.01, 0.99))
def test_no_q_beats_the_one_by_moments(seed, keep):
    rng = np.random.default_rng(seed)
    sums, squares = output_change(rng.normal(0.3, 1, (5, 8)).astype(np.float32), rng.normal(0.5, 1, 8))

    def loss(q):
        return sum(
            (1 - keep / q) ** 2 * s**2 + keep * (1 - keep) / q**2 * c
            for s, c in zip(sums.tolist(), squares.tolist(), strict=True)
        )

    found = q_by_moments(sums, squares, keep).q
    assert found >= keep
    assert loss(found) <= min(loss(q) for q in np.linspace(keep, max(2.0, 2 * found), 500)) + 1e-9


def test_the_loss_that_it_lowers_is_that_of_real_draws():
    rng = np.random.default_rng(1)
    delta, means, keep, q = rng.normal(0.2, 1, (3, 40)).astype(np.float32), rng.normal(0.5, 1, 40), 0.2, 0.35
    sums, squares = output_change(delta, means)
    contributions = delta * means
    masks = np.stack([draw_each(0, delta.size, keep, seed).reshape(delta.shape) for seed in range(4_000)])
    lost = sums - (contributions * masks / q).sum(axis=2)
    expected = (1 - keep / q) ** 2 * sums**2 + keep * (1 - keep) / q**2 * squares
    np.testing.assert_allclose(np.square(lost).mean(axis=0), expected, rtol=0.1)


def bounds(sums, squares, keep, eta, q):
    """The paper's bounds, in the arithmetic of the arguments: float64 arrays or torch's float16."""
    p = 1 - keep
    phi = (1 - 2 * p) / math.log((1 - p) / p)
    return abs(eta * ((1 - (1 - p) / q) * sums) + (eta**2 * phi * squares / (4 * q**2) + math.log(2 / 0.05)))


def scanned_in_half(contributions, keep, eta):
    """The authors' rule for one layer, output by output in torch's float16, from contributions `[outputs, inputs]`."""
    half = torch.tensor(contributions).half()
    sums, squares = half.sum(dim=1), (half**2).sum(dim=1)
    steps = [round(keep * 1000) / 1000 + step / 1000 for step in range(999 - round(keep * 1000))]
    values = torch.stack([bounds(sums, squares, keep, eta, q) for q in steps], dim=1).tolist()
    # After the first value that is not better than all earlier ones, an output is past its minimum.
    last = []
    for row in values:
        before = [10_000.0, *accumulate(row, min, initial=10_000.0)][1:]
        worse = (place for place, value in enumerate(row) if value >= before[place])
        last.append(next(worse, len(steps) - 1))
    end = sorted(last)[math.ceil(0.8 * len(last)) - 1]
    chosen = []
    for row in values:
        seen = row[: end + 1]
        least = min(seen)
        place = max(place for place, value in enumerate(seen) if value == least)
        chosen.append(steps[place] if least <= 10_000 else keep)
    return float(np.mean(chosen)), (sums.double().numpy(), squares.double().numpy())


@pytest.mark.parametrize("keep", [0.01, 0.05, 0.3, 0.9])
@pytest.mark.parametrize("eta", [0.3, 1.0, 10.0])
def test_a_layer_by_the_bound_is_scanned_in_float16_until_four_fifths_are_no_better(keep, eta):
    rng = np.random.default_rng(0)
    for outputs, inputs, scale in ((1, 8, 0.5), (5, 30, 0.1), (40, 60, 1.0), (64, 200, 3.0), (30, 100, 10.0)):
        contributions = rng.normal(rng.normal(0, 0.3), 1, (outputs, inputs)) * scale
        expected, (sums, squares) = scanned_in_half(contributions, keep, eta)
        assert q_by_bound(sums, squares, keep, eta=eta).q == pytest.approx(expected, abs=1e-9)


def test_equal_values_in_float16_end_the_scan_where_the_exact_minimum_is_far():
    """Keep 0.01, eta 0.3: in float16 the bound does not change from 0.169 to 0.17, in float64 it falls until 1."""
    sums, squares = np.zeros(1), np.full(1, 2.0)
    exact = [float(bounds(sums, squares, 0.01, 0.3, q)[0]) for q in (0.168, 0.169, 0.17, 0.5, 0.999)]
    assert exact == sorted(exact, reverse=True)
    rounded = [float(bounds(*map(torch.HalfTensor, ([0.0], [2.0])), 0.01, 0.3, q)[0]) for q in (0.168, 0.169, 0.17)]
    assert rounded[0] > rounded[1] == rounded[2]
    assert q_by_bound(sums, squares, 0.01, eta=0.3).q == pytest.approx(0.17)
    assert q_by_least_bound(sums, squares, 0.01, eta=0.3).q == 1.0
    assert q_by_least_bound(sums, squares, 0.01, eta=0.3).at_bound


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from([0.01, 0.1, 0.5, 0.9, 1.0]), st.sampled_from([0.3, 3.0, 30.0]))
def test_no_q_has_a_lower_bound_than_the_exact_one(seed, keep, eta):
    rng = np.random.default_rng(seed)
    for total, square in (*zip(rng.normal(0, 20, 5), rng.gamma(1, 3, 5), strict=True), (0.0, 0.0), (-5.0, 0.0)):
        found = q_by_least_bound(np.array([total]), np.array([square]), keep, eta=eta).q
        assert keep - 1e-12 <= found <= 1
        if keep in (0.5, 1.0):  # Limits of the paper's Φ: 1/2, and 0.
            limit = {0.5: 0.5, 1.0: 0.0}[keep]
            grid = np.append(np.linspace(keep, 1, 2001), found)
            values = abs(eta * (1 - keep / grid) * total + eta**2 * limit * square / (4 * grid**2) + math.log(40))
        else:
            values = bounds(total, square, keep, eta, np.append(np.linspace(keep, 1, 2001), found))
        assert values[-1] <= values.min() + 1e-7 * (1 + abs(total) + square)
        least = np.flatnonzero(values[:-1] <= values[-1])
        assert not len(least) or found <= np.linspace(keep, 1, 2001)[least[0]] + 1e-6


def test_a_layer_of_exact_minima_is_their_mean():
    sums, squares = np.array([-40.0, 3.0, -8.0]), np.array([1.0, 2.0, 0.1])
    each = [q_by_least_bound(sums[i : i + 1], squares[i : i + 1], 0.1, eta=0.5).q for i in range(3)]
    assert q_by_least_bound(sums, squares, 0.1, eta=0.5).q == pytest.approx(np.mean(each))
    assert len({round(q, 3) for q in each}) == 3


def test_sums_beyond_float16_leave_their_outputs_at_the_kept_share():
    found = q_by_bound(np.full(4, 1e6), np.full(4, 1e6), 0.1, eta=1.0)
    assert (found.q, found.at_bound) == (0.1, True)


def test_the_search_finds_a_peak_within_a_tenth_of_a_step_and_stops_early():
    found = q_by_search(lambda q: -((q - 0.0987) ** 2), 0.02)
    assert abs(found.q - 0.0987) <= 0.00025 + 1e-9
    assert max(q for q, _ in found.tried) == pytest.approx(0.1 + 4 * 0.005)
    assert found.tried[0][0] == 0.02
    assert not found.at_bound
    assert q_by_search(lambda q: -q, 0.25).q == 0.25
    assert q_by_search(lambda q: -q, 0.25).at_bound
    assert q_by_search(lambda q: 0.0, 0.1).q == 0.1
    rising = q_by_search(lambda q: q, 0.2)
    assert (rising.q, rising.at_bound) == (pytest.approx(1.0), True)
    assert q_by_search(lambda q: 1.0, 1.0).q == 1.0


def test_of_equal_scores_the_smallest_q_wins_though_a_larger_one_was_tried_before():
    found = q_by_search(lambda q: float(q > 0.2799), 0.2)
    assert found.q == pytest.approx(0.28)
    assert not found.at_bound


def test_every_q_that_was_tried_is_told_once_and_in_order():
    asked = []
    found = q_by_search(lambda q: asked.append(q) or -abs(q - 0.5), 0.4)
    assert asked[:7] == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.41])  # 4 in a row were no better than 0.5
    assert list(found.tried) == [(q, -abs(q - 0.5)) for q in sorted(asked)]
    assert len(set(asked)) == len(asked)


def test_what_cannot_be_searched_is_refused():
    for keep in (0.0, 1.5, -0.1):
        with pytest.raises(ValueError, match=r"within \(0, 1\]"):
            q_by_search(lambda q: q, keep)
    with pytest.raises(ValueError, match=r"q = 0\.5 is NaN"):
        q_by_search(lambda q: math.nan, 0.5)
    for rule in (q_by_bound, q_by_least_bound):
        with pytest.raises(ValueError, match="eta must be"):
            rule(np.ones(1), np.ones(1), 0.5, eta=0.0)


def test_layers_whose_output_stays_are_left_unscaled():
    assert q_by_moments(np.zeros(3), np.zeros(3), 0.1).q == 1.0
    assert q_by_moments(np.zeros(3), np.ones(3), 0.1).at_bound


def test_one_odd_draw_does_not_count():
    assert mean_without_farthest([1.0, 1.0, 1.0, 9.0]) == 1
    assert mean_without_farthest([1.0, 3.0]) == 2
