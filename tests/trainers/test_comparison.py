"""Intervals and tests against scipy and against tables computed by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from secateur.pipelines.pages.words import brief, difference_of, mean_of, sentence
from secateur.trainers.judging.comparison import (
    Summary,
    Verdict,
    compare,
    compare_pairs,
    compared,
    holm,
    p_value_of,
    summarise,
    varies,
)
from secateur.trainers.tasks.contract import Metric

ACCURACY = Metric("accuracy", percent=True)
LOSS = Metric("loss", higher_is_better=False)

accuracies = st.lists(st.floats(0, 1), min_size=2, max_size=8)


@settings(max_examples=60, deadline=None)
@given(accuracies)
def test_interval_is_the_students_one(values):
    summary = summarise(values)
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.seeds == len(values)
    spread = stats.sem(values)
    if spread > 1e-12:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=spread)
        assert summary.half_width == pytest.approx((high - low) / 2, rel=1e-6)
    else:
        assert summary.half_width == pytest.approx(0, abs=1e-10)


def test_interval_by_hand():
    summary = summarise([0.90, 0.92, 0.94])
    # s = 0.02, t(0.975; 2) = 4.30265, s / sqrt(3) = 0.0115470
    assert summary.half_width == pytest.approx(4.30265 * 0.0115470, rel=1e-5)
    assert mean_of(summary, ACCURACY) == "92.0 ± 5.0"


def test_one_seed_has_no_interval():
    summary = summarise([0.9])
    assert (summary.mean, summary.half_width, summary.seeds) == (0.9, None, 1)
    assert mean_of(summary, ACCURACY) == "90.0"


@pytest.mark.parametrize(
    ("mean", "half_width", "words"),
    [
        (6.2, 0.00132, "6.2000 ± 0.0013"),
        (2.6749, 0.0417, "2.675 ± 0.042"),
        (12.34, 5.6, "12.3 ± 5.6"),
        (1234.5, 56.7, "1,234 ± 57"),
        (0.5, 0.0, "0.5 ± 0"),
        (1.0, 1e-9, "1 ± 1e-09"),
        (3.0, float("inf"), "3 ± inf"),
    ],
)
def test_a_mean_has_the_decimals_of_its_interval(mean, half_width, words):
    assert mean_of(Summary(mean, half_width, 3), LOSS) == words


@pytest.mark.parametrize(
    ("difference", "half_width", "words"),
    [(0.0123, 0.0044, "+0.0123 ± 0.0044"), (-0.00001, 0.02, "0.000 ± 0.020"), (-1.26, 0.5, "-1.26 ± 0.50")],
)
def test_a_difference_has_the_decimals_of_its_interval(difference, half_width, words):
    compared = replace(compare({"one": [1.0, 2.0]}, [1.5, 2.5])["one"], difference=difference, half_width=half_width)
    assert difference_of(compared, LOSS) == words


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), seeds=st.integers(2, 9))
def test_p_values_are_those_of_paired_tests(seed, seeds):
    generator = np.random.default_rng(seed)
    baseline, chosen = generator.uniform(0.5, 1, (2, seeds))
    result = compare({"one": chosen.tolist()}, baseline.tolist())["one"]
    expected = stats.ttest_rel(chosen, baseline)
    interval = expected.confidence_interval(0.95)
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert result.difference == pytest.approx(np.mean(chosen) - np.mean(baseline))
    assert result.half_width == pytest.approx((interval.high - interval.low) / 2, rel=1e-9)
    assert result.effect_size == pytest.approx(expected.statistic / np.sqrt(seeds), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_pairs_decide_not_the_order_of_seeds(seed):
    generator = np.random.default_rng(seed)
    baseline, chosen = generator.uniform(size=(2, 6))
    order = generator.permutation(6)
    pairs = (chosen, baseline), (chosen[order], baseline[order])
    one, other = (compare({"a": list(a)}, list(b))["a"] for a, b in pairs)
    assert one.p_value == pytest.approx(other.p_value)
    assert compare({"a": list(baseline)}, list(chosen))["a"].difference == pytest.approx(-one.difference)


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, and never below the previous one.
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def test_holm_never_exceeds_one_and_treats_equals_alike():
    assert holm({"a": 0.5, "b": 0.5, "c": 0.9}) == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert holm({"a": 0.02, "b": 0.02}) == {"a": 0.04, "b": 0.04}
    assert holm({}) == {}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.2))
def test_holm_rejects_what_the_step_down_procedure_rejects(values, level):
    """The procedure itself: the smallest p-value against level / m, then level / (m - 1), …, until one fails."""
    ordered, rejected = sorted(values), 0
    while rejected < len(ordered) and ordered[rejected] * (len(ordered) - rejected) < level:
        rejected += 1
    corrected = holm({str(i): value for i, value in enumerate(values)})
    assert sorted(corrected.values()) == [corrected[str(i)] for i in np.argsort(values, kind="stable")]
    assert sum(value < level for value in corrected.values()) == rejected


def test_correction_is_over_the_whole_family():
    generator = np.random.default_rng(0)
    baseline = generator.uniform(0.8, 0.9, 5)
    family = {f"s{i}": (baseline + generator.normal(0.01 * i, 0.01, 5)).tolist() for i in range(4)}
    together = compare(family, baseline.tolist())
    alone = {name: compare({name: values}, baseline.tolist())[name].p_value for name, values in family.items()}
    assert {name: one.p_value for name, one in together.items()} == pytest.approx(holm(alone))
    assert max(one.p_value - alone[name] for name, one in together.items()) > 0


@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
def test_differences_that_never_vary_claim_no_more_than_their_signs(seeds):
    """Without a difference all sign patterns are equally likely: two of 2 ** seeds are as extreme as equal signs."""
    baseline = np.linspace(0.7, 0.8, seeds)
    result = compare({"a": (baseline + 0.1).tolist(), "same": baseline.tolist()}, baseline.tolist())
    assert p_value_of(np.full(seeds, 0.1)) == 2.0 ** (1 - seeds)
    assert p_value_of((baseline + 0.1) - baseline) == 2.0 ** (1 - seeds)  # equal up to rounding
    assert result["a"].p_value == min(1.0, 2 * 2.0 ** (1 - seeds))
    assert result["a"].effect_size is None
    assert result["a"].half_width == pytest.approx(0, abs=1e-12)
    assert result["same"].p_value == 1.0
    assert result["same"].difference == 0
    assert result["same"].verdict is Verdict.NO_BETTER


def test_two_seeds_with_one_difference_are_no_proof():
    assert compare({"a": [0.91, 0.93]}, [0.90, 0.92])["a"].verdict is Verdict.NO_BETTER


def test_two_seeds_are_enough_for_a_verdict():
    result = compare({"a": [0.9000, 0.9101]}, [0.80, 0.81])["a"]
    assert result.p_value == pytest.approx(stats.ttest_1samp([0.1000, 0.1001], 0).pvalue)
    assert result.verdict is Verdict.BETTER
    assert result.half_width == pytest.approx(12.7062 * 0.00005, rel=1e-4)  # t(0.975; 1) · s / √2


@pytest.mark.parametrize("mean", [0.1, -0.1])
@pytest.mark.parametrize("higher", [True, False])
def test_a_verdict_begins_below_the_level(mean, higher):
    paired, sign = np.array([mean, mean]), Verdict.BETTER if (mean > 0) == higher else Verdict.WORSE
    found = [compared(paired, level, higher).verdict for level in (0.0, float(np.nextafter(0.05, 0)), 0.05, 1.0)]
    assert found == [sign, sign, Verdict.NO_BETTER, Verdict.NO_BETTER]


def test_differences_vary_by_more_than_rounding():
    assert [varies(np.array([0.0, width])) for width in (0.0, 1e-12, 2e-12)] == [False, False, True]
    assert [p_value_of(np.full(3, shift)) for shift in (0.0, 0.9e-12, 1e-12)] == [1.0, 1.0, 0.25]


def test_one_seed_says_nothing():
    result = compare({"a": [0.9]}, [0.8])["a"]
    assert (result.p_value, result.half_width, result.effect_size) == (None, None, None)
    assert result.difference == pytest.approx(0.1)
    assert result.verdict is Verdict.ONE_SEED
    assert sentence(result, ACCURACY, "random") == "one seed says nothing: +10.0 points against random"
    assert brief(result, ACCURACY) == "one seed +10.0"


BASELINE = [0.80, 0.81, 0.79, 0.80, 0.82]
FAMILY = {
    "up": [0.90, 0.905, 0.89, 0.91, 0.92],
    "down": [0.70, 0.705, 0.69, 0.71, 0.72],
    "level": [0.81, 0.80, 0.79, 0.81, 0.81],
}


def test_verdicts_say_it_plainly():
    result = compare(FAMILY, BASELINE)
    assert {name: one.verdict for name, one in result.items()} == {
        "up": "better", "down": "worse", "level": "no better",
    }  # fmt: skip
    said = {name: sentence(one, ACCURACY, "stratified random") for name, one in result.items()}
    assert said["up"].startswith("better than stratified random (+10.1 points, p = ")
    assert said["down"].startswith("worse than stratified random (-9.9 points, p = ")
    assert said["level"] == "no better than stratified random (+0.0 points, p = 1.00 over 5 seeds)"
    assert brief(result["up"], ACCURACY).startswith("better +10.1 (p ")
    assert brief(result["level"], ACCURACY, with_p=False) == "no better +0.0"
    assert {one.seeds for one in result.values()} == {5}


def test_where_less_is_better_verdicts_turn_and_numbers_stay():
    more, less = compare(FAMILY, BASELINE), compare(FAMILY, BASELINE, higher_is_better=False)
    turned = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER, Verdict.NO_BETTER: Verdict.NO_BETTER}
    for name, one in more.items():
        other = less[name]
        assert other.verdict is turned[one.verdict]
        assert (other.difference, other.p_value, other.half_width) == (one.difference, one.p_value, one.half_width)
    error = Metric("rmse", higher_is_better=False, unit="hours")
    assert sentence(less["down"], error, "random").startswith("better than random (-0.099 hours, p = ")


def test_pairs_with_a_baseline_each_are_one_family():
    pairs = {name: (values, [v + 0.01 * i for i, v in enumerate(BASELINE)]) for name, values in FAMILY.items()}
    raw = {name: float(stats.ttest_rel(*pair).pvalue) for name, pair in pairs.items()}
    result = compare_pairs(pairs)
    assert {name: one.p_value for name, one in result.items()} == pytest.approx(holm(raw), rel=1e-9)


def test_unequal_numbers_of_seeds_are_refused():
    with pytest.raises(ValueError, match="'a' has 2 seeds and its baseline 3"):
        compare({"a": [0.1, 0.2]}, [0.1, 0.2, 0.3])
