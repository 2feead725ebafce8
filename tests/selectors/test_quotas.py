"""Quotas against the walks that the papers write down."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.draws.quotas import balanced, proportional, water_filling

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)


@st.composite
def demands(draw):
    sizes = draw(SIZES)
    return np.array(sizes), draw(st.integers(0, sum(sizes)))


def walked(sizes, budget):
    """Zheng et al., Algorithm 1: bins by ascending population, each its part of what is left."""
    quotas, rest = np.zeros(len(sizes), dtype=np.int64), budget
    for done, bin_ in enumerate(sorted(range(len(sizes)), key=lambda b: sizes[b])):
        quotas[bin_] = min(int(sizes[bin_]), rest // (len(sizes) - done))
        rest -= quotas[bin_]
    return quotas


@settings(max_examples=300, deadline=None)
@given(demands())
def test_water_filling_is_the_papers_walk(demand):
    sizes, budget = demand
    np.testing.assert_array_equal(water_filling(sizes, budget), walked(sizes, budget))


@settings(max_examples=200, deadline=None)
@given(demands())
def test_proportional_is_hamiltons_method(demand):
    sizes, budget = demand
    shares = [Fraction(int(size) * budget, int(sizes.sum())) for size in sizes]
    quotas = [int(share) for share in shares]
    by_remainder = sorted(range(len(sizes)), key=lambda g: (shares[g] - int(shares[g]), sizes[g], g), reverse=True)
    for group in by_remainder[: budget - sum(quotas)]:
        quotas[group] += 1
    np.testing.assert_array_equal(proportional(sizes, budget), quotas)


@settings(max_examples=200, deadline=None)
@given(demands(), st.integers(0, 6), st.data())
def test_quotas_keep_floors_and_room_and_sum_to_the_budget(demand, floor, data):
    sizes, budget = demand
    room = np.array([data.draw(st.integers(0, int(size))) for size in sizes])
    for share_out in (proportional, balanced):
        if not np.minimum(floor, room).sum() <= budget <= room.sum():
            with pytest.raises(ValueError, match="cannot be shared out"):
                share_out(sizes, budget, floor=floor, room=room)
            continue
        quotas = share_out(sizes, budget, floor=floor, room=room)
        assert quotas.sum() == budget
        assert (quotas >= np.minimum(floor, room)).all()
        assert (quotas <= room).all()
        # No sample can move from a group above its bound to one below it and make the rates more equal.
        rate = quotas / np.maximum(sizes, 1) if share_out is proportional else quotas.astype(float)
        step = 1 / np.maximum(sizes, 1) if share_out is proportional else np.ones(len(sizes))
        givers, takers = quotas > np.minimum(floor, room), quotas < room
        for giver in np.flatnonzero(givers):
            for taker in np.flatnonzero(takers):
                assert rate[giver] - step[giver] <= rate[taker] + step[taker] + 1e-12


def test_unbalanced_classes_keep_their_shares():
    """The published CCS turns 9000/900/100 at one half into 50/50/50."""
    sizes = np.array([9000, 900, 100])
    np.testing.assert_array_equal(proportional(sizes, 5000), [4500, 450, 50])
    np.testing.assert_array_equal(balanced(sizes, 5000), [4000, 900, 100])
    np.testing.assert_array_equal(proportional(sizes, 1000, floor=80), [836, 84, 80])


def test_counts_of_billions_do_not_overflow():
    sizes = np.array([2_000_000_000, 1_000_000_000, 7])
    assert proportional(sizes, 1_500_000_003).sum() == 1_500_000_003
