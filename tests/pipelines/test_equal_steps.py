"""A study that compares at both lengths: its twins, their training lengths, and the sentences of the report."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_studies import read
from typer.testing import CliRunner

from secateur.pipelines.assets.training import cheap_first
from secateur.pipelines.commands.main import app
from secateur.pipelines.pages.equal_steps import sentences_of
from secateur.pipelines.pages.page import page_of
from secateur.pipelines.pages.report import SHORTER, build_report
from secateur.pipelines.pages.stages import first_stage
from secateur.pipelines.runs import training
from secateur.pipelines.runs.forecast import Rate, seconds_of_trials
from secateur.pipelines.storage.home import home
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.draft_length import first_length
from secateur.pipelines.studies.files import StudyError, StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.lengths import config_at
from secateur.pipelines.studies.samples import Study
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.judging.outcome import Outcome

WriteStudy = Callable[..., StudyFile]
EPOCHS = {"model": "mlp", "model_settings": {"hidden": [16]}, "epochs": 3, "batch_size": 32, "learning_rate": 0.02}
HARDEST = {"hardest": {"selector": "top", "score": "el2n"}}
BOTH: dict[str, Any] = {
    "training": EPOCHS,
    "compare_at": ["epochs", "steps"],
    "scores": {"el2n": {"epochs": 2}},
    "selections": HARDEST,
}


def test_every_selection_has_a_twin_at_every_budget_but_everything(write_study: WriteStudy) -> None:
    free = {"free": {"selector": "info_batch", "budget": "own"}}
    study = read(
        write_study(**BOTH | {"selections": HARDEST | {"rs2": {}} | free}, keep=[1.0, 0.5, 60], distillation={})
    )
    names = ("hardest", "rs2", "uniform_random", "stratified_random")
    expected = [f"{name}+steps@{keep}" for keep in ("0.5", "60") for name in names] + ["free+steps@own"]
    assert study.at_steps == study.selection_keys[-9:] == expected
    alone = read(write_study(**BOTH | {"compare_at": "epochs"}, keep=0.5))
    assert not any("+steps" in key for key in alone.selection_keys)
    assert read(write_study()).lengths == ("steps",)
    twin = Trial.parse("3|free+steps@own")
    assert (twin.plain, twin.at_steps, twin.distilled) == (Trial("free@own", 3), True, False)
    assert not Trial("hardest+kd@0.5", 0).at_steps
    assert study.title("uniform_random+steps") == "random at equal steps"
    assert "whose manifest says them" in study.why_no_manifest(Trial("hardest+steps@0.5", 0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training": {"model": "mlp", "steps": 9}}, r"write `training: \{epochs: …\}`, got steps: 9"),
        ({"compare_at": "steps"}, r"steps alone is what `training: \{steps: …\}` is for, and training gives epochs"),
        ({"compare_at": ["steps", "steps"]}, "can be listed once"),
        ({"compare_at": ["epochs", "hours"]}, "compare_at.*'epochs' or 'steps'"),
    ],
)
def test_lengths_that_cannot_be_are_refused(write_study: WriteStudy, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        write_study(**BOTH | changes)


def test_what_is_asked_for_changes_the_report_and_no_trial(write_study: WriteStudy) -> None:
    one, both = (read(write_study(**BOTH | {"compare_at": asked})) for asked in ("epochs", ["epochs", "steps"]))
    trial = Trial("hardest@0.25", 0)
    for asset, of in (("trained_model", trial), ("subset", trial), ("tuning", None), ("proxy", None)):
        assert one.decides(asset, of) == both.decides(asset, of)
    assert one.decides("report", None) != both.decides("report", None)


def test_trainings_are_foreseen_at_their_own_length(write_study: WriteStudy) -> None:
    study = read(write_study(**BOTH, keep=[0.25], seeds=1))
    config = TrainingConfig(**EPOCHS)
    twin = config_at(config, Trial("hardest+steps@0.25", 0), 120)
    assert (twin.epochs, twin.steps) == (None, 12)
    assert config_at(config, Trial("hardest@0.25", 0), 120) is config
    # Everything: 12 steps of 32. Three arms: 3 steps of 30, the twins 12.
    expected = 12 * 32 + 3 * 3 * 30 + 3 * 12 * 30
    assert seconds_of_trials(study, study.trials, Rate(2.0, 120, 0, "a test")) == 2.0 * expected


def test_twins_have_the_seeds_of_the_first_look(write_study: WriteStudy) -> None:
    study = read(write_study(**BOTH, keep="auto", seeds={"from": 2, "to": 8}))
    longer = [trial for trial in first_stage(study) if trial.at_steps]
    assert {trial.seed for trial in longer} == {0, 1}
    assert {trial.keep for trial in longer} == {0.9, 0.7, 0.5, 0.3, 0.1}


@pytest.mark.parametrize("rows", [800, 1_438, 4_000, 8_000, 16_000, 50_000, 80_000])
def test_a_first_study_keeps_within_the_room_of_trainings_of_middle_length(rows: int) -> None:
    batch = 32 if rows < 2_000 else 64 if rows < 20_000 else 128
    epochs, keep = min(30, max(3, round(120_000 / rows))), [0.9, 0.7, 0.5, 0.3, 0.1]
    found = first_length(rows, batch, epochs, 5, keep)
    whole = found.epochs * -(-rows // batch)
    alone = whole + 5 * sum(found.epochs * -(-int(part * rows + 0.5) // batch) for part in keep)
    room = (1 + 5 * 5) * max(100, min(1000, epochs * rows // batch // 2))
    assert alone <= room
    assert found.ratio == pytest.approx((alone + 25 * whole) / alone)
    assert not found.both or alone + 25 * whole <= 1.5 * room
    assert found.both == (rows <= 16_000)
    assert ("compare_at: [epochs, steps]" in found.lines()) == found.both


def planted(study: Study, values: Mapping[str, list[float]]) -> dict[Trial, Outcome]:
    """Outcomes by name of a selection, by default random's; twins take four times the steps."""
    usual = {"uniform_random": [0.80, 0.81, 0.79, 0.80, 0.805], "full": [0.90, 0.91, 0.895, 0.90, 0.905]}
    usual["uniform_random+steps"] = [0.85, 0.862, 0.841, 0.85, 0.856]
    values = usual | values
    found = {}
    for trial in study.trials:
        other = values["uniform_random+steps" if trial.at_steps else "uniform_random"]
        long = trial.at_steps or trial.selection == "full"
        found[trial] = Outcome(
            metrics={"accuracy": values.get(trial.name, other)[trial.seed]},
            steps=12 if long else 3,
            epochs=12 if trial.at_steps else 3,
            kept=120 if trial.selection == "full" else 30,
            of=120,
            compare_at="equal steps" if trial.at_steps else "equal epochs",
        )
    return found


