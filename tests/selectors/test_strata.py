"""Draws from strata against a sort of the same keys."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import secateur.selectors.draws.strata as strata_module
from secateur.selectors.draws.strata import (
    Order,
    codes_of,
    draw_from_strata,
    first_of_each,
    look_up,
    short_hash,
    sizes_of,
)


def smallest_hashes(strata, quotas, ids, seed):
    keep = np.zeros(len(strata), dtype=bool)
    order = np.lexsort((ids, short_hash(ids, seed)))
    for stratum, quota in enumerate(quotas):
        keep[order[strata[order] == stratum][:quota]] = True
    return keep


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([np.uint8, np.uint16, np.int64]), st.data())
def test_small_draws_are_the_smallest_hashes(kind, data):
    strata = np.array(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=60)), dtype=kind)
    quotas = np.array([data.draw(st.integers(0, int((strata == s).sum()))) for s in range(5)])
    ids = np.random.default_rng(0).permutation(1000)[: len(strata)]
    keep = draw_from_strata(strata, 5, lambda _: quotas, seed=3, ids=ids)
    np.testing.assert_array_equal(keep, smallest_hashes(strata, quotas, ids, 3))


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.999, 1.0])
@pytest.mark.parametrize("count", [4, 3_000, 10**6])
def test_large_draws_are_the_smallest_hashes(share, count):
    strata = (count // 4 * np.random.default_rng(1).choice(4, 300_000, p=[0.9, 0.09, 0.01, 0])).astype(np.int64)
    strata = strata.astype(np.uint8) if count == 4 else strata
    ids = np.arange(len(strata)) * 2**33 + 11
    keep = draw_from_strata(strata, count, lambda sizes: (share * sizes).astype(np.int64), seed=0, ids=ids)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        own = smallest_hashes(np.zeros(len(rows)), [int(share * len(rows))], ids[rows], 0)
        np.testing.assert_array_equal(keep[rows], own)


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_hashes_far_from_uniform_do_not_change_the_draw(kind):
    """Ids picked for low hashes in one stratum and high ones in another: quotas end far from where sizes say."""
    ids = np.argsort(short_hash(np.arange(200_000), 5), kind="stable")
    ids = np.concatenate((ids[:9_000], ids[-9_000:], ids[50_000:59_000]))
    strata = np.repeat([0, 1, 2], 9_000).astype(kind)
    quotas = np.array([4_000, 5_000, 10])
    keep = draw_from_strata(strata, 3, lambda _: quotas, seed=5, ids=ids)
    np.testing.assert_array_equal(keep, smallest_hashes(strata, quotas, ids, 5))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 256), st.integers(0, 300), st.integers(0, 1), st.integers(1, 2))
def test_table_entries_two_at_a_time_are_the_single_ones(count, length, start, step):
    rng = np.random.default_rng(length)
    strata = rng.integers(0, count, length + start).astype(np.uint8)[start::step]
    table = rng.integers(0, 256, count).astype(np.uint8)
    np.testing.assert_array_equal(look_up(table, strata), table[strata])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([np.uint8, np.uint16, np.int64]), st.integers(1, 256), st.integers(1, 300), st.integers(0, 8))
def test_cells_count_samples_by_stratum_and_first_bits(kind, count, length, bits):
    rng = np.random.default_rng(length)
    strata, ids = rng.integers(0, count, length).astype(kind), rng.integers(-(2**62), 2**62, length)
    cells = Order(count, length, 3, ids, bits=bits).cells(strata)
    expected = np.zeros((count, cells.shape[1]), np.int64)
    np.add.at(expected, (strata, short_hash(ids, 3) * cells.shape[1] >> 32), 1)
    np.testing.assert_array_equal(cells, expected)
    np.testing.assert_array_equal(sizes_of(strata, count), expected.sum(axis=1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 8), st.sampled_from([None, 0, 5, -3, -100, 2**62]))
def test_places_of_neighbours_are_those_of_their_ids(start, length, bits, first):
    """Whether hashes are made eight at a time or one by one."""
    ids = np.arange(100) + (first or 0)
    order = Order(3, 100, 7, None if first is None else ids, bits=bits)
    rows = slice(start, start + length)
    np.testing.assert_array_equal(order.places(rows), order.places_of(ids[rows]))
    np.testing.assert_array_equal(order.places(rows), short_hash(ids, 7)[rows] >> (32 - bits))
    shuffled = np.random.default_rng(length).permutation(ids)
    np.testing.assert_array_equal(Order(3, 100, 7, shuffled, bits=bits).places(rows), order.places_of(shuffled[rows]))


def test_moved_samples_are_counted_where_they_are():
    strata = np.random.default_rng(0).integers(0, 4, 1000).astype(np.uint8)
    order = Order(5, 1000, 1)
    cells = order.cells(strata)
    order.move(np.arange(0, 1000, 3), strata, 4, cells)
    assert (strata[::3] == 4).all()
    np.testing.assert_array_equal(cells, order.cells(strata))


def test_equal_hashes_are_drawn_by_id(monkeypatch):
    """Which of them stay depends on no order."""
    monkeypatch.setattr(strata_module, "short_hash", lambda ids, seed: np.zeros(len(ids), np.int64))
    ids = np.random.default_rng(0).permutation(20)
    chosen = first_of_each(np.zeros(20, np.uint8), ids, np.array([3]), seed=1)
    np.testing.assert_array_equal(np.sort(ids[chosen]), [0, 1, 2])


def test_too_large_quota_names_the_stratum():
    with pytest.raises(ValueError, match="stratum 1 has 2 samples, but 3 are asked"):
        draw_from_strata(np.array([0, 1, 1]), 2, lambda _: np.array([1, 3]), seed=0)


def test_hashes_are_uniform_and_seeds_unrelated():
    """Chi-square over the first byte, and over the joint first bits of two seeds: p above 1e-6 each."""
    ids = np.arange(200_000)
    one, other = (short_hash(ids, seed) for seed in (0, 1))
    assert (one >= 0).all()
    assert (one < 1 << 32).all()
    assert stats.chisquare(np.bincount(one >> 16 & 255, minlength=256)).pvalue > 1e-6
    assert stats.chisquare(np.bincount(one >> 24, minlength=256)).pvalue > 1e-6
    assert stats.chisquare(np.bincount((one >> 28) * 16 + (other >> 28), minlength=256)).pvalue > 1e-6
    assert stats.chisquare(np.bincount((one[1:] >> 28) * 16 + (one[:-1] >> 28), minlength=256)).pvalue > 1e-6


@given(st.lists(st.sampled_from([-5, -4, 0, 3, 70_000]), min_size=1, max_size=20))
def test_codes_number_the_labels_that_occur(labels):
    codes, occurring = codes_of(np.array(labels))
    np.testing.assert_array_equal(occurring[codes], labels)
    np.testing.assert_array_equal(occurring, sorted(set(labels)))
