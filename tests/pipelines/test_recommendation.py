"""The report's recommendation: planted curves with known truth, and its words, numbers and manifest."""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from small_studies import read

from secateur.pipelines.pages.page import page_of
from secateur.pipelines.pages.recommendation import Recommendation, recommendation_of
from secateur.pipelines.pages.report import build_report
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import selection_key
from secateur.pipelines.studies.samples import Study
from secateur.trainers.judging.margin import LEVEL
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.tasks.contract import Metric

TIMES, SPREAD = 1000, 0.01
TWO_ERRORS = 2 * math.sqrt(LEVEL * (1 - LEVEL) / TIMES)
ACCURACY = Metric("accuracy", percent=True)
SELECTIONS = {name: {"selector": "top", "score": "el2n", "end": "high"} for name in ("one", "two", "three")}
WriteStudy = Callable[..., StudyFile]


@pytest.fixture
def study(write_study: WriteStudy) -> Study:
    return read(write_study(seeds=5, keep=[0.9, 0.5, 0.1], selections=SELECTIONS))


def outcomes(values: np.ndarray, kept: int = 120, metric: str = "accuracy") -> dict[int, Outcome]:
    known = {"kept": kept, "of": 120, "compare_at": "equal steps"}
    return {seed: Outcome.model_construct(metrics={metric: float(x)}, **known) for seed, x in enumerate(values)}


def drawn(study: Study, losses: Mapping[int | float, float], rng: np.random.Generator) -> dict[str, Any]:
    """Runs whose accuracies vary by SPREAD, each arm at each budget with its mean loss."""
    runs = {"full": outcomes(rng.normal(0.8, SPREAD, study.seeds))}
    for arm in study.arms:
        for keep, loss in losses.items():
            values = rng.normal(0.8 - loss, SPREAD, study.seeds)
            runs[selection_key(arm, keep)] = outcomes(values, round(120 * keep))
    return runs


def recommended(study: Study, runs: Mapping[str, Any], metric: Metric = ACCURACY, **other: Any) -> Recommendation:
    found = recommendation_of(study, metric, runs, other.get("useless", frozenset()))
    assert found is not None
    return found


def test_over_planted_curves_false_claims_are_rare_and_power_is_as_printed(study: Study) -> None:
    """Five arms; at 0.9 nothing is lost, below exactly the margin, so that any smaller budget is a false claim."""
    study = study.model_copy(update={"margin": 3.0})
    rng, false, shown, printed = np.random.default_rng(0), 0, 0, []
    for _ in range(TIMES):
        found = recommended(study, drawn(study, {0.9: 0.0, 0.5: 0.03, 0.1: 0.03}, rng))
        false += found.selection.partition("@")[2] in ("0.5", "0.1")
        shown += found.claims["one"].checks[0.9].not_worse
        printed.append(found.power)
    assert false / TIMES <= LEVEL + TWO_ERRORS
    assert abs(shown / TIMES - np.mean(printed)) <= 0.05


def test_the_smallest_budget_is_recommended_and_of_equal_ones_random(study: Study) -> None:
    rng = np.random.default_rng(1)
    runs = drawn(study, {0.9: 0.0, 0.5: 0.0, 0.1: 0.3}, rng)
    study = study.model_copy(update={"margin": 9.0})
    assert recommended(study, runs).selection == "uniform_random@0.5"
    runs["two@0.1"] = outcomes(np.full(5, 0.85) + rng.normal(0, SPREAD, 5), 12)
    found = recommended(study, runs)
    assert found.selection == "two@0.1"
    assert found.sentence.startswith(
        "Keep 0.1 by two (12 of 120 samples): at 95% its accuracy is not worse than that of the full set by more than "
        "9 points, over 5 seeds at equal steps (difference +"
    )
    assert [*found.claims["one"].checks] == [0.9, 0.5, 0.1]
    assert not found.claims["one"].checks[0.1].not_worse


def test_an_arm_that_learned_nothing_goes_no_further(study: Study) -> None:
    runs = drawn(study, {0.9: 0.0, 0.5: 0.0, 0.1: 0.0}, np.random.default_rng(2))
    study = study.model_copy(update={"margin": 9.0})
    found = recommended(study, runs, useless=frozenset({selection_key(arm, 0.5) for arm in study.arms}))
    assert found.selection == "uniform_random@0.9"
    nothing = recommended(study, runs, useless=frozenset({"full"}))
    assert (nothing.selection, nothing.claims) == ("full", {})
    assert nothing.sentence.startswith("Keep everything: models of the full set learned nothing")


def test_everything_is_kept_where_nothing_is_shown_and_seeds_are_named_that_would_show_it(study: Study) -> None:
    found = recommended(study, drawn(study, {0.9: 0.0, 0.5: 0.0, 0.1: 0.0}, np.random.default_rng(3)))
    assert found.selection == "full"
    assert found.sentence.startswith(
        "Keep everything: for no budget was it shown at 95% that its accuracy is not worse"
    )
    assert "by more than 1 point, over 5 seeds. 5 seeds show a margin of " in found.sentence
    assert found.sentence.endswith(" seeds would show 1 point.")


def test_two_seeds_far_apart_show_no_margin_and_no_number_above_100_points(study: Study) -> None:
    runs = {"full": outcomes(np.full(2, 0.8))}
    runs |= {selection_key(arm, 0.9): outcomes(np.array([0.7, 0.9]), 108) for arm in study.arms}
    found = recommended(study, runs)
    assert re.search(r"2 seeds can show no margin here; [\w ,]*seeds would ", found.sentence), found.sentence


