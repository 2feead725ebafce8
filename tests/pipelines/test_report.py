"""The report: pairing, fairness and the words of its verdict."""

from collections.abc import Callable
from typing import Any

import pytest

from secateur.pipelines.cells import Cell
from secateur.pipelines.report import Report, build_report
from secateur.pipelines.report_page import main_table, write_report
from secateur.pipelines.study import Study
from secateur.pipelines.study_file import StudyFile

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


def evaluations(study: Study, **accuracies: list[float]) -> dict[Cell, dict[str, Any]]:
    found = {}
    for cell in study.cells:
        values = accuracies.get(cell.name, [0.8, 0.81, 0.79, 0.80])
        found[cell] = metrics(values[cell.seed])
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
    found[Cell("hardest@0.25", 2)] = metrics(0.9, steps=60)
    with pytest.raises(ValueError, match=r"keep 0.25: cells were trained for \[30, 60\] steps"):
        build_report(study, SOURCE, found, {})


def test_a_missing_baseline_is_an_error(study: Study) -> None:
    found = {cell: value for cell, value in evaluations(study).items() if cell.name != "uniform_random"}
    with pytest.raises(ValueError, match="uniform_random not evaluated"):
        build_report(study, SOURCE, found, {})


def test_seeds_that_one_side_lacks_are_left_out_of_the_pairs(study: Study) -> None:
    found = evaluations(study)
    del found[Cell("hardest@0.25", 3)]
    assert row(build_report(study, SOURCE, found, {}), "hardest").accuracy.seeds == 3


def test_one_seed_says_nothing(write_study: WriteStudy) -> None:
    study = write_study(seeds=1, keep=[0.25]).study
    assert study is not None
    report = build_report(study, SOURCE, evaluations(study), {})
    assert "One seed says nothing" in report.verdict
    assert "one seed says nothing" in row(report, "hardest").against_random.verdict


def test_markup_in_names_stays_text(study: Study, tmp_path: Any) -> None:
    hostile = study.model_copy(update={"description": "<script>alert(1)</script>"})
    write_report(build_report(hostile, SOURCE, evaluations(study), {}), tmp_path)
    assert "<script>" not in (tmp_path / "report.html").read_text()
