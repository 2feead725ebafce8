"""The report: pairing, fairness, families of p-values, directions, and the words of its verdict."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from secateur.pipelines.commands.shell import table_of
from secateur.pipelines.pages.page import page_of, plots_of
from secateur.pipelines.pages.report import Report, build_report
from secateur.pipelines.pages.rows import PLAIN_TWIN
from secateur.pipelines.pages.tables import (
    compute_table,
    main_table,
    note,
    paired_table,
    saving_table,
    terminal_table,
)
from secateur.pipelines.pages.words import sentence
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.judging.comparison import Verdict
from secateur.trainers.judging.outcome import Cost, Outcome
from secateur.trainers.tasks.contract import Metric

SOURCE = {"samples": 120, "test_samples": 60}
USUAL = [0.8, 0.81, 0.79, 0.80]
WriteStudy = Callable[..., StudyFile]


def outcome(accuracy: float, steps: int = 30, kept: int = 30, **other: Any) -> Outcome:
    measured = {"accuracy": accuracy, "worst_class_accuracy": accuracy - 0.2, "calibration_error": 0.05, "loss": 0.5}
    content = {
        "metrics": measured,
        "steps": steps,
        "epochs": 10,
        "samples_seen": 10 * kept,
        "kept": kept,
        "of": 120,
        "compare_at": "equal steps",
        "compute": {"training": Cost(10 * kept, 10 * kept, 1.0)},
    }
    return Outcome.model_validate(content | other)


def outcomes_of(study: Study, **accuracies: list[float]) -> dict[Trial, Outcome]:
    return {trial: outcome(accuracies.get(trial.name, USUAL)[trial.seed]) for trial in study.trials}


def change(one: Outcome, *, accuracy: float | None = None, **other: Any) -> Outcome:
    metrics = one.metrics | ({} if accuracy is None else {"accuracy": accuracy})
    return one.model_copy(update={"metrics": metrics, **other})


def report_of(study: Study, outcomes: dict[Trial, Outcome]) -> Report:
    return build_report(study, outcomes, "Measured on 60 test samples after the last epoch.")


@pytest.fixture
def study(write_study: WriteStudy) -> Study:
    loaded = write_study(seeds=4, keep=[0.25]).study
    assert loaded is not None
    return loaded


def row(report: Report, name: str) -> Any:
    return next(row for row in report.rows if row.name == name)


def by_hand(families: dict[str, tuple[list[float], list[float]]]) -> dict[str, float]:
    """Holm's procedure by its definition: the k-th smallest of m p-values times m - k + 1, made to rise, at most 1."""
    raw = {name: float(stats.ttest_rel(*pair).pvalue) for name, pair in families.items()}
    order = sorted(raw, key=lambda name: raw[name])
    return {
        name: min(1.0, max((len(order) - before) * raw[other] for before, other in enumerate(order[: place + 1])))
        for place, name in enumerate(order)
    }


def test_a_clear_gain_is_called_better_and_a_clear_loss_worse(study: Study) -> None:
    outcomes = outcomes_of(study, hardest=[0.90, 0.912, 0.892, 0.90], coverage_centric=[0.70, 0.712, 0.69, 0.70])
    report = report_of(study, outcomes)
    better = row(report, "hardest").against["random"]
    assert better.verdict is Verdict.BETTER
    assert sentence(better, report.metric, "random").startswith("better than random (+10.1 points, p = ")
    assert row(report, "coverage_centric").against["random"].verdict is Verdict.WORSE
    assert report.verdict == (
        "Better than random at the same budget, over 4 seeds: hardest at 30 kept; the others were not. "
        "Random did better than coverage_centric at 30 kept."
    )


def test_noise_is_called_no_better(study: Study) -> None:
    report = report_of(study, outcomes_of(study, hardest=[0.83, 0.78, 0.82, 0.79]))
    assert row(report, "hardest").against["random"].verdict is Verdict.NO_BETTER
    assert report.verdict == "No selection did better than random at the same budget, over 4 seeds."


def test_baselines_come_first_and_full_last(study: Study) -> None:
    lines = main_table(report_of(study, outcomes_of(study)))
    header = ["selection", "kept", "accuracy %", "random %", "against random", "stratified", "worst class %"]
    assert lines[0] == header
    assert [line[-1] for line in lines[1:]] == ["60.0"] * 5
    assert [line[0] for line in lines[1:]] == [
        "random", "stratified random", "coverage_centric", "hardest", "full set",
    ]  # fmt: skip
    assert lines[1][4:-1] == ["the baseline", ""]
    assert lines[2][5] == ""
    assert lines[1][2] == "80.0 ± 1.3"
    assert lines[-1][4] == "nothing pruned"