def test_the_sentences_say_what_costs_the_samples_or_the_length(write_study: WriteStudy) -> None:
    study = read(write_study(**BOTH, keep=[0.25], seeds=5))
    good = {"hardest": [0.82, 0.83, 0.805, 0.82, 0.825], "hardest+steps": [0.903, 0.909, 0.899, 0.90, 0.909]}
    report = build_report(study, planted(study, good))
    first, alone, both = sentences_of(report)
    assert "as many optimiser steps as the full set (12)" in first
    assert alone == (
        "Worse than the full set at equal epochs and not shown to be at equal steps: hardest at 30 kept (-8.2, at "
        "equal steps +0.2). Trained as long, these samples show no loss: the shorter training is the cause."
    )
    assert both.startswith("Worse than the full set at both: random at 30 kept; stratified random at 30 kept. Th")
    harmed = {"hardest": [0.90, 0.913, 0.891, 0.903, 0.902], "hardest+steps": [0.70, 0.72, 0.695, 0.70, 0.71]}
    report = build_report(study, planted(study, harmed))
    told = " ".join(sentences_of(report))
    assert "Worse than the full set at equal steps alone: hardest at 30 kept (0.0, at equal steps -19.7)" in told
    assert "The longer training on so few samples does harm." in told
    assert "Better than random at equal epochs alone: hardest at 30 kept." in told
    page = page_of(report)
    assert all(sentence in page.markdown() for sentence in sentences_of(report))
    [part] = [part for part in page.parts if part.name == "equal-steps"]
    assert part.title == "At equal steps: value of the samples"
    assert page.verdict.endswith("over 5 seeds. Random did better than hardest at 30 kept.")
    assert "At equal steps: no selection did better than random" in page.verdict
    assert (
        build_report(study, planted(study, good)).recommendation
        == build_report(study, planted(study, good | {"hardest+steps": [0.1] * 5})).recommendation
    ), "what is recommended goes by equal epochs"