def test_with_looks_more_seeds_than_the_last_look_are_named_where_it_does_not_show_the_margin(study: Study) -> None:
    study = study.model_copy(update={"looks": (5, 10, 20), "seeds": 20})
    differences = np.tile([0.012, -0.012], 10) - 0.004
    runs = {"full": outcomes(np.full(20, 0.8))}
    runs |= {selection_key(arm, 0.9): outcomes(0.8 + differences, 108) for arm in study.arms}
    found = recommended(study, runs)
    told = re.search(
        r"Up to 20 seeds show a margin of ([\d.]+) points here .*; (\d+) seeds would show 1 point", found.sentence
    )
    assert told, found.sentence
    assert 1 < float(told[1]) < 1.2
    assert int(told[2]) > 20


def test_what_was_shown_within_less_than_the_seeds_show_as_a_rule_does_not_contradict_it(study: Study) -> None:
    """One arm is clearly better than everything, so within the margin, while the others vary."""
    rng = np.random.default_rng(10)
    runs = {"full": outcomes(np.full(5, 0.8))}
    runs |= {selection_key(arm, 0.9): outcomes(0.8 + rng.normal(0, 0.015, 5), 108) for arm in study.arms}
    runs["two@0.9"] = outcomes(0.82 + rng.normal(0, 0.001, 5), 108)
    found = recommended(study, runs)
    assert found.selection == "two@0.9"
    told = re.search(
        r"Had nothing been lost, 5 seeds would have shown a margin of ([\d.]+) points here with a chance of 80%, and "
        r"1 point with one of (\d+)%; \d+ seeds would show 1 point with a chance of 80%\.$",
        found.sentence,
    )
    assert told, found.sentence
    assert float(told[1]) > 1
    assert float(told[2]) / 100 == pytest.approx(found.power, abs=0.005)
    assert "seeds show" not in found.sentence


def test_one_seed_shows_nothing_and_its_json_is_json(study: Study) -> None:
    study = study.model_copy(update={"seeds": 1})
    found = recommended(study, drawn(study, {0.9: 0.0}, np.random.default_rng(4)))
    assert found.selection == "full"
    assert found.sentence == "Keep everything: one seed cannot show how much can go; ask for more seeds."
    content = json.loads(json.dumps(found.content(), allow_nan=False))
    assert content["power"] is None
    assert content["claims"][0]["lower"] is None


def test_where_no_seed_differs_it_says_how_many_are_needed(study: Study) -> None:
    same = np.full(5, 0.9)
    runs = {"full": outcomes(same)} | {
        selection_key(arm, keep): outcomes(same, 60) for arm in study.arms for keep in study.keep
    }
    found = recommended(study, runs)
    assert found.selection == "full"
    assert found.sentence.endswith("Where every seed gives the same difference, it takes 7 seeds to show anything.")


def test_of_a_metric_without_points_the_study_names_the_margin(study: Study) -> None:
    rmse, rng = Metric("rmse", higher_is_better=False, unit="mg"), np.random.default_rng(5)
    runs = {"full": outcomes(rng.normal(50, 0.1, 5), metric="rmse")}
    runs |= {
        selection_key(arm, keep): outcomes(rng.normal(50 + 10 * (keep < 0.5), 0.1, 5), 60, "rmse")
        for arm in study.arms
        for keep in study.keep
    }
    assert recommendation_of(study, rmse, runs, frozenset()) is None
    found = recommended(study.model_copy(update={"margin": 1.0}), runs, rmse)
    assert found.selection == "uniform_random@0.5"
    assert "its rmse is not worse than that of the full set by more than 1 mg" in found.sentence
    assert "at most +" in found.sentence


def test_the_page_says_it_first_and_lists_every_budget_tested(write_study: WriteStudy) -> None:
    study = read(write_study(seeds=4, keep=[0.25], margin=20))
    values = {"hardest": [0.5, 0.51, 0.49, 0.5]}
    trials = {trial: values.get(trial.name, [0.8, 0.81, 0.79, 0.8])[trial.seed] for trial in study.trials}
    report = build_report(
        study,
        {
            trial: Outcome(metrics={"accuracy": value}, kept=30, of=120, compare_at="equal steps")
            for trial, value in trials.items()
        },
    )
    assert report.recommendation
    page = page_of(report)
    assert page.markdown().index(report.recommendation.sentence.split(" (")[0]) < page.markdown().index(report.verdict)
    assert page.content.recommendation.selection == report.recommendation.selection
    assert page.parts[0].title == "How much can go"
    [(_, table)] = page.parts[0].tables
    assert table[0] == ["selection", "kept", "seeds", "against the full set %", "at least %", "within 20.0"]
    assert {line[0]: line[-1] for line in table[1:]}["hardest"].startswith("not shown: ")


def test_the_margin_changes_the_report_and_no_training(write_study: WriteStudy) -> None:
    study = read(write_study(seeds=4, keep=[0.25]))
    other = study.model_copy(update={"margin": 2.0})
    trial = next(iter(study.trials))
    assert study.decides("model", trial) == other.decides("model", trial)
    assert study.decides("scores", None) == other.decides("scores", None)
    assert study.decides("report", None) != other.decides("report", None)
