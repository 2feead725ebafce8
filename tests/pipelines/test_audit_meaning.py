"""The effect of leaks and copies: intervals beside published ones, SciPy and simulation, shares, and the gap of a
threshold."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy.stats import ttest_ind

import secateur as sc
from secateur.pipelines.audits.limits import Limit
from secateur.pipelines.audits.meaning import newcombe, resting, welch
from secateur.scorers.copies.thresholds import ENOUGH, into_gap, share_from

NEWCOMBE = {
    (56, 70, 48, 80): (0.0524, 0.3339),
    (9, 10, 3, 10): (0.1705, 0.8090),
    (6, 7, 2, 7): (0.0582, 0.8062),
    (5, 56, 0, 29): (-0.0381, 0.1926),
    (0, 10, 0, 20): (-0.1611, 0.2775),
    (0, 10, 0, 10): (-0.2775, 0.2775),
    (10, 10, 0, 20): (0.6791, 1.0000),
    (10, 10, 0, 10): (0.6075, 1.0000),
}
"""Newcombe, Statistics in Medicine 17 (1998), table II, method 10: right and all of both samples, and the interval."""


def rights(right: int, of: int) -> np.ndarray:
    """`right` ones before zeros, float64 `[of]`."""
    return (np.arange(of) < right).astype(np.float64)


@pytest.mark.parametrize("counts", NEWCOMBE)
def test_intervals_of_shares_are_the_published_ones(counts: tuple[int, int, int, int]) -> None:
    assert newcombe(rights(*counts[:2]), rights(*counts[2:])) == pytest.approx(NEWCOMBE[counts], abs=5e-5)


@pytest.mark.parametrize(("few", "many"), [(2, 40), (3, 3), (25, 400)])
def test_intervals_of_means_are_those_of_scipy(few: int, many: int) -> None:
    rng = np.random.default_rng(few)
    left, right = rng.gamma(2, 3, few), rng.normal(4, 1, many)
    theirs = ttest_ind(left, right, equal_var=False).confidence_interval(0.95)
    assert welch(left, right) == pytest.approx((theirs.low, theirs.high))


def test_intervals_of_means_without_spread_or_of_one_row() -> None:
    assert welch(np.full(3, 2.0), np.full(5, 0.5)) == (1.5, 1.5)
    assert welch(np.array([1.0]), np.arange(9.0)) is None


@pytest.mark.parametrize("leaks", [1, 5])
def test_one_leaked_row_or_one_clean_row_of_numbers_has_no_interval(leaks: int, tmp_path: Path) -> None:
    """The answer is JSON all the same."""
    rng = np.random.default_rng(0)
    train = pl.DataFrame({"x": rng.normal(size=60), "z": rng.normal(size=60)}).with_columns(y=2 * pl.col("x"))
    others = pl.DataFrame({"x": rng.normal(size=6), "z": rng.normal(size=6)}).with_columns(y=2 * pl.col("x"))
    found = sc.audit(
        train, test=pl.concat([train[:leaks], others[leaks:]]), label="y", task="regression", near=False, progress=False
    )
    found.save(tmp_path / "audit")
    told = json.loads((tmp_path / "audit" / "audit.json").read_text())["resting_on_leaks"]
    assert (told["leaked_rows"], told["low"], told["high"]) == (leaks, None, None)
    assert "rest on leaked rows; one row has no interval" in told["sentence"]


@pytest.mark.parametrize("measure", ["accuracy", "mean absolute error"])
def test_the_interval_of_what_rests_on_leaks_holds_the_truth(measure: str) -> None:
    """A model that is right on 95% of leaked rows and on 80% of the others, and one that is off by 1 and by 2: of 600
    draws of 300 test rows, 30 of them leaked, the interval holds the expected difference in 92 to 99 of 100."""
    rng, leaked, held = np.random.default_rng(0), np.arange(300) < 30, 0
    for _ in range(600):
        if measure == "accuracy":
            scores, truth = (rng.random(300) < np.where(leaked, 0.95, 0.8)).astype(np.float64), 0.1 * (0.95 - 0.8)
        else:
            scores, truth = rng.gamma(np.where(leaked, 1.0, 2.0), 1.0), 0.1 * (1.0 - 2.0)
        found = resting(scores, leaked, model="a model", measure=measure)
        assert found is not None
        assert found.rests == pytest.approx(scores.mean() - scores[~leaked].mean())
        held += found.low <= truth <= found.high
    assert 0.92 <= held / 600 <= 0.99


def test_the_share_of_the_accuracy_that_rests_on_leaks() -> None:
    found = resting(np.repeat([1.0, 0.0, 1.0], [20, 40, 40]), np.arange(100) < 20, model="m", measure="accuracy")
    assert found is not None
    assert (found.whole, found.clean, found.rests) == pytest.approx((0.6, 0.5, 0.1))
    assert found.share == pytest.approx(0.1 / 0.6)
    off = resting(np.arange(100.0), np.arange(100) < 20, model="m", measure="mean absolute error")
    assert off is not None
    assert off.share is None
    assert resting(np.ones(5), np.zeros(5, bool), model="m", measure="accuracy") is None


@pytest.mark.parametrize(
    ("text", "count", "of", "allowed"),
    [("1%", 2, 200, True), ("1%", 2, 199, False), ("0.01", 3, 300, True), ("2", 2, 3, True), ("2", 3, 900, False)],
)
def test_a_limit_is_a_share_or_a_number(text: str, count: int, of: int, allowed: bool) -> None:
    assert Limit.read(text, "--max-leaks").allows(count, of) is allowed


def test_a_threshold_moves_to_the_middle_of_a_gap_above_it() -> None:
    """Beside a plain search for the next similarity, over samples with and without enough rows above."""
    rng, met = np.random.default_rng(0), SimpleNamespace(moved=0, left=0)
    for _ in range(300):
        top = rng.random(rng.integers(1, 30)).astype(np.float32)
        value = float(rng.choice([rng.random(), float(rng.choice(top))]))
        above = sorted(float(each) for each in top if float(each) >= value)
        expected = value if len(above) < ENOUGH else (value + above[0]) / 2
        assert into_gap(value, top) == pytest.approx(expected)
        met.moved, met.left = met.moved + (expected != value), met.left + (len(above) < ENOUGH)
    assert min(met.moved, met.left) > 50


def test_shares_from_a_similarity_on() -> None:
    values = np.random.default_rng(0).choice(np.linspace(0, 1, 11), 500).astype(np.float32)
    levels = np.linspace(0, 1.2, 40)
    expected = [sum(float(value) >= level for value in values) / 500 for level in levels]
    assert share_from(levels, values).tolist() == pytest.approx(expected)
