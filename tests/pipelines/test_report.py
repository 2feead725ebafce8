"""The report: pairing, fairness and the words of its verdict."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secateur.pipelines.pages.page import compute_table, main_table, note, page_of, plots_of
from secateur.pipelines.pages.report import Report, build_report
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.trainers.judging.comparison import compare

SOURCE = {"samples": 120, "test_samples": 60}
WriteStudy = Callable[..., StudyFile]


def metrics(accuracy: float, steps: int = 30, kept: int = 30, **other: Any) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "worst_class_accuracy": accuracy - 0.2,
        "calibration_error": 0.05,
        "loss": 0.5,
        "steps": steps,
        "epochs": 10,
        "samples_seen": 10 * kept,
        "kept": kept,
        "in_training": False,
        "compare_at": "equal steps",
        "compute": {"training": {"forward": 10 * kept, "backward": 10 * kept, "seconds": 1.0}},
        **other,
    }


def evaluations(study: Study, **accuracies: list[float]) -> dict[Trial, dict[str, Any]]:
    found = {}
    for trial in study.trials:
        values = accuracies.get(trial.name, [0.8, 0.81, 0.79, 0.80])
        found[trial] = metrics(values[trial.seed])
    return found


@pytest.fixture
def study(write_study: WriteStudy) -> Study:
    loaded = write_study(seeds=4, keep=[0.25]).study
    assert loaded is not None
    return loaded


def row(report: Report, name: str) -> Any:
    return next(row for row in report.rows if row.name == name)


def test_a_clear_gain_is_called_better_and_a_clear_loss_worse(study: Study) -> None:
    found = evaluations(study, hardest=[0.90, 0.912, 0.892, 0.90], coverage_centric=[0.70, 0.712, 0.69, 0.70])
    report = build_report(study, SOURCE, found, {})
    assert row(report, "hardest").against_random.verdict.startswith("better than random (+10.1 points")
    assert row(report, "coverage_centric").against_random.verdict.startswith("worse than random")
    assert report.verdict == (
        "Better than random at the same budget, over 4 seeds: hardest at 30 kept; the others were not."
    )


def test_noise_is_called_no_better(study: Study) -> None:
    report = build_report(study, SOURCE, evaluations(study, hardest=[0.83, 0.78, 0.82, 0.79]), {})
    assert row(report, "hardest").against_random.verdict.startswith("no better than random")
    assert report.verdict == "No selection did better than random at the same budget, over 4 seeds."


def test_baselines_come_first_and_full_last(study: Study) -> None:
    lines = main_table(build_report(study, SOURCE, evaluations(study), {}))
    assert [line[0] for line in lines] == [
        "selection", "random", "stratified random", "coverage_centric", "hardest", "full set",
    ]  # fmt: skip
    assert lines[1][4] == "the baseline"
    assert lines[1][2] == "80.0 ± 1.3"


def test_unequal_steps_are_not_compared(study: Study) -> None:
    found = evaluations(study)
    found[Trial("hardest@0.25", 2)] = metrics(0.9, steps=60)
    with pytest.raises(ValueError, match=r"keep 0.25: trials were trained for \[30, 60\] steps"):
        build_report(study, SOURCE, found, {})


def test_unequal_epochs_are_not_compared_and_unequal_steps_are_marked(study: Study) -> None:
    found = {trial: {**value, "compare_at": "equal epochs"} for trial, value in evaluations(study).items()}
    for seed in range(4):
        found[Trial("hardest@0.25", seed)] |= {"steps": 45, "in_training": True, "accuracy": 0.9 + 0.001 * seed}
    report = build_report(study, SOURCE, found, {})
    assert report.compare_at == "equal epochs"
    assert row(report, "hardest").steps_ratio == 1.5
    assert row(report, "coverage_centric").steps_ratio is None
    line = next(line for line in main_table(report) if line[0].startswith("hardest"))
    assert line[:2] == ["hardest †", "30 per epoch"]
    assert "hardest † at 30 kept (1.5 times its steps)" in report.verdict
    assert "not as many optimiser steps" in note(report)
    assert [line[2] for line in compute_table(report) if line[0] == "hardest †"] == ["45 (1.5 x) †"]
    assert b"hollow: unequal optimiser steps" in plots_of(report)["accuracy"]
    found[Trial("hardest@0.25", 2)] |= {"epochs": 11}
    with pytest.raises(ValueError, match=r"keep 0.25: trials were trained for \[10, 11\] epochs"):
        build_report(study, SOURCE, found, {})


def test_trials_of_two_kinds_of_configs_are_not_compared(study: Study) -> None:
    found = evaluations(study)
    found[Trial("hardest@0.25", 2)] = metrics(0.9, compare_at="equal epochs")
    with pytest.raises(ValueError, match="equal epochs and for equal steps; train them again alike"):
        build_report(study, SOURCE, found, {})


@pytest.fixture
def taught(write_study: WriteStudy) -> Study:
    loaded = write_study(seeds=4, keep=[0.25], distillation={"for": ["uniform_random", "hardest", "full"]}).study
    assert loaded is not None
    return loaded


def test_a_twin_stands_beside_its_plain_self_and_random_with_the_same_teacher(taught: Study) -> None:
    random, hard = [0.80, 0.81, 0.79, 0.80], [0.81, 0.82, 0.79, 0.80]
    found = evaluations(
        taught,
        **{
            "uniform_random": random,
            "hardest": hard,
            "uniform_random+kd": [0.84, 0.842, 0.83, 0.841],
            "hardest+kd": [0.90, 0.911, 0.889, 0.90],
        },
    )
    report = build_report(taught, SOURCE, found, {})
    names = [row.name for row in report.rows]
    assert names == [
        "uniform_random", "uniform_random+kd", "stratified_random", "coverage_centric", "hardest", "hardest+kd",
    ]  # fmt: skip
    twin = row(report, "hardest+kd")
    assert twin.title == "hardest + KD"
    assert twin.against_plain.difference == pytest.approx(0.095)
    alone = compare({"hardest": [0.90, 0.911, 0.889, 0.90]}, [0.84, 0.842, 0.83, 0.841])["hardest"]
    assert twin.against_taught_random.difference == pytest.approx(alone.difference)
    assert twin.against_taught_random.p_value == pytest.approx(alone.p_value)
    assert row(report, "uniform_random+kd").against_plain.verdict.startswith("better than the same samples")
    assert row(report, "uniform_random+kd").against_taught_random is None
    assert row(report, "hardest").against_plain is None
    assert report.verdict.endswith(
        "With a teacher on both sides: Better than random at the same budget, over 4 seeds: hardest + KD at 30 kept."
    )


def test_twins_do_not_change_the_p_values_of_plain_selections(study: Study, taught: Study) -> None:
    hard = [0.82, 0.815, 0.80, 0.83]
    plain = build_report(study, SOURCE, evaluations(study, hardest=hard), {})
    both = build_report(taught, SOURCE, evaluations(taught, hardest=hard), {})
    assert row(plain, "hardest").against_random == row(both, "hardest").against_random


def test_a_selection_of_no_budget_is_set_beside_the_full_set(write_study: WriteStudy) -> None:
    chosen = {"free": {"selector": "info_batch", "budget": "own"}}
    study = write_study(seeds=4, keep=[0.25], selections=chosen, distillation={"for": ["full"]}).study
    assert study is not None
    found = evaluations(study, **{"full": [0.9, 0.91, 0.9, 0.92], "full+kd": [0.93, 0.94, 0.93, 0.951]})
    for seed in range(4):
        found[Trial("free@own", seed)] |= {"in_training": True, "samples_seen": 845, "kept": 120, "accuracy": 0.7}
    report = build_report(study, SOURCE, found, {})
    assert [row.name for row in report.whole] == ["full", "full+kd", "free"]
    full, twin, free = report.whole
    assert full.against_full is None
    assert twin.against_full.verdict.startswith("better than the full set")
    assert free.against_full.verdict.startswith("worse than the full set")
    assert (free.kept, free.size, free.random) == (84, "84 per epoch", None)


def test_every_measure_is_in_the_page(study: Study, tmp_path: Path) -> None:
    found = evaluations(study, hardest=[0.90, 0.912, 0.892, 0.90])
    compute = {"proxy": {"forward": 60, "backward": 60, "seconds": 4.0}, "scoring": {"forward": 30, "seconds": 1.0}}
    for seed in range(4):
        trial = found[Trial("hardest@0.25", seed)]
        trial["compute"] = {**trial["compute"], **compute}
    report = build_report(study, SOURCE, found, {})
    hard = row(report, "hardest")
    assert hard.compute["all"] == {"samples": 300 + 60 + 10, "seconds": 6.0}
    assert hard.worst_class.mean == pytest.approx(0.701)
    assert hard.calibration_error.mean == 0.05
    assert hard.loss.mean == 0.5
    page = page_of(report)
    page.write(tmp_path)
    pictures = page.plots
    assert set(pictures) == {"accuracy", "accuracy_by_samples", "accuracy_by_seconds", "difference"}
    html, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    for page in (html, text):
        for words in ("worst class %", "calibration error %", "loss, nats", "corrected p", "Cohen&#39;s d", "370"):
            assert words.replace("&#39;", "'") in page.replace("&#39;", "'")
        assert hard.against_random.verdict in page
        assert "Compared at equal steps" in page
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["compare_at"] == "equal steps"
    assert len(content["compute"]) == 1 + 4 + 1


def test_compute_saved_is_the_full_sets_less_all_that_a_selection_cost(study: Study) -> None:
    found = evaluations(study)
    proxy = {"forward": 150, "backward": 150, "seconds": 1.0}
    for seed in range(4):
        found[Trial("full", seed)]["compute"] = {"training": {"forward": 1200, "backward": 1200, "seconds": 4.0}}
        found[Trial("hardest@0.25", seed)]["compute"]["proxy"] = proxy
    lines = compute_table(build_report(study, SOURCE, found, {}))
    assert lines[0][-1] == "compute saved %"
    saved = {line[0]: line[-1] for line in lines[1:]}
    assert saved["random"] == "75"  # 300 of 1200 samples
    assert saved["hardest"] == "62"  # 300 + 150 of 1200, 62.5 % rounded to even
    assert saved["full set"] == "0"


def test_a_missing_baseline_is_an_error(study: Study) -> None:
    found = {trial: value for trial, value in evaluations(study).items() if trial.name != "uniform_random"}
    with pytest.raises(ValueError, match="uniform_random not evaluated"):
        build_report(study, SOURCE, found, {})


def test_seeds_that_one_side_lacks_are_left_out_of_the_pairs(study: Study) -> None:
    found = evaluations(study)
    del found[Trial("hardest@0.25", 3)]
    assert row(build_report(study, SOURCE, found, {}), "hardest").accuracy.seeds == 3


def test_one_seed_says_nothing(write_study: WriteStudy) -> None:
    study = write_study(seeds=1, keep=[0.25]).study
    assert study is not None
    report = build_report(study, SOURCE, evaluations(study), {})
    assert "One seed says nothing" in report.verdict
    assert "one seed says nothing" in row(report, "hardest").against_random.verdict


def test_markup_in_names_stays_text(study: Study, tmp_path: Any) -> None:
    hostile = study.model_copy(update={"description": "<script>alert(1)</script>"})
    page_of(build_report(hostile, SOURCE, evaluations(study), {})).write(tmp_path)
    assert "<script>" not in (tmp_path / "report.html").read_text()
