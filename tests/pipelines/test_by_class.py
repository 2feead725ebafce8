"""Effects of selections on classes: recalls in outcomes, lost classes, tables, findings, floors of metrics."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secateur.pipelines.pages.alerts import alerts_of
from secateur.pipelines.pages.by_class import MOST, class_tables
from secateur.pipelines.pages.cells import cells
from secateur.pipelines.pages.page import page_of
from secateur.pipelines.pages.report import Report, build_report
from secateur.pipelines.pages.tables import main_table, measures_table, terminal_table
from secateur.pipelines.runs.by_class import RECALLS, by_class, lost_findings
from secateur.pipelines.runs.deciding import metrics_of, why
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.trainers.judging.comparison import Verdict
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.regression import Regression

WriteStudy = Callable[..., StudyFile]
NAMES = ("plain", "<b>bold</b> | [x](http://y)", "absent")
COUNTS = (50, 20, 0)
SOURCE: dict[str, Any] = {
    "task": Classification(3, NAMES, (100, 10, 10)).state(),
    "label_names": list(NAMES),
    "test_counts": list(COUNTS),
}


@pytest.fixture
def study(write_study: WriteStudy) -> Study:
    loaded = write_study(seeds=2, keep=[0.25, 60]).study
    assert isinstance(loaded, Study)
    return loaded


def outcome(recall: float, seed: int, **other: Any) -> Outcome:
    recalls = [0.9, recall + 0.01 * seed, None]
    known = np.array(recalls[:2], np.float64)
    metrics = {
        "balanced_accuracy": known.mean(), "accuracy": 0.8, "worst_class_accuracy": known.min(), "loss": 0.5,
    }  # fmt: skip
    facts = {RECALLS: recalls}
    return Outcome.model_validate({"metrics": metrics, "kept": 30, "of": 120, "facts": facts} | other)


def outcomes_of(study: Study, **recalls: float) -> dict[Trial, Outcome]:
    return {
        trial: outcome(recalls.get(trial.selection.replace("@", "_at_"), 0.6), trial.seed) for trial in study.trials
    }


def report_of(study: Study, outcomes: dict[Trial, Outcome]) -> Report:
    effects = by_class(study, outcomes, SOURCE)
    return build_report(study, outcomes, why(study, SOURCE), metrics=metrics_of(study, SOURCE), by_class=effects)


def test_lost_classes_are_marked_in_tables_and_findings(study: Study, tmp_path: Path) -> None:
    outcomes = outcomes_of(study, hardest_at_60=0.05, coverage_centric_at_60=0.3)
    outcomes |= {Trial("hardest@0.25", seed): outcome(0.0, seed) for seed in range(2)}
    outcomes |= {key: each.model_copy(update={"kept": 60}) for key, each in outcomes.items() if key.keep == 60}
    report = report_of(study, outcomes)
    found = report.by_class
    assert found
    assert set(found.lost) == {"hardest@60", "hardest@0.25"}
    [lost] = found.lost["hardest@60"]
    assert (lost.name, lost.test_samples) == (NAMES[1], 20)
    assert [lost.recall, lost.random, lost.whole] == pytest.approx([0.055, 0.605, 0.605])
    [finding] = lost_findings(study, found)
    assert finding["text"] == (
        "hardest at 60 loses class '<b>bold</b> | [x](http://y)': 5.5% of its 20 test samples are found, 60.5% by "
        "random and 60.5% with everything; it loses some at 0.25, too"
    )
    assert (finding["kind"], finding["count"], finding["selection"]) == ("lost class", 1, "hardest@60")
    (first, table), (second, _) = class_tables(report)
    assert (first, second) == ("Found of each class at 0.25", "Found of each class at 60")
    assert table[0] == [
        "class", "test samples", "full set %", "random %", "coverage_centric %", "hardest %", "stratified random %",
    ]  # fmt: skip
    assert table[1] == [NAMES[1], "20", "60.5", "60.5", "60.5", "▼ 0.5", "60.5"]
    assert table[2][:3] == ["plain", "50", "90.0"]
    assert table[3] == ["absent", "0", "", "", "", "", ""]
    worst = {(line[0], line[1]): line[-1] for line in main_table(report)}
    assert (worst["hardest", "60"], worst["hardest", "30"]) == ("▼ 5.5", "▼ 0.5")
    assert (worst["coverage_centric", "60"], worst["full set", "30"]) == ("30.5", "60.5")
    assert [cell.mood for line in cells(main_table(report)) for cell in line if cell.text == "▼ 5.5"] == ["bad"]
    shown = terminal_table({"table": main_table(report)}, 200)
    assert any(line[-1] == "▼ 5.5" for line in shown)
    page_of(report, findings=[finding | {"importance": 0}]).write(tmp_path)
    text, html = (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()
    assert "<b>" not in text.replace("\\<b", "")
    assert "<b>" not in html.partition('id="library"')[0]
    assert "[x](http" not in text
    assert "| ▼ 5.5 |" in text
    assert re.search(r'<td class="number bad"[^>]*>▼ 5.5</td>', html)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["by_class"]["recalls"]["hardest@60"] == [0.9, pytest.approx(0.055), None]
    assert content["by_class"]["lost"]["hardest@60"][0]["name"] == NAMES[1]


def test_a_class_that_is_never_found_does_not_mark_the_worst_one_as_lost(study: Study) -> None:
    outcomes = outcomes_of(study)
    for trial, each in outcomes.items():
        recalls = [0.0, 0.05 if trial.name == "hardest" else 0.6, 0.9]
        outcomes[trial] = each.model_copy(update={"facts": {RECALLS: recalls}})
    report = build_report(
        study,
        outcomes,
        metrics=metrics_of(study, SOURCE),
        by_class=by_class(study, outcomes, SOURCE | {"test_counts": [50, 20, 20]}),
    )
    assert report.by_class
    assert "hardest@60" in report.by_class.lost
    assert not any("▼" in line[-1] for line in main_table(report))


def test_an_alert_says_whether_what_is_recommended_is_concerned(study: Study) -> None:
    outcomes = outcomes_of(study, hardest_at_60=0.05, coverage_centric_at_60=0.05)
    outcomes |= {key: each.model_copy(update={"kept": 60}) for key, each in outcomes.items() if key.keep == 60}
    report = report_of(study, outcomes)
    assert report.recommendation
    leak = {"kind": "leaked", "split": "test", "count": 2, "text": "two rows", "rows": []}
    findings = [*lost_findings(study, report.by_class), leak]
    assert [one["selection"] for one in findings[:2]] == ["coverage_centric@60", "hardest@60"]

    def alerts(chosen: str) -> list[tuple[str, str]]:
        assert report.recommendation
        answer = replace(report.recommendation, selection=chosen)
        return [(lead, text[:40]) for lead, text in alerts_of(replace(report, recommendation=answer), findings)]

    concerned = ("Before you rely on this:", f"the recommended subset: {findings[1]['text']}"[:40])
    leaked = ("Before you rely on this:", "two rows")
    first = ("Of other selections:", findings[0]["text"][:40])
    assert alerts("hardest@60") == [concerned, leaked, first]
    for chosen in ("uniform_random@60", "hardest@0.25", "full"):
        clean = (f"The recommended subset loses no class. {first[0]}", first[1])
        assert alerts(chosen) == [leaked, clean]
    everything = replace(report, recommendation=replace(report.recommendation, selection="full"))
    assert alerts_of(everything, findings)[1][1].endswith("; others that lose one: hardest at 60")
    nothing = alerts_of(replace(report, recommendation=None), findings)
    assert nothing == [("Before you rely on this:", finding["text"]) for finding in findings]
    page = page_of(report, findings=[finding | {"importance": place} for place, finding in enumerate(findings)])
    assert (
        f"The recommended subset loses no class. Of other selections:</strong> {findings[0]['text'][:20]}"
        in page.html()
    )
    assert "The recommended subset loses no class. Of other selections: coverage" in page.markdown()


def test_a_lost_label_stands_beside_the_verdict(study: Study) -> None:
    report = report_of(study, outcomes_of(study, hardest_at_60=0.05))
    assert report.by_class
    labels = replace(report, by_class=replace(report.by_class, word="label"), recommendation=None)
    [finding] = lost_findings(study, labels.by_class)
    assert finding["kind"] == "lost label"
    assert (
        f"Before you rely on this: {finding['text'][:20]}"
        in page_of(labels, findings=[finding | {"importance": 0}]).markdown()
    )


def test_outcomes_of_before_and_of_numbers_have_no_classes(study: Study) -> None:
    old = {trial: each.model_copy(update={"facts": {}}) for trial, each in outcomes_of(study).items()}
    assert by_class(study, old, SOURCE) is None
    assert by_class(study, outcomes_of(study), {"task": SOURCE["task"]}) is None
    assert lost_findings(study, None) == []
    assert class_tables(report_of(study, old)) == []


def test_of_many_classes_those_that_fall_most_are_in_the_table(study: Study) -> None:
    names = tuple(f"class {number}" for number in range(150))
    source = {"task": Classification(150, names).state(), "label_names": list(names), "test_counts": [40] * 150}
    fallen = [0.8 - 0.005 * number for number in range(150)]
    outcomes = {
        trial: each.model_copy(update={"facts": {RECALLS: fallen if trial.name == "hardest" else [0.9] * 150}})
        for trial, each in outcomes_of(study).items()
    }
    report = build_report(study, outcomes, by_class=by_class(study, outcomes, source))
    title, table = class_tables(report)[0]
    assert title == "Found of each class at 0.25, the 30 of 150 that fall most"
    assert [line[0] for line in table[1:]] == list(reversed(names))[:MOST]
    [finding] = lost_findings(study, report.by_class)
    assert finding["count"] == sum(recall < 0.9 / 4 for recall in fallen)
    assert f"; and {finding['count'] - 1} other classes: 'class 148', 'class 147'" in finding["text"]
    assert len(json.dumps({RECALLS: fallen})) < 4000


def test_an_arm_at_the_floor_of_the_metric_that_decides_is_not_better(study: Study) -> None:
    """Others may be at theirs: by accuracy alone, a model that ranks well may always predict one class."""
    source = SOURCE | {"floors": {"balanced_accuracy": 0.5, "accuracy": 0.9}}
    metrics = metrics_of(study, source)
    assert [(one.name, one.floor) for one in metrics[:2]] == [("balanced_accuracy", 0.5), ("accuracy", 0.9)]
    for recall, verdict in ((0.1, Verdict.NO_BETTER), (0.12, Verdict.BETTER)):
        worse, other = outcomes_of(study.model_copy(update={"keep": [0.25]})), []
        for trial, each in worse.items():
            value = recall if trial.name == "hardest" else -0.3  # (0.9 + 0.1) / 2 is the floor
            share = (0.9 + value) / 2 + (1e-4 * trial.seed if trial.name != "hardest" else 0)
            other.append((trial, each.model_copy(update={"metrics": each.metrics | {"balanced_accuracy": share}})))
        short = study.model_copy(update={"keep": [0.25]})
        report = build_report(short, dict(other), metrics=metrics)
        row = next(row for row in report.rows if row.name == "hardest")
        assert row.against["random"].difference > 0.1
        assert row.against["random"].verdict is verdict
        assert ("(balanced accuracy % no better than 50.0)" in report.note) is True


def test_the_commonest_class_stands_below_other_measures(study: Study) -> None:
    source = SOURCE | {"floors": {"balanced_accuracy": 0.5, "accuracy": 50 / 70}}
    outcomes = outcomes_of(study)
    effects = by_class(study, outcomes, source)
    report = build_report(study, outcomes, metrics=metrics_of(study, source), by_class=effects)
    lines = measures_table(report)
    assert dict(zip(lines[0], lines[-1], strict=True)) == {
        "selection": "always the commonest class", "kept": "", "balanced accuracy %": "50.0", "accuracy %": "71.4",
        "worst class accuracy %": "", "loss nats": "",
    }  # fmt: skip
    assert "Class 'absent'" not in why(study, source)
    assert why(study, source).endswith("A model that always answers 'plain' has an accuracy of 71.4%. ")


def test_a_trial_without_the_metric_that_decides_is_named(study: Study) -> None:
    outcomes = outcomes_of(study)
    broken = Trial("hardest@60", 1)
    outcomes[broken] = outcomes[broken].model_copy(update={"metrics": {"accuracy": 0.8}})
    with pytest.raises(
        ValueError, match=r"metric: blobs has no balanced_accuracy of hardest@60, seed 1; name one of acc"
    ):
        report_of(study, outcomes)


def test_the_worst_class_is_shown_where_a_line_has_room(study: Study) -> None:
    report = report_of(study, outcomes_of(study))
    table = main_table(report)
    content = {"table": table}
    assert table[0][-1] == "worst class %"
    assert {line[-1] for line in table[1:]} == {"60.5"}
    assert terminal_table(content, 200)[0][-1] == "worst class %"
    assert terminal_table(content, 60)[0][-1] == "stratified"
    worst = study.model_copy(update={"metric": "worst_class_accuracy"})
    assert main_table(report_of(worst, outcomes_of(study)))[0][-1] == "stratified"


def test_regression_has_neither_classes_nor_floors_of_classes() -> None:
    task = Regression().fitted(np.arange(10.0))
    assert (task.recalls(np.zeros((3, 1)), np.zeros((3, 1))), task.floors(np.zeros((3, 1)))) == ([], {})
