"""A keyed permutation is a bijection, looks random, and costs nothing at a billion."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from secateur.selectors.draws.keyed_permutation import KeyedPermutation, derive_seed


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60_000), st.integers(0, 2**63 - 1))
def test_it_is_a_bijection(count: int, seed: int) -> None:
    order = KeyedPermutation(count, seed)(np.arange(count))
    assert order.dtype == np.int64
    assert (np.sort(order) == np.arange(count)).all()


@pytest.mark.parametrize("count", [4095, 4096, 4097, 65_536, 65_537, 90_000, 2**17 - 1, 10**6])
def test_bijection_around_squares_and_powers(count: int) -> None:
    assert (np.bincount(KeyedPermutation(count, 7)(np.arange(count)), minlength=count) == 1).all()


@pytest.mark.parametrize("count", [100, 100_000])
def test_any_position_alone_is_what_it_is_among_others(count: int) -> None:
    order = KeyedPermutation(count, 3)
    whole = order(np.arange(count))
    picked = np.random.default_rng(0).integers(count, size=50)
    assert [int(order(np.array([place]))[0]) for place in picked] == whole[picked].tolist()


def test_scalar_reference_of_the_network() -> None:
    """The vectorised rounds against the same network in plain integers."""
    order = KeyedPermutation(12_345, 9)
    a, b = order.left, order.right
    assert a * b >= 12_345 > a * b - a

    def once(x: int) -> int:
        left, right = divmod(x, b)
        for turn, table in enumerate(order.tables):
            if turn % 2 == 0:
                left = (left + int(table[right])) % a
            else:
                right = (right + int(table[left])) % b
        return left * b + right

    for place in range(0, 12_345, 7):
        value = once(place)
        while value >= 12_345:
            value = once(value)
        assert value == int(order(np.array([place]))[0])


def test_a_billion_samples_cost_kilobytes() -> None:
    places = np.arange(10**9 - 5000, 10**9)
    tracemalloc.start()
    order = KeyedPermutation(10**9, 1)
    ids = order(places)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(ids)) == len(places)
    assert (ids >= 0).all()
    assert (ids < 10**9).all()
    assert peak < 6 * math.isqrt(10**9) * 8 * 1.5 + 10 * places.nbytes


def test_beyond_32_bits() -> None:
    ids = KeyedPermutation(10**13, 1)(np.array([0, 2**24 + 1, 10**13 - 1]))
    assert len(set(ids.tolist())) == 3
    assert ids.max() > 2**32


@pytest.mark.parametrize("count", range(3, 9))
def test_small_orders_are_uniform(count: int) -> None:
    """All orders of up to 5 ids; of more, all orders of the first two and of the last two. Error rate 1e-4."""
    draws = 1200 if count == 5 else 600
    orders = np.array([KeyedPermutation(count, seed)(np.arange(count)) for seed in range(draws)])
    for part in [slice(None)] if count <= 5 else [slice(2), slice(count - 2, None)]:
        possible = math.perm(count, orders[:, part].shape[1])
        seen = np.unique(orders[:, part], axis=0, return_counts=True)[1]
        unseen = possible - len(seen)
        statistic = (((seen - draws / possible) ** 2).sum() + unseen * (draws / possible) ** 2) * possible / draws
        assert statistic < stats.chi2.ppf(1 - 1e-4, possible - 1)


def test_an_order_is_stored_up_to_4096_and_looked_up_beyond() -> None:
    """At the change the keyed tables have 64 entries: fewer would repeat visibly."""
    kinds = [KeyedPermutation(count, 0).stored is None for count in (1, 8, 4096, 4097)]
    assert kinds == [False, False, False, True]


def test_large_orders_have_no_memory_of_position() -> None:
    """Joint cells of (place, value), of successive values, and of value parity: error rate below 1e-4 each.

    64 x 64 cells make 63² degrees of freedom, and the statistic is normal about it; the bound is 4 deviations.
    """
    count = 2**20 - 3
    values = KeyedPermutation(count, 5)(np.arange(count))
    places = np.arange(count)

    def statistic(first: np.ndarray, second: np.ndarray) -> float:
        cells = np.bincount(first * 64 // count * 64 + second * 64 // count, minlength=4096)
        expected = len(first) / 4096
        return (float(((cells - expected) ** 2 / expected).sum()) - 63**2) / math.sqrt(2 * 63**2)

    assert abs(statistic(places, values)) < 4
    assert abs(statistic(values[:-1], values[1:])) < 4
    assert abs((values[:-1] - values[1:]).clip(-1, 1).sum()) < 4 * math.sqrt(count / 3)
    other = KeyedPermutation(count, 6)(places)
    assert abs(statistic(values, other)) < 4
    assert (values == other).sum() < 15  # Poisson of mean 1


def test_a_prefix_is_a_uniform_draw() -> None:
    """How often each of 10,000 is among the first 1,000, over 300 seeds: chi-square within 4 deviations."""
    hits = np.zeros(10_000)
    for seed in range(300):
        hits[KeyedPermutation(10_000, seed)(np.arange(1000))] += 1
    spread = ((hits - 30) ** 2).sum() / (300 * 0.1 * 0.9)
    assert abs(spread - 10_000) < 4 * math.sqrt(20_000)


def test_derived_seeds_differ() -> None:
    seeds = {derive_seed(s, e, p) for s in range(20) for e in range(20) for p in range(5)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_bad_input() -> None:
    with pytest.raises(IndexError, match="outside 0 … 9"):
        KeyedPermutation(10, 0)(np.array([10]))
    with pytest.raises(IndexError, match="outside"):
        KeyedPermutation(10**6, 0)(np.array([-1]))
    with pytest.raises(ValueError, match="-1"):
        KeyedPermutation(-1, 0)