def test_stratified_random_is_beside_every_selection_in_table_page_and_terminal(study: Study, tmp_path: Path) -> None:
    values = {
        "uniform_random": [0.70, 0.71, 0.69, 0.70],
        "stratified_random": [0.74, 0.742, 0.733, 0.74],
        "hardest": [0.742, 0.741, 0.734, 0.739],
        "coverage_centric": [0.60, 0.613, 0.59, 0.601],
    }
    report = report_of(study, outcomes_of(study, **values))
    strata = {name: (values[name], values["stratified_random"]) for name in ("hardest", "coverage_centric")}
    for name, p_value in by_hand(strata).items():
        assert row(report, name).against["stratified random"].p_value == pytest.approx(p_value, rel=1e-9)
    assert "stratified random" not in row(report, "uniform_random").against
    assert row(report, "hardest").against["random"].verdict is Verdict.BETTER
    cells = {line[0]: line[5] for line in main_table(report)}
    assert cells["hardest"] == "no better +0.0"
    assert cells["coverage_centric"] == "worse -13.8"
    page_of(report).write(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    for text in ((tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()):
        assert "worse -13.8" in text.replace("\N{MINUS SIGN}", "-")
        assert "worse than stratified random (-13.8 points" in text.replace("\N{MINUS SIGN}", "-")
    header, *lines = terminal_table(content)
    assert header == ["selection", "kept", "accuracy %", "against random", "stratified"]
    console = Console(width=80, force_terminal=False, record=True)
    console.print(table_of(header, lines, right=(1, 2)))
    shown = console.export_text().splitlines()
    assert len(shown) == 1 + len(lines)  # no line is folded
    assert any("coverage_centric" in line and "worse -13.8" in line for line in shown)


def test_unequal_steps_are_not_compared(study: Study) -> None:
    outcomes = outcomes_of(study)
    outcomes[Trial("hardest@0.25", 2)] = outcome(0.9, steps=60)
    with pytest.raises(ValueError, match=r"keep 0.25: trials were trained for \[30, 60\] steps"):
        report_of(study, outcomes)


def test_unequal_epochs_are_not_compared_and_unequal_steps_are_marked(study: Study) -> None:
    outcomes = {trial: change(each, compare_at="equal epochs") for trial, each in outcomes_of(study).items()}
    for seed in range(4):
        trial = Trial("hardest@0.25", seed)
        outcomes[trial] = change(outcomes[trial], steps=45, in_training=True, accuracy=0.9 + 0.001 * seed)
    report = report_of(study, outcomes)
    assert report.compare_at == "equal epochs"
    assert row(report, "hardest").steps_ratio == 1.5
    assert row(report, "coverage_centric").steps_ratio is None
    line = next(line for line in main_table(report) if line[0].startswith("hardest"))
    assert line[:2] == ["hardest †", "30 per epoch"]
    assert "hardest † at 30 kept (1.5 times its steps)" in report.verdict
    assert "not as many optimiser steps" in note(report)
    assert [line[2] for line in compute_table(report) if line[0] == "hardest †"] == ["45 (1.5 x) †"]
    assert b"hollow: unequal optimiser steps" in plots_of(report)["accuracy"]
    outcomes[trial] = change(outcomes[trial], epochs=11)
    with pytest.raises(ValueError, match=r"keep 0.25: trials were trained for \[10, 11\] epochs"):
        report_of(study, outcomes)


def test_trials_of_two_kinds_of_configs_are_not_compared(study: Study) -> None:
    outcomes = outcomes_of(study)
    outcomes[Trial("hardest@0.25", 2)] = outcome(0.9, compare_at="equal epochs")
    with pytest.raises(ValueError, match="equal epochs and for equal steps; train them again alike"):
        report_of(study, outcomes)


@pytest.fixture
def taught(write_study: WriteStudy) -> Study:
    loaded = write_study(seeds=4, keep=[0.25], distillation={"for": ["uniform_random", "hardest", "full"]}).study
    assert loaded is not None
    return loaded


TAUGHT = {
    "uniform_random": USUAL,
    "stratified_random": [0.81, 0.80, 0.80, 0.82],
    "coverage_centric": [0.80, 0.83, 0.80, 0.82],
    "hardest": [0.815, 0.827, 0.806, 0.811],
    "uniform_random+kd": [0.84, 0.842, 0.83, 0.841],
    "hardest+kd": [0.90, 0.911, 0.889, 0.90],
}


def test_a_twin_stands_beside_its_plain_self_and_random_with_the_same_teacher(taught: Study) -> None:
    report = report_of(taught, outcomes_of(taught, **TAUGHT))
    assert [row.name for row in report.rows] == [
        "uniform_random", "uniform_random+kd", "stratified_random", "coverage_centric", "hardest", "hardest+kd",
    ]  # fmt: skip
    twin = row(report, "hardest+kd")
    assert twin.title == "hardest + KD"
    gain = np.mean(TAUGHT["hardest+kd"]) - np.mean(TAUGHT["hardest"])
    assert twin.against[PLAIN_TWIN].difference == pytest.approx(gain)
    alone = by_hand({"hardest+kd": (TAUGHT["hardest+kd"], TAUGHT["uniform_random+kd"])})
    assert twin.against["random + KD"].p_value == pytest.approx(alone["hardest+kd"], rel=1e-9)
    assert row(report, "uniform_random+kd").against[PLAIN_TWIN].verdict is Verdict.BETTER
    assert "random + KD" not in row(report, "uniform_random+kd").against
    assert PLAIN_TWIN not in row(report, "hardest").against
    assert report.verdict.endswith(
        "With a teacher on both sides: Better than random at the same budget, over 4 seeds: hardest + KD at 30 kept."
    )


def test_all_comparisons_with_random_that_the_table_shows_are_one_family(taught: Study) -> None:
    values = TAUGHT | {"uniform_random+kd": [0.80, 0.84, 0.79, 0.82]}
    report = report_of(taught, outcomes_of(taught, **values))
    others = {name: (each, USUAL) for name, each in values.items() if name != "uniform_random"}
    expected = by_hand(others)
    assert len(expected) == 5
    shown = {row.name: row.against["random"] for row in report.rows if "random" in row.against}
    assert {name: each.p_value for name, each in shown.items()} == pytest.approx(expected, rel=1e-9)
    # Twins cost power: without them the family is smaller.
    plain = by_hand({name: pair for name, pair in others.items() if not name.endswith("+kd")})
    assert plain["hardest"] < expected["hardest"]
    text = note(report)
    assert "one family per budget: all comparisons with random in this table, twins with a teacher included." in text
    for other in ("stratified random", PLAIN_TWIN, "random + KD", "the full set"):
        assert f"with {other}" in text.partition("Comparisons")[2]


def test_the_note_names_no_twins_where_there_are_none(study: Study) -> None:
    text = note(report_of(study, outcomes_of(study)))
    assert (
        "all comparisons with random in this table. Comparisons with stratified random, with the full set are" in text
    )
    assert "Measured on 60 test samples after the last epoch." in text
    assert "higher is better" in text


def test_a_selection_of_no_budget_is_set_beside_the_full_set(write_study: WriteStudy) -> None:
    chosen = {"free": {"selector": "info_batch", "budget": "own"}}
    study = write_study(seeds=4, keep=[0.25], selections=chosen, distillation={"for": ["full"]}).study
    assert study is not None
    outcomes = outcomes_of(study, **{"full": [0.9, 0.91, 0.9, 0.92], "full+kd": [0.93, 0.94, 0.93, 0.951]})
    for seed in range(4):
        trial = Trial("free@own", seed)
        outcomes[trial] = change(outcomes[trial], in_training=True, samples_seen=845, kept=120, accuracy=0.7)
    report = report_of(study, outcomes)
    assert [row.name for row in report.whole] == ["full", "full+kd", "free"]
    full, twin, free = report.whole
    assert full.against == {}
    assert twin.against["the full set"].verdict is Verdict.BETTER
    assert free.against["the full set"].verdict is Verdict.WORSE
    assert (free.kept, free.random) == (84, None)
    assert [line[1] for line in main_table(report)][-1] == "84 per epoch"
    assert [line[4] for line in main_table(report)][-1].endswith(", full set")


def test_every_measure_is_in_the_page(study: Study, tmp_path: Path) -> None:
    outcomes = outcomes_of(study, hardest=[0.90, 0.912, 0.892, 0.90])
    for seed in range(4):
        trial = Trial("hardest@0.25", seed)
        spent = outcomes[trial].compute | {"proxy": Cost(60, 60, 4.0), "scoring": Cost(30, 0, 1.0)}
        outcomes[trial] = change(outcomes[trial], compute=spent)
    report = report_of(study, outcomes)
    hard = row(report, "hardest")
    assert hard.compute["all"] == {"samples": 300 + 60 + 10, "seconds": 6.0}
    assert hard.metrics["worst_class_accuracy"].mean == pytest.approx(0.701)
    assert hard.metrics["calibration_error"].mean == 0.05
    assert hard.metrics["loss"].mean == 0.5
    page = page_of(report)
    page.write(tmp_path)
    assert set(page.plots) == {"accuracy", "accuracy_by_samples", "accuracy_by_seconds", "difference"}
    assert not [name for name, svg in page.plots.items() if b"mathdefault" in svg]
    html, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    said = sentence(hard.against["random"], report.metric, "random")
    for written in (html.replace("&#39;", "'"), text):
        for words in ("worst class accuracy %", "calibration error %", "loss nats", "corrected p", "Cohen's d", "370"):
            assert words in written
        assert said in written
        assert "Compared at equal steps" in written
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["compare_at"] == "equal steps"
    assert len(content["tables"]["compute"]) == 1 + 4 + 1
    told = next(each for each in content["rows"] if each["name"] == "hardest")["against"]["random"]
    assert told["verdict"] == "better"
    assert told["p_value"] == hard.against["random"].p_value
    assert "0/?" not in html


def test_compute_saved_is_the_full_sets_less_all_that_a_selection_cost(study: Study) -> None:
    outcomes = outcomes_of(study)
    for seed in range(4):
        full, hard = Trial("full", seed), Trial("hardest@0.25", seed)
        outcomes[full] = change(outcomes[full], compute={"training": Cost(1200, 1200, 4.0)})
        outcomes[hard] = change(outcomes[hard], compute=outcomes[hard].compute | {"proxy": Cost(150, 150, 1.0)})
    report = report_of(study, outcomes)
    assert compute_table(report)[0] == [
        "selection",
        "kept",
        "steps",
        "training",
        "proxy",
        *("all, samples or tokens", "all, seconds"),
    ]
    lines = saving_table(report)
    assert lines[0][-1] == "compute saved %"
    saved = {line[0]: line[-1] for line in lines[1:]}
    assert saved["random"] == "75"  # 300 of 1200 samples
    assert saved["hardest"] == "62"  # 300 + 150 of 1200, 62.5 % rounded to even
    assert saved["full set"] == "0"


def test_a_missing_baseline_is_an_error(study: Study) -> None:
    outcomes = {trial: each for trial, each in outcomes_of(study).items() if trial.name != "uniform_random"}
    with pytest.raises(ValueError, match="uniform_random was not run"):
        report_of(study, outcomes)


def test_seeds_that_one_side_lacks_are_left_out_of_the_pairs(study: Study) -> None:
    outcomes = outcomes_of(study)
    del outcomes[Trial("hardest@0.25", 3)]
    assert row(report_of(study, outcomes), "hardest").metrics["accuracy"].seeds == 3


def test_one_seed_says_nothing(write_study: WriteStudy) -> None:
    study = write_study(seeds=1, keep=[0.25]).study
    assert study is not None
    report = report_of(study, outcomes_of(study))
    assert "One seed says nothing" in report.verdict
    assert row(report, "hardest").against["random"].verdict is Verdict.ONE_SEED
    assert any("one seed says nothing" in line[-1] for line in paired_table(report))


def test_markup_in_names_stays_text(study: Study, tmp_path: Any) -> None:
    hostile = study.model_copy(update={"description": "<script>alert(1)</script>"})
    page_of(report_of(hostile, outcomes_of(study))).write(tmp_path)
    assert "<script>alert" not in (tmp_path / "report.html").read_text()


class Sugar(AnyStudy):
    """A study of a number that should be small."""

    kind: Literal["sugar"] = "sugar"
    name: str = "sugar"
    seeds: int = 3
    arms: ClassVar[tuple[str, ...]] = ("uniform_random", "near", "far")
    keep: ClassVar[tuple[int, ...]] = (30,)
    unit: ClassVar[str] = "sample"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("rmse", higher_is_better=False, unit="mmol/l"),
        Metric("r2", floor=0.0),
    )
    baseline: ClassVar[str] = "uniform_random"
    references: ClassVar[tuple[str, ...]] = ("full",)
    arm: ClassVar[str] = "selection"
    titles: ClassVar[dict[str, str]] = {"uniform_random": "random", "full": "full set"}

    def revision(self, base: Path, cache: Path) -> str:
        return ""

    def decides(self, asset: str, trial: Trial | None) -> dict[str, Any]:
        return {}


def test_of_an_error_less_is_better_everywhere(tmp_path: Path) -> None:
    rmse = Sugar.metrics[0]
    values = {
        "uniform_random@30": [52.0, 52.1, 51.9],
        "near@30": [41.5, 41.7, 41.3],
        "far@30": [1260.0, 1261.0, 1259.0],
    }
    report = build_report(
        Sugar(),
        {
            Trial(name, seed): Outcome(metrics={"rmse": error, "r2": 0.4}, kept=30, of=90)
            for name, errors in {**values, "full": [40.0, 40.2, 40.1]}.items()
            for seed, error in enumerate(errors)
        },
    )
    assert row(report, "near").against["random"].verdict is Verdict.BETTER
    assert row(report, "far").against["random"].verdict is Verdict.WORSE
    assert row(report, "uniform_random").against["the full set"].verdict is Verdict.WORSE
    assert report.verdict == (
        "Better than random at the same budget, over 3 seeds: near at 30 kept; the others were not. "
        "Random did better than far at 30 kept."
    )
    lines = {line[0]: line for line in main_table(report)}
    assert lines["selection"][2] == "rmse mmol/l"
    assert lines["near"][4].startswith("better -10.5 (p ")
    assert lines["far"][2].startswith("1,260")
    said = sentence(row(report, "near").against["random"], rmse, "random")
    assert said.startswith("better than random (-10.5 mmol/l, p = ")
    assert "Rmse mmol/l (lower is better)" in note(report)
    assert set(plots_of(report)) == {"rmse", "difference"}
    page_of(report).write(tmp_path)


@pytest.mark.parametrize(
    ("r2", "verdict"), [(-0.3, Verdict.NO_BETTER), (0.0, Verdict.NO_BETTER), (0.01, Verdict.BETTER)]
)
def test_models_that_learned_nothing_are_not_called_better(r2: float, verdict: Verdict) -> None:
    """For permuted targets, a model that saw small residuals stays near the mean: a smaller error without meaning."""
    errors = {"uniform_random@30": [52.0, 52.1, 51.9], "near@30": [41.5, 41.7, 41.3]}
    report = build_report(
        Sugar(),
        {
            Trial(name, seed): Outcome(metrics={"rmse": error, "r2": r2 if name == "near@30" else 0.4}, kept=30, of=90)
            for name, values in errors.items()
            for seed, error in enumerate(values)
        },
    )
    assert row(report, "near").against["random"].verdict is verdict
    assert ("near learned nothing" in report.note) == (verdict is Verdict.NO_BETTER)


def test_an_outcome_comes_back_from_json_and_wrong_ones_are_refused() -> None:
    one = outcome(0.8, facts={"curve": [1, 2]})
    content = json.loads(one.model_dump_json())
    assert Outcome.read(content, "here") == one
    assert Outcome.read(content, "here").compute["training"] == Cost(300, 300, 1.0)
    for wrong, said in (
        ({"steps": -1}, "steps"),
        ({"metrics": {"accuracy": float("nan")}}, "accuracy is nan, which is no result"),
        ({"kept": 300}, "300 kept of 120"),
        ({"of": None}, "kept and of go together"),
        ({"compare_at": "equal seconds"}, "compare_at"),
        ({"colour": 1}, "colour"),
    ):
        with pytest.raises(ValueError, match=f"evaluation of 0|x is no outcome of a trial .*{said}"):
            Outcome.read(content | wrong, "evaluation of x")
    with pytest.raises(ValueError, match="frozen"):
        one.steps = 3  # type: ignore[misc]


def test_a_row_of_any_metric_is_one_line_of_eighty_columns() -> None:
    head = ["selection", "kept", "mean average precision %", "against random", "stratified"]
    lines = [
        ["random", "16,281", "40.1 ± 12.9", "the baseline", ""],
        ["stratified random + KD", "16,281", "40.7 ± 13.0", "no better -13.38 (p 0.81)", "no better +10.6"],
    ]
    console = Console(width=80, force_terminal=False, record=True)
    console.print(table_of(head, lines, right=(1, 2)))
    shown = console.export_text().splitlines()
    assert [line.split()[0] for line in shown[-2:]] == ["random", "stratif…m"]
    assert shown[-1].split()[1:] == ["+", "KD", *" ".join(lines[1][1:]).split()]
    assert "precision %" in shown[1]


def test_long_names_are_shortened_in_their_middle(capsys: pytest.CaptureFixture[str]) -> None:
    name = "coverage_centric_with_a_floor_for_every_class_and_a_cutoff_of_a_tenth@0.25"
    Console(width=80).print(table_of(("selection", "verdict"), [(name, "no better than random, over five seeds")] * 2))
    lines = capsys.readouterr().out.splitlines()
    starts = [line for line in lines if line.startswith("coverage_centric")]
    assert len(starts) == 2
    assert all(line.split()[0].endswith("tenth@0.25") and "…" in line for line in starts)