def test_twins_of_other_lengths_and_lacking_ones_are_refused(write_study: WriteStudy) -> None:
    study = read(write_study(**BOTH, keep=[0.25]))
    outcomes = planted(study, {})
    twin = Trial("hardest+steps@0.25", 1)
    other = outcomes | {twin: outcomes[twin].model_copy(update={"steps": 13})}
    with pytest.raises(ValueError, match=r"equal steps: trials were trained for \[12, 13\] steps"):
        build_report(study, other)
    lacking = {trial: one for trial, one in outcomes.items() if trial.name != "uniform_random+steps"}
    with pytest.raises(ValueError, match=r"keep 0\.25 at equal steps: uniform_random was not run"):
        build_report(study, lacking)


def shell(*words: str) -> str:
    done = CliRunner().invoke(app, ["run", *words])
    assert done.exit_code == 0, done.exception
    return done.stdout


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainingConfig, int, int | None]]:
    """Config, seed and number of kept samples (None under a sampler) of every training of a trial."""
    seen: list[tuple[TrainingConfig, int, int | None]] = []
    train = training.train

    def recording(data: Any, config: TrainingConfig, **how: Any) -> Any:
        seen.append((config, how["seed"], None if how["keep"] is None else int(how["keep"].sum())))
        return train(data, config, **how)

    monkeypatch.setattr(training, "train", recording)
    return seen


def test_a_twin_of_all_rows_is_everything(write_study: WriteStudy, tmp_path: Path) -> None:
    study, config = read(write_study(**BOTH, keep=[120, 60])), TrainingConfig(**EPOCHS)
    data: Any = range(120)
    trials = training.Trials(study, data, config, {}, {}, {}, Store(tmp_path), launch=lambda *_: pytest.fail("trained"))
    keep = np.ones(120, np.bool_)
    assert trials.config_of(Trial("hardest+steps@120", 0), keep) is config
    keep[60:] = False
    assert trials.config_of(Trial("hardest+steps@60", 0), keep).steps == 12


def test_the_fewest_samples_are_trained_on_first_and_twins_last(write_study: WriteStudy) -> None:
    study = read(write_study(**BOTH, keep=[0.5, 30, 1.0], seeds=2))
    trials = cheap_first(study, study.trials, 120)
    own = [trial for trial in trials if not trial.at_steps]
    assert trials[: len(own)] == own
    kept = [{0.5: 60, 30: 30, 1.0: 120}.get(trial.keep, 120) for trial in trials]
    assert kept[: len(own)] == sorted(kept[: len(own)])
    assert kept[len(own) :] == sorted(kept[len(own) :]) == [30] * 6 + [60] * 6


def holm_by_hand(p_values: dict[str, float]) -> dict[str, float]:
    """The k-th smallest of m p-values times m - k + 1, made to rise, at most 1."""
    ordered = pd.Series(p_values).sort_values()
    corrected = (ordered * np.arange(len(ordered), 0, -1)).cummax().clip(upper=1.0)
    return corrected.to_dict()


