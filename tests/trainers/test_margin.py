"""Budgets not worse than the full data: against simulations with known truth and a published table of powers."""

import math

import numpy as np
import pytest

from secateur.trainers.judging.margin import LEVEL, POWER, check, claims, pooled, power, seeds_for, shown_margin

TIMES = 1000
TWO_ERRORS = 2 * math.sqrt(LEVEL * (1 - LEVEL) / TIMES)


@pytest.mark.parametrize(
    ("seeds", "chances", "eighty"),
    [
        (3, (0.15, 0.23, 0.32, 0.53, 0.71), 2.30),
        (5, (0.24, 0.40, 0.58, 0.86, 0.97), 1.36),
        (8, (0.36, 0.61, 0.82, 0.98, 1.0), 0.98),
        (10, (0.43, 0.71, 0.90, 1.0, 1.0), 0.85),
        (20, (0.70, 0.94, 1.0, 1.0, 1.0), 0.58),
    ],
)
def test_power_is_that_of_simulated_t_tests(seeds: int, chances: tuple[float, ...], eighty: float) -> None:
    """The numbers come from another simulation, at one-sided 5%."""
    for ratio, chance in zip((0.5, 0.75, 1, 1.5, 2), chances, strict=True):
        assert power(seeds, 0.3, 0.3 * ratio, LEVEL) == pytest.approx(chance, abs=0.0075)
    assert shown_margin(seeds, 2.0, LEVEL) == pytest.approx(2 * eighty, abs=0.01)
    assert power(seeds, 2.0, shown_margin(seeds, 2.0, LEVEL), LEVEL) == pytest.approx(POWER)


def test_so_many_seeds_show_a_margin_and_one_fewer_does_not() -> None:
    for margin in (0.5, 1.0, 3.0):
        needed = seeds_for(margin, 1.0, 0.01)
        assert needed
        assert shown_margin(needed, 1.0, 0.01) <= margin < shown_margin(needed - 1, 1.0, 0.01)
    assert seeds_for(0.01, 1.0, LEVEL) is None


@pytest.mark.parametrize("arms", [1, 5])
def test_false_claims_are_as_rare_as_promised_at_the_margin_itself(arms: int) -> None:
    """Two budgets lose nothing and three lose exactly the margin; all comparisons share their noise."""
    rng, false, losses = np.random.default_rng(0), 0, {0.9: 0.0, 0.7: 0.0, 0.5: 1.0, 0.3: 1.0, 0.1: 1.0}
    for _ in range(TIMES):
        whole = rng.normal(size=5)
        drawn = {
            str(arm): {keep: rng.normal(size=5) - loss - whole for keep, loss in losses.items()} for arm in range(arms)
        }
        false += any(claim.smallest is not None and losses[claim.smallest] for claim in claims(drawn, 1.0).values())
    assert false / TIMES <= LEVEL + TWO_ERRORS


def test_the_first_failure_ends_an_arm_and_the_level_is_shared() -> None:
    fine = np.array([0.1, -0.1, 0.0, 0.05, -0.05])
    lost = fine - 2
    found = claims({"a": {0.9: fine, 0.5: lost, 0.1: fine}, "b": {0.9: lost, 0.5: fine}}, 1.0)
    assert {name: [*claim.checks] for name, claim in found.items()} == {"a": [0.9, 0.5], "b": [0.9]}
    assert [claim.smallest for claim in found.values()] == [0.9, None]
    assert {claim.level for claim in found.values()} == {LEVEL / 2}
    edge = found["a"].checks[0.9]
    wider = check(fine, 1.0, LEVEL)
    assert edge.lower < wider.lower < edge.difference == wider.difference


def test_a_lower_bound_is_the_end_of_the_two_sided_interval_of_twice_the_level() -> None:
    from scipy import stats

    differences = np.random.default_rng(1).normal(size=7)
    low, _ = stats.ttest_1samp(differences, 0).confidence_interval(0.9)
    found = check(differences, 1.0, 0.05)
    assert found.lower == pytest.approx(low)
    assert [check(differences, margin, 0.05).not_worse for margin in (float(-low * 0.999), float(-low * 1.001))] == [
        False,
        True,
    ]
    assert found.spread == pytest.approx(stats.tstd(differences))


def test_differences_that_do_not_vary_need_as_many_seeds_as_a_sign_test() -> None:
    assert [check(np.zeros(n), 1.0, 0.05).not_worse for n in (1, 4, 5)] == [False, False, True]
    assert not check(np.full(5, -1.0), 1.0, 0.05).not_worse
    assert [power(n, 0.0, 1.0, 0.05) for n in (1, 4, 5)] == [0, 0, 1]
    assert [shown_margin(n, 0.0, 0.05) for n in (1, 4, 5)] == [math.inf, math.inf, 0]


def test_what_cannot_be_tested_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"margin: must be above 0, got 0\.0"):
        claims({"a": {0.5: np.zeros(2)}}, 0.0)
    with pytest.raises(ValueError, match="'a' has no budget"):
        claims({"a": {}}, 1.0)
    assert claims({}, 1.0) == {}
    assert pooled([3.0, 4.0]) == pytest.approx(math.sqrt(12.5))
    assert math.isnan(pooled([]))
