"""Seeds that come in stages and budgets that are refined: which trials are run, and that the report rests on them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small_studies import read
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.pages.report import build_report
from secateur.pipelines.pages.stages import first_stage, needed, settled
from secateur.pipelines.pages.tables import details, note
from secateur.pipelines.studies.files import StudyError, StudyFile
from secateur.pipelines.studies.grid import CURVE, Trial, tuned_as
from secateur.pipelines.studies.samples import Study
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.tasks.contract import Metric

WriteStudy = Callable[..., StudyFile]
METRICS = (Metric("accuracy", percent=True),)
SELECTIONS = {"hardest": {"selector": "top", "score": "el2n"}}


def planted(
    study: Study, losses: dict[str, dict[int | float, float]], spread: float, draw: int = 0
) -> dict[Trial, Outcome]:
    """Outcomes of all trials: an arm loses the given value at each budget, or nothing."""
    rng, found = np.random.default_rng(draw), {}
    for trial in study.trials:
        kept = 120 if trial.selection == "full" else round(120 * trial.keep)
        value = 0.8 - losses.get(trial.name, {}).get(trial.keep, 0.0) + rng.normal(0, spread)
        found[trial] = Outcome(metrics={"accuracy": value}, kept=kept, of=120, compare_at="equal epochs")
    return found


def run_in_stages(study: Study, outcomes: dict[Trial, Outcome]) -> list[list[Trial]]:
    """The trials of each stage, in the order of a run."""
    done, stages = list[Trial](), list[list[Trial]]()
    while more := [t for t in needed(study, METRICS, {t: outcomes[t] for t in done}) if t not in done]:
        stages.append(more)
        done += more
    return stages


def test_more_seeds_go_where_the_verdict_is_open_and_stop_when_it_is_there(write_study: WriteStudy) -> None:
    study = read(write_study(seeds={"from": 4, "to": 16}, keep=[0.5, 0.25], margin=3, selections=SELECTIONS))
    lost: dict[int | float, float] = {0.5: 0.5, 0.25: 0.5}
    losses = {"hardest": lost, "stratified_random": lost, "uniform_random": {0.25: 0.5}}
    outcomes = planted(study, losses, spread=0.02, draw=1)
    stages = run_in_stages(study, outcomes)
    assert stages[0] == first_stage(study)
    assert {trial.seed for trial in stages[0]} == {0, 1, 2, 3}
    later = [trial for stage in stages[1:] for trial in stage]
    assert {trial.selection for trial in later} == {"full", "uniform_random@0.5"}, "the others lost at once"
    assert len(later) in (8, 24), "four or twelve seeds more of both"
    report = build_report(study, outcomes)
    assert report.recommendation is not None
    assert report.recommendation.selection == "uniform_random@0.5"
    seeds = {arm: claim.checks[0.5].seeds for arm, claim in report.recommendation.claims.items()}
    assert seeds == {"uniform_random": 4 + len(later) // 2, "hardest": 4, "stratified_random": 4}
    table = dict(details(report))["How much can go"]
    assert {line[0]: line[2] for line in table[1:] if line[1] == "0.5"} == {
        "random": str(seeds["uniform_random"]),
        "hardest": "4",
        "stratified random": "4",
    }
    assert "over the first 4 seeds, which all have" in note(report)
    assert {summary.seeds for row in report.rows for summary in row.metrics.values()} == {4}


def test_the_report_rests_on_its_stages_whatever_else_was_run(write_study: WriteStudy) -> None:
    study = read(write_study(seeds=[3, 6, 12], keep="auto", margin=3, selections=SELECTIONS))
    lost: dict[int | float, float] = {0.5: 0.05, 0.3: 0.2, 0.1: 0.3, 0.6: 0.02}
    outcomes = planted(study, dict.fromkeys(study.arms, lost), spread=0.01)
    stages = run_in_stages(study, outcomes)
    run = {trial for stage in stages for trial in stage}
    assert len(run) < len(outcomes)
    few = {trial: outcome for trial, outcome in outcomes.items() if trial in run}
    assert settled(study, METRICS, outcomes) == few
    assert build_report(study, outcomes) == build_report(study, few)


def test_a_budget_between_the_last_that_passed_and_the_first_that_failed_is_tried(write_study: WriteStudy) -> None:
    study = read(write_study(seeds=8, keep="auto", margin=5, selections=SELECTIONS))
    assert study.keep == CURVE
    lost: dict[int | float, float] = {0.3: 0.4, 0.1: 0.4}
    everywhere = dict.fromkeys(study.arms, lost) | {"stratified_random": dict.fromkeys(study.budgets, 0.4)}
    outcomes = planted(study, everywhere, spread=0.004)
    first, second = run_in_stages(study, outcomes)
    assert {trial.keep for trial in first} == {1.0, *CURVE}
    assert {trial.selection for trial in second} == {"hardest@0.4", "uniform_random@0.4", "stratified_random@0.4"}
    report = build_report(study, outcomes)
    assert report.recommendation is not None
    assert report.recommendation.selection == "uniform_random@0.4"
    assert [*report.recommendation.claims["hardest"].checks] == [0.9, 0.7, 0.5, 0.3, 0.4]
    assert {row.keep for row in report.rows} == {*CURVE, 0.4}


def test_what_could_not_change_the_recommendation_is_not_run(write_study: WriteStudy) -> None:
    study = read(write_study(seeds=8, keep="auto", margin=5, selections=SELECTIONS))
    outcomes = planted(study, {"hardest": {0.3: 0.4, 0.1: 0.4}}, spread=0.004)
    assert len(run_in_stages(study, outcomes)) == 1, "random at 0.1 is smaller than anything above it"


def test_a_report_before_the_end_says_what_it_waits_for(write_study: WriteStudy) -> None:
    study = read(write_study(seeds=8, keep="auto", margin=5, selections=SELECTIONS))
    everywhere = {arm: dict[int | float, float]({0.1: 0.4}) for arm in study.arms}
    outcomes = planted(study, everywhere, spread=0.004)
    told = build_report(study, {trial: outcomes[trial] for trial in first_stage(study)}).recommendation
    assert told is not None
    assert "Not settled: more seeds could show hardest at 0.2" in told.sentence
    assert "Not settled" not in build_report(study, outcomes).recommendation.sentence  # type: ignore[union-attr]


def test_a_study_without_stages_needs_all_of_its_trials(write_study: WriteStudy) -> None:
    study = read(write_study(keep=[0.5]))
    assert needed(study, METRICS, {}) == list(study.trials)
    assert settled(study, METRICS, outcomes := planted(study, {}, 0.01)) == outcomes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": {"from": 5}}, "seeds: write a number, or from and to; got the keys from"),
        ({"seeds": {"from": 9, "to": 5}}, r"a look is after more seeds than the one before.*got \[9, 5\]"),
        ({"seeds": [1, 5]}, "from 2 to 1000"),
        ({"seeds": ["a", 5]}, "numbers of seeds are whole numbers"),
        ({"seeds": 3, "looks": [2, 4]}, "looks: the last one is after 4 seeds, and seeds is 3"),
        ({"keep": [0.5, 20], "refine": True}, "refine: between a share and a count there is no budget"),
        ({"keep": "automatic"}, "keep"),
    ],
)
def test_stages_that_are_none_are_refused(write_study: WriteStudy, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        write_study(**changes)


def test_a_study_names_its_budgets_or_has_the_usual_ones(study_content: dict[str, Any]) -> None:
    del study_content["keep"]
    assert Study(**study_content).budgets == CURVE
    refined = Study(**study_content | {"keep": [200, 100, 60], "refine": True})
    assert refined.between == {100: 150, 60: 80}
    assert tuned_as("coverage_centric@80", refined.between) == "coverage_centric@60"
    assert tuned_as("coverage_centric@60", refined.between) == "coverage_centric@60"
    assert Study(**refined.model_dump(mode="json")) == refined


@pytest.mark.parametrize("budgets", [[0.5], pytest.param([0.5, 0.1], marks=pytest.mark.nightly)])
def test_from_a_csv_to_the_report(budgets: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds in stages, a refined budget, what it saves and time to accuracy, in one study of the shell."""
    rng, studies = np.random.default_rng(0), tmp_path / "studies"
    studies.mkdir()
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x", "y", "label"])
        for row in range(160):
            writer.writerow([*(rng.normal(size=2) + 2 * (row % 2)).round(3), "ab"[row % 2]])
    config = {"model": "mlp", "model_settings": {"hidden": [4]}, "batch_size": 16, "learning_rate": 0.02}
    study = {
        "name": "mine",
        "source": {"kind": "csv", "train": "../rows.csv", "test_fraction": 0.4},
        "columns": {"features": ["x", "y"], "label": "label"},
        "proxy": config | {"epochs": 1},
        "scores": {"el2n": {}},
        "selections": {"hardest": {"selector": "top", "score": "el2n"}, "rs2": {}},
        "keep": budgets,
        "refine": len(budgets) > 1,
        "seeds": {"from": 2, "to": 3},
        "training": config | {"epochs": 4},
        "margin": 25,
        "cost_per_hour": 3.6,
        "time_to": {"shares": [0.5], "evaluations": 4},
    }
    (studies / "mine.yaml").write_text(yaml.safe_dump(study))
    monkeypatch.setenv("SECATEUR_STUDIES", str(studies))
    runner = CliRunner()
    result = runner.invoke(app, ["run", "mine", "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    report = json.loads(Path(answer["report_file"]).with_name("report.json").read_text())
    ran = {(trial["selection"], trial["seed"]) for trial in answer["trials"]}
    claims = {(claim["arm"], claim["keep"]): claim for claim in report["recommendation"]["claims"]}
    for (arm, keep), claim in claims.items():
        assert {(f"{arm}@{keep}", seed) for seed in range(claim["seeds"])} <= ran
        assert claim["state"] != "needs more seeds"
    assert report["looks"] == [2, 3]
    assert {seed for _, seed in ran} <= {0, 1, 2}
    assert answer["manifest"].endswith(f"/{report['recommendation']['selection']}/0")
    row = next(row for row in report["saving"]["rows"] if row["selection"] == "hardest@0.5")
    assert row["once"]["proxy"]["samples"] == row["of"], "one epoch of everything"
    assert (row["steps"], row["pays_from"] is None) == (row["full_steps"] / 2, row["saves"] is not True)
    assert row["money"] == pytest.approx(row["seconds"] / 1000)
    timed = {row["selection"] for row in report["time_to_accuracy"]["rows"]}
    assert {"full", "rs2@0.5", f"hardest@{budgets[-1]}"} <= timed
    if len(budgets) == 1:
        return
    again = json.loads(runner.invoke(app, ["run", "mine", "--json"]).stdout)
    assert again["made"] == 0
    assert again["trials"] == answer["trials"]