def test_a_run_at_both_lengths_trains_and_reports_what_it_should(
    write_study: WriteStudy, trained: list[tuple[TrainingConfig, int, int | None]]
) -> None:
    small = BOTH | {"selections": HARDEST | {"rs2": {}}, "keep": [0.25], "seeds": 3}
    path = str(write_study(**small | {"compare_at": "epochs"}).path)
    assert json.loads(shell(path, "--json"))["report"]["at_equal_steps"] is None
    kept = [each for config, *each in trained if config == TrainingConfig(**EPOCHS)]
    assert sorted(kept, key=str) == sorted([[seed, of] for seed in range(3) for of in (120, 30, 30, 30, None)], key=str)
    assert [of == 120 for _, of in kept] == [False] * 12 + [True] * 3, "the cheap ones first"
    trained.clear()
    write_study(**small)
    counted = {one["of"]: one["to_make"] for one in json.loads(shell(path, "--dry-run", "--json"))["trainings"]}
    assert counted == {"trials": 0, "trials at equal steps": 12, "proxy": 0}
    shown = shell(path)
    assert {config.steps for config, *_ in trained} == {12}, "of everything, which is not trained again"
    kept = [each for _, *each in trained]
    assert sorted(kept, key=str) == sorted([[seed, of] for seed in range(3) for of in (30, 30, 30, None)], key=str)
    folder = home() / "assets" / "blobs"
    numbers_are_those_of_the_trials(folder, json.loads((folder / "report" / "report.json").read_text()), shown)


def numbers_are_those_of_the_trials(folder: Path, report: dict[str, Any], shown: str) -> None:
    """Lengths, differences and p-values follow from the outcomes of the trials, and sentences from these."""
    stored = [
        {"selection": path.parent.name, "seed": int(path.stem), **json.loads(path.read_text())}
        for path in (folder / "evaluation").glob("*/*.json")
    ]
    table = pd.DataFrame(stored)
    table["accuracy"] = [each["accuracy"] for each in table["metrics"]]
    lengths = table.groupby("selection")[["steps", "epochs"]].agg(["min", "max"])
    assert lengths.loc["full"].to_list() == [12, 12, 3, 3]
    assert lengths.loc["hardest@0.25"].to_list() == [3, 3, 3, 3]
    assert lengths.loc["hardest+steps@0.25"].to_list() == lengths.loc["rs2+steps@0.25"].to_list() == [12, 12, 12, 12]
    values = table.pivot(index="seed", columns="selection", values="accuracy")
    found = report["at_equal_steps"]
    rows = {row["name"]: row for row in found["rows"]}
    main = {row["name"]: row for row in report["rows"]}
    assert [*rows] == [*main] == ["uniform_random", "stratified_random", "hardest", "rs2"]
    assert (main["hardest"]["steps"], rows["hardest"]["steps"], report["compare_at"]) == (3, 12, "equal epochs")
    assert report["saving"]["study"]["trainings"] == len(table)
    lost: dict[str, dict[str, bool]] = {}
    for kind, ending, other, column in (
        ("epochs", "@0.25", "the full set", "full"),
        ("steps", "+steps@0.25", "random", "uniform_random+steps@0.25"),
        ("steps", "+steps@0.25", "the full set", "full"),
        ("steps", "+steps@0.25", SHORTER, None),
    ):
        names = [name for name in rows if f"{name}{ending}" != column]
        pairs = {name: (values[f"{name}{ending}"], values[column or f"{name}@0.25"]) for name in names}
        assert all(np.ptp(mine - theirs) > 1e-9 for mine, theirs in pairs.values()), "a t-test each"
        raw = {name: float(stats.ttest_rel(*pair).pvalue) for name, pair in pairs.items()}
        for name, p_value in holm_by_hand(raw).items():
            compared = (rows if kind == "steps" else main)[name]["against"][other]
            assert compared["p_value"] == pytest.approx(p_value, rel=1e-9)
            assert compared["difference"] == pytest.approx((pairs[name][0] - pairs[name][1]).mean(), rel=1e-9)
            if column == "full":
                lost.setdefault(name, {})[kind] = p_value < 0.05 and compared["difference"] < 0
    told = " ".join(found["sentences"])
    assert any(each["epochs"] != each["steps"] for each in lost.values()), "nothing to tell"
    alone, _, both = told.partition("Worse than the full set at both")
    assert all(sentence in shown for sentence in found["sentences"])
    for name, each in lost.items():
        title = {"uniform_random": "random", "stratified_random": "stratified random"}.get(name, name)
        named = re.compile(rf"(?<!stratified ){title} at 30 kept")
        assert bool(named.search(alone)) == (each["epochs"] != each["steps"]), (name, told)
        assert bool(named.search(both)) == (each["epochs"] and each["steps"]), (name, told)
    assert shown.index("At equal epochs: savings") < shown.index("At equal steps: value of the samples")
    assert found["verdict"] in shown
