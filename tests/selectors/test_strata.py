"""Draws from strata against a sort of the same keys."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.contract import random_keys
from secateur.selectors.strata import codes_of, draw_from_strata


def smallest_keys(strata, quotas, ids, seed):
    keep = np.zeros(len(strata), dtype=bool)
    keys = random_keys(ids, seed)
    for stratum, quota in enumerate(quotas):
        rows = np.flatnonzero(strata == stratum)
        keep[rows[np.argsort(keys[rows])[:quota]]] = True
    return keep


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_small_draws_are_the_smallest_keys(data):
    strata = np.array(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=60)), dtype=np.uint8)
    quotas = np.array([data.draw(st.integers(0, int((strata == s).sum()))) for s in range(5)])
    ids = np.random.default_rng(0).permutation(1000)[: len(strata)]
    keep = draw_from_strata(strata, quotas, seed=3, ids=ids)
    np.testing.assert_array_equal(keep, smallest_keys(strata, quotas, ids, 3))


@pytest.mark.parametrize("share", [0.001, 0.3, 0.999, 1.0])
def test_large_draws_are_the_smallest_keys(share):
    strata = np.random.default_rng(1).choice(4, 300_000, p=[0.9, 0.09, 0.01, 0]).astype(np.uint8)
    quotas = (share * np.bincount(strata, minlength=4)).astype(np.int64)
    ids = np.arange(len(strata)) * 7 + 11
    keep = draw_from_strata(strata, quotas, seed=0, ids=ids)
    np.testing.assert_array_equal(keep, smallest_keys(strata, quotas, ids, 0))


def test_bounds_that_miss_are_widened():
    """Ids whose keys all lie on one side of the bounds still give the exact draw."""
    ids = np.arange(400_000)
    ids = ids[random_keys(ids, 5) < np.uint64(2**61)]
    strata = np.zeros(len(ids), dtype=np.uint8)
    keep = draw_from_strata(strata, np.array([len(ids) // 2]), seed=5, ids=ids)
    np.testing.assert_array_equal(keep, smallest_keys(strata, [len(ids) // 2], ids, 5))


def test_too_large_quota_names_the_stratum():
    with pytest.raises(ValueError, match="stratum 1 has 2 samples, but 3 are asked"):
        draw_from_strata(np.array([0, 1, 1]), np.array([1, 3]), seed=0)


@given(st.lists(st.sampled_from([-5, -4, 0, 3, 70_000]), min_size=1, max_size=20))
def test_codes_number_the_labels_that_occur(labels):
    codes, occurring = codes_of(np.array(labels))
    np.testing.assert_array_equal(occurring[codes], labels)
    np.testing.assert_array_equal(occurring, sorted(set(labels)))
