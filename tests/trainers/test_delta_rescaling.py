"""Rescaling of kept deltas: its formulas against brute force and simulation, its search against what it must try."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.scorers.networks.output_change import output_change
from secateur.selectors.masks.delta_masks import draw_each
from secateur.trainers.pruning.delta_rescaling import mean_without_farthest, q_by_bound, q_by_moments, q_by_search


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


def bound_by_brute_force(total, square, keep, eta):
    """The minimiser of one output's bound on the whole grid, p and Φ as the paper writes them."""
    p = 1 - keep
    phi = 0.5 if p == 0.5 else (1 - 2 * p) / math.log((1 - p) / p)
    grid = [keep + 0.001 * place for place in range(int((0.999 - keep) / 0.001 + 1e-9) + 1)]
    values = [
        abs(eta * (1 - (1 - p) / q) * total + eta**2 * phi * square / (4 * q**2) + math.log(2 / 0.05)) for q in grid
    ]
    return grid[int(np.argmin(values))]


@pytest.mark.parametrize("keep", [0.01, 0.1, 0.5, 0.9])
def test_one_output_takes_the_least_of_its_bound(keep):
    rng = np.random.default_rng(0)
    for _ in range(20):
        total, square = float(rng.normal(0, 20)), float(rng.gamma(1, 3))
        expected = bound_by_brute_force(total, square, keep, 0.5)
        found = q_by_bound(np.array([total]), np.array([square]), keep, eta=0.5)
        assert found.q == pytest.approx(expected)
    assert q_by_bound(np.array([100.0]), np.array([1e-3]), keep, eta=0.5).at_bound


def test_a_layer_averages_its_outputs_and_stops_when_most_have_passed():
    """Negative sums have a minimum within the grid: four such outputs end the scan before the fifth finds its own."""
    early, late = (-40.0, 1.0), (-8.0, 0.1)
    sums, squares = (np.array([*[part] * 4, other]) for part, other in zip(early, late, strict=True))
    alone = q_by_bound(np.array(early[:1]), np.array(early[1:]), 0.1, eta=0.5).q
    found = q_by_bound(sums, squares, 0.1, eta=0.5).q
    assert alone < bound_by_brute_force(*late, 0.1, 0.5)
    assert found == pytest.approx((4 * alone + alone + 0.001) / 5)


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
    with pytest.raises(ValueError, match="eta must be"):
        q_by_bound(np.ones(1), np.ones(1), 0.5, eta=0.0)


def test_layers_whose_output_stays_are_left_unscaled():
    assert q_by_moments(np.zeros(3), np.zeros(3), 0.1).q == 1.0
    assert q_by_moments(np.zeros(3), np.ones(3), 0.1).at_bound


def test_one_odd_draw_does_not_count():
    assert mean_without_farthest([1.0, 1.0, 1.0, 9.0]) == 1
    assert mean_without_farthest([1.0, 3.0]) == 2
