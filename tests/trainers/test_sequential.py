"""Seeds in stages: published levels, brute force by another simulation, and planted curves with known truth."""

import math

import numpy as np
import pytest
from scipy import stats

from secateur.trainers.judging.margin import LEVEL, REFINED, claims, power, seeds_for, shown_margin
from secateur.trainers.judging.sequential import HOPE, State, hope, judged, level_of_look, looks_between

LOOKS, STUDIES = (5, 10, 20), 1000
TWO_ERRORS = 2 * math.sqrt(LEVEL * (1 - LEVEL) / STUDIES)
RNG = np.random.default_rng


@pytest.mark.parametrize(
    ("looks", "at_5", "at_2_5"),
    [
        ((5, 10), 0.029, 0.0143),
        ((3, 5, 10), 0.0205, 0.0096),
        ((5, 10, 20), 0.021, 0.0099),
        ((3, 4, 5, 6, 8, 10), 0.0149, 0.0065),
    ],
)
def test_levels_are_those_that_another_simulation_found(looks: tuple[int, ...], at_5: float, at_2_5: float) -> None:
    for level, found in ((0.05, at_5), (0.025, at_2_5)):
        own = level_of_look(looks, level)
        assert 0.95 * found <= own <= 1.01 * found, "a little below, for it is on the safe side"
        assert level / len(looks) < own < level
    assert level_of_look((5,), 0.05) == 0.05


def looked_at(mean: float, level: float, count: int = 20_000) -> np.ndarray:
    """Whether each of many studies passes at any look, by scipy's t-tests on its seeds."""
    seeds = RNG(1).normal(mean, 1.0, (count, LOOKS[-1]))
    found = [stats.ttest_1samp(seeds[:, :look], 0.0, axis=1, alternative="greater").pvalue < level for look in LOOKS]
    return np.any(found, axis=0)


@pytest.mark.parametrize("level", [0.05, 0.01])
def test_the_chance_that_any_look_claims_what_is_false_is_the_level(level: float) -> None:
    error = math.sqrt(level * (1 - level) / 20_000)
    assert looked_at(0.0, level).mean() > level + 10 * error, "uncorrected it is far more"
    assert abs(looked_at(0.0, level_of_look(LOOKS, level)).mean() - level) < 3 * error


def test_looks_are_twice_as_many_seeds_each_time() -> None:
    assert looks_between(2, 3) == (2, 3)
    assert looks_between(3, 25) == (3, 6, 12, 24, 25)


def test_a_verdict_comes_with_the_first_look_that_has_one_and_later_seeds_do_not_count() -> None:
    noise = RNG(2).normal(0, 1, 20)
    none = np.full(20, np.nan)
    for mean, state in ((5.0, State.SHOWN), (-5.0, State.WORSE)):
        seeds = np.concatenate([mean + noise[:5], none[:15]])
        found = judged(seeds, 1.0, LEVEL, LOOKS)
        assert (found.state, found.seeds, found.not_worse) == (state, 5, state is State.SHOWN)
    waits = judged(noise[:7] - noise[:5].mean() - 0.3, 1.0, LEVEL, LOOKS)
    assert (waits.state, waits.seeds, waits.level) == (State.OPEN, 5, LEVEL)
    assert judged(noise[:3], 1.0, LEVEL, LOOKS).state is State.OPEN
    assert judged(noise[:0], 1.0, LEVEL, LOOKS).seeds == 0
    last = judged(np.tile([-2.4, 1.4], 10), 1.0, LEVEL, LOOKS)
    assert (last.state, last.seeds) in ((State.UNDECIDED, 20), (State.GIVEN_UP, 10), (State.GIVEN_UP, 5))


def test_seeds_that_do_not_vary_need_as_many_looks_as_the_sign_test() -> None:
    same = np.zeros(20)
    assert judged(same, 1.0, LEVEL, LOOKS).seeds == 10, "2^-5 is above the level of a look"
    assert judged(same, 1.0, LEVEL, LOOKS).not_worse
    assert judged(same - 2, 1.0, LEVEL, LOOKS).state is State.WORSE


def test_hope_is_the_chance_that_simulated_seeds_to_come_show_it() -> None:
    before = RNG(3).normal(-1.0, 1.0, 10)
    mean, spread = float(before.mean()), float(before.std(ddof=1))
    rest = RNG(4).normal(0.0, spread, (20_000, 10)).mean(axis=1)
    bound = (mean + rest) / 2 - stats.t.isf(0.02, 19) * spread / math.sqrt(20)
    assert float(hope(10, 20, mean, spread, 1.0, 0.02)) == pytest.approx((bound > -1.0).mean(), abs=0.01)


def test_a_budget_is_given_up_where_hardly_any_hope_is_left() -> None:
    seeds = np.tile([-3.0, 0.2], 10)
    found = judged(seeds, 1.0, LEVEL, LOOKS)
    assert found.state is State.GIVEN_UP
    own = level_of_look(LOOKS, LEVEL)
    assert float(hope(found.seeds, 20, found.difference, found.spread, 1.0, own)) < HOPE


