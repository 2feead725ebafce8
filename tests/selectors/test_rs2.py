"""RS2: every pass presents everything once, in pieces of the size that was asked."""

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.samplers.contract import Shard
from secateur.selectors.samplers.rs2 import Rs2, StratifiedOrder


def stream(sampler: Rs2, epochs: int) -> list[list[int]]:
    """Ids of the first epochs."""
    ids = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        ids.append(list(sampler))
    return ids


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.data(), st.booleans())
def test_each_pass_presents_every_sample_exactly_once(samples: int, data: st.DataObject, stratified: bool) -> None:
    """Published RS2 gives a short last piece that takes the head of the same order again."""
    size = data.draw(st.integers(1, samples))
    labels = np.array(data.draw(st.lists(st.integers(0, 4), min_size=samples, max_size=samples)), dtype=np.int64)
    epochs = stream(Rs2(samples, labels, keep=size, stratified=stratified), ceil(3 * samples / size))
    assert {len(ids) for ids in epochs} == {size}
    row = [sample for ids in epochs for sample in ids]
    seen = Counter(row)
    assert all(3 <= seen[sample] <= 4 for sample in range(samples))
    if not stratified:  # stratified epochs are shuffled, so passes do not begin where a slice of the row does
        for start in range(0, 3 * samples, samples):
            assert sorted(row[start : start + samples]) == list(range(samples))


def test_the_published_case_of_unequal_pieces() -> None:
    """50,000 at 0.3: published sizes are 15000, 15000, 15000, 14999."""
    sampler = Rs2(50_000, keep=0.3)
    epochs = stream(sampler, 4)
    assert [len(ids) for ids in epochs] == [15_000] * 4
    assert len(set(epochs[0]) | set(epochs[1]) | set(epochs[2])) == 45_000
    first_pass = [sample for ids in epochs for sample in ids][:50_000]
    assert len(set(first_pass)) == 50_000


@pytest.mark.parametrize("stratified", [False, True])
def test_drop_leaves_the_rest_of_a_pass_out_and_repeats_nothing(stratified: bool) -> None:
    epochs = stream(Rs2(100, np.arange(100) % 3, keep=30, remainder="drop", stratified=stratified), 6)
    for first in (0, 3):
        assert len({sample for ids in epochs[first : first + 3] for sample in ids}) == 90


@pytest.mark.parametrize("stratified", [False, True])
def test_with_replacement_epochs_are_independent_draws(stratified: bool) -> None:
    """Overlap of two epochs of 300 of 1,000: hypergeometric of mean 90 and deviation 7.9; 40 pairs within 5 of them."""
    labels = np.arange(1000) % 10
    epochs = stream(Rs2(1000, labels, keep=0.3, replacement=True, stratified=stratified), 41)
    assert all(len(set(ids)) == 300 for ids in epochs)
    overlaps = [len(set(a) & set(b)) for a, b in pairwise(epochs)]
    assert all(abs(overlap - 90) < 40 for overlap in overlaps)
    assert abs(np.mean(overlaps) - 90) < 5 * 7.9 / 40**0.5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=7), st.data())
def test_strata_get_their_exact_share_rounded_down_or_up(sizes: list[int], data: st.DataObject) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    samples = len(labels)
    size = data.draw(st.integers(1, samples))
    order = StratifiedOrder(labels, size, 5)(np.arange(samples))
    assert sorted(order.tolist()) == list(range(samples))
    for piece in range(samples // size):
        given = np.bincount(labels[order[piece * size : (piece + 1) * size]], minlength=len(sizes))
        for have, whole in zip(given.tolist(), sizes, strict=True):
            share = Fraction(size * whole, samples)
            assert floor(share) <= have <= ceil(share)
    for replacement in (False, True):
        sampler = Rs2(samples, labels, keep=size, stratified=True, replacement=replacement)
        for ids in stream(sampler, 4):
            given = np.bincount(labels[ids], minlength=len(sizes))
            slack = 0 if replacement else 1
            for have, whole in zip(given.tolist(), sizes, strict=True):
                share = Fraction(size * whole, samples)
                assert floor(share) - slack <= have <= ceil(share) + slack


def test_balanced_classes_are_exact() -> None:
    labels = np.random.default_rng(0).permutation(np.arange(1000) % 10)
    for ids in stream(Rs2(1000, labels, keep=0.1, stratified=True), 12):
        assert (np.bincount(labels[ids]) == 10).all()


def test_classes_too_small_for_an_epoch_have_their_turn() -> None:
    """Largest remainder gives a class of one nothing, in every epoch alike."""
    labels = np.array([0] * 97 + [1, 2, 3])
    for replacement in (False, True):
        seen = Counter(
            sample
            for ids in stream(Rs2(100, labels, keep=0.1, stratified=True, replacement=replacement), 200)
            for sample in ids
        )
        assert min(seen.values()) >= 5
        assert set(seen) == set(range(100))


def test_stratified_batches_are_mixed() -> None:
    labels = np.repeat(np.arange(4), 250)
    (ids,) = stream(Rs2(1000, labels, keep=400, stratified=True), 1)
    changes = np.count_nonzero(np.diff(labels[ids]))
    assert changes > 250  # 299 expected, 3 were they in turn


def test_every_sample_is_equally_likely_in_an_epoch() -> None:
    """1,000 first epochs of 30 of 100: each sample 300 times, deviation 14.5; error rate below 1e-5 for all hundred."""
    hits = np.zeros(100)
    for seed in range(1000):
        hits[Rs2(100, keep=30, seed=seed).epoch_ids()] += 1
    assert (abs(hits - 300) < 5.5 * 14.5).all()


def test_a_billion_samples_on_eight_ranks_stream() -> None:
    sampler = Rs2(10**9, shard=Shard(rank=5, world=8), keep=0.25)
    sampler.set_epoch(9)
    iterator = iter(sampler)
    assert len({next(iterator) for _ in range(5000)}) == 5000
    assert len(sampler) == 10**9 // 4 // 8
    last = sampler.ids_at(np.array([len(sampler) - 1]))
    assert 0 <= last[0] < 10**9


def test_ids_beyond_2_to_the_24_are_whole() -> None:
    sampler = Rs2(2**24 + 100, keep=1.0)
    ids = sampler.ids_at(np.arange(2**20))
    assert ids.dtype == np.int64
    assert ((ids > 2**23) & (ids % 2 == 1)).any()
    assert len(np.unique(ids)) == 2**20


def test_labels_must_fit() -> None:
    with pytest.raises(ValueError, match="strata of 3 samples, for 5"):
        Rs2(5, np.arange(3), keep=0.5, stratified=True)
