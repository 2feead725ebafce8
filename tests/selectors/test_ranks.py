"""The selection behind every threshold, against a sort; keys against a scalar SplitMix64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.contract import resolve_keep
from secateur.selectors.draws.ranks import keep_smallest, random_keys, rank_of


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400), st.sampled_from([np.float32, np.int64, np.uint64]), st.data())
def test_what_stands_at_a_rank_is_what_a_sort_puts_there(seed, spread, kind, data):
    values = np.random.default_rng(seed).integers(0, spread, 600).astype(kind)
    rank = data.draw(st.integers(0, 599))
    ranked = rank_of(values, rank, drawn=16)
    assert ranked.value == np.sort(values)[rank]
    assert ranked.below == (values < ranked.value).sum()
    np.testing.assert_array_equal(ranked.tied, np.flatnonzero(values == ranked.value))


@pytest.mark.parametrize("budget", [1, 700_000, 2_199_999, 2_200_000])
def test_long_arrays_take_the_sampled_path(budget):
    values = np.random.default_rng(0).normal(size=2_200_000).astype(np.float32).round(4)
    keep = keep_smallest(values, budget, seed=0)
    assert keep.sum() == budget
    assert values[keep].max() == np.sort(values)[budget - 1]
    assert budget == len(values) or values[~keep].min() >= values[keep].max()


def test_ties_are_drawn_evenly():
    times = sum(keep_smallest(np.float32([0, 1, 1, 1, 1, 2]), 3, seed=seed).astype(int) for seed in range(300))
    assert times[0] == 300
    assert times[5] == 0
    assert (np.abs(times[1:5] - 150) < 6 * np.sqrt(300 * 0.25)).all()


def scalar_key(id_, seed):
    def mix(z):
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = ((z ^ (z >> shift)) * factor) % 2**64
        return z ^ (z >> 31)

    return mix((id_ + mix((seed + 0x9E3779B97F4A7C15) % 2**64)) % 2**64)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**63 - 1))
def test_keys_are_splitmix64(id_, seed):
    assert int(random_keys(np.array([id_]), seed)[0]) == scalar_key(id_, seed)


@pytest.mark.parametrize(
    ("keep", "count", "budget"), [(0.5, 5, 3), (0.25, 10, 3), (0.05, 10, 1), (7, 7, 7), (1.0, 9, 9)]
)
def test_keep_resolves_to_a_count(keep, count, budget):
    assert resolve_keep(keep, count) == budget


@pytest.mark.parametrize("keep", [0, 0.0, -1, 1.5, 11, True, float("nan"), 1e-9, 0.0499])
def test_impossible_keeps_are_refused(keep):
    with pytest.raises(ValueError, match="keep"):
        resolve_keep(keep, 10)