@pytest.mark.parametrize("ratio", [0.5, 0.75, 1.0])
def test_power_is_that_of_whole_studies(ratio: float) -> None:
    shown = [judged(seeds, ratio, LEVEL, LOOKS).not_worse for seeds in RNG(5).normal(0, 1.0, (STUDIES, 20))]
    assert np.mean(shown) == pytest.approx(power(20, 1.0, ratio, LEVEL, LOOKS), abs=0.04)
    assert power(20, 1.0, ratio, LEVEL, LOOKS) < power(20, 1.0, ratio, LEVEL) + 0.01


def test_the_margin_that_looks_show_has_the_power() -> None:
    shown = shown_margin(20, 2.0, LEVEL, LOOKS)
    assert power(20, 2.0, shown, LEVEL, LOOKS) == pytest.approx(0.8, abs=0.001)
    assert shown > shown_margin(20, 2.0, LEVEL)
    assert seeds_for(shown, 2.0, LEVEL) == pytest.approx(16, abs=3)
    assert seeds_for(shown * 0.999, 2.0, LEVEL, LOOKS) in (21, 22), "more than looks that do not show it"
    needed = seeds_for(0.9 * shown, 2.0, LEVEL, LOOKS)
    assert needed
    assert power(needed, 2.0, 0.9 * shown, LEVEL, (*LOOKS, needed)) == pytest.approx(0.8, abs=0.03)
    assert power(20, 0.0, 1.0, LEVEL, LOOKS) == 1.0
    assert power(4, 0.0, 1.0, 0.01, (2, 4)) == 0.0


@pytest.mark.parametrize("arms", [1, 5])
def test_over_planted_curves_looks_claim_little_that_is_false_and_as_much_as_printed(arms: int) -> None:
    """At 0.9 nothing is lost, below it exactly the margin, so any smaller budget is a false claim."""
    rng, false, shown, seeds = RNG(6), 0, 0, []
    for _ in range(STUDIES):
        whole = rng.normal(0.8, 0.01, 20)
        curves = {
            str(arm): {
                keep: rng.normal(0.8 - loss, 0.01, 20) - whole for keep, loss in ((0.9, 0), (0.5, 0.02), (0.1, 0.02))
            }
            for arm in range(arms)
        }
        found = claims(curves, 0.02, looks=LOOKS)
        false += any(claim.smallest in (0.5, 0.1) for claim in found.values())
        shown += found["0"].checks[0.9].not_worse
        seeds.append(found["0"].checks[0.9].seeds)
    assert false / STUDIES <= LEVEL + TWO_ERRORS
    assert shown / STUDIES == pytest.approx(power(20, 0.01 * math.sqrt(2), 0.02, LEVEL / arms, LOOKS), abs=0.05)
    assert np.mean(seeds) < 15, "most verdicts need fewer than all seeds"


@pytest.mark.parametrize("looks", [(), LOOKS])
def test_a_budget_between_two_adds_no_false_claims(looks: tuple[int, ...]) -> None:
    """All budgets below 0.9 lose exactly the margin, those in between included; 0.7 passes or fails at random."""
    rng, false, between = RNG(7), 0, {0.7: 0.8, 0.5: 0.6}
    losses = {0.9: 0.0, 0.8: 0.02, 0.7: 0.0, 0.6: 0.02, 0.5: 0.02}
    for _ in range(STUDIES):
        whole = rng.normal(0, 0.01, 20)
        curve = {keep: rng.normal(-loss, 0.01, 20) - whole for keep, loss in losses.items()}
        [claim] = claims({"arm": curve}, 0.02, looks=looks, between=between).values()
        false += any(check.not_worse and losses[keep] == 0.02 for keep, check in claim.checks.items())
    assert false / STUDIES <= LEVEL + TWO_ERRORS


def test_what_lies_between_is_tested_after_the_next_smaller_failed_at_a_level_of_its_own() -> None:
    rng, between = RNG(8), {0.7: 0.8, 0.5: 0.6}
    good, bad = rng.normal(0, 0.001, 8), rng.normal(-1, 0.001, 8)
    curve = {0.9: good, 0.8: good, 0.7: good, 0.6: good, 0.5: bad}
    [claim] = claims({"arm": curve}, 0.5, between=between).values()
    assert ([*claim.checks], claim.smallest) == ([0.9, 0.7, 0.5, 0.6], 0.6)
    levels = {keep: check.level for keep, check in claim.checks.items()}
    assert levels[0.9] == LEVEL
    assert levels[0.7] == pytest.approx(LEVEL * (1 - REFINED))
    assert levels[0.6] + levels[0.5] == pytest.approx(levels[0.7]), "what 0.7 handed on is shared, and no more"
    [waits] = claims({"arm": {k: v for k, v in curve.items() if k != 0.6}}, 0.5, looks=(8,), between=between).values()
    assert (waits.open, waits.smallest) == (0.6, 0.7)
    [all_of_it] = claims({"arm": curve | {0.5: good}}, 0.5, between=between).values()
    assert [*all_of_it.checks] == [0.9, 0.7, 0.5]
