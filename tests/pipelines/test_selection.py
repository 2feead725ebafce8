"""Selections in training and taught twins, in a study's YAML."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from secateur.pipelines.studies.files import StudyError, load_study
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.selection import choosers
from secateur.selectors.contract import selectors
from secateur.selectors.samplers.contract import samplers


def load(folder: Path, content: dict[str, Any]) -> Study:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_study(path)


def test_selectors_and_samplers_share_one_namespace() -> None:
    assert not set(selectors()) & set(samplers())
    assert set(choosers()) == set(selectors()) | set(samplers()) - {"fixed_subset"}


def test_a_sampler_is_a_selection_with_its_own_settings(tmp_path: Path, study_content: dict[str, Any]) -> None:
    study_content["selections"] |= {"rs2": None, "gentle": {"selector": "info_batch", "prune": 0.3}}
    study = load(tmp_path, study_content)
    assert study.selections["rs2"].in_training
    assert not study.selections["hardest"].in_training
    assert study.selections["gentle"].settings == {"prune": 0.3}
    assert study.selections["gentle"].untuned == ()
    assert {"rs2@0.25", "gentle@60"} <= set(study.selection_keys)


def test_a_selection_of_no_budget_is_run_once(tmp_path: Path, study_content: dict[str, Any]) -> None:
    schedule = {"selector": "subset_schedule", "score": "aum", "keeps": [0.2, 60], "budget": "own"}
    study_content["selections"] |= {"growing": schedule, "free": {"selector": "seta", "budget": "own"}}
    keys = load(tmp_path, study_content).selection_keys
    assert [key for key in keys if "growing" in key or "free" in key] == ["growing@own", "free@own"]
    assert Trial("growing@own", 0).keep == 1.0


REFUSED = [
    ({"rs3": None}, ["rs3.selector", "did you mean 'rs2'", "coverage_centric", "seta"]),
    ({"coverage_centrik": None}, ["did you mean 'coverage_centric'", "info_batch"]),
    ({"info_batch": {"prune": 2}}, ["info_batch: prune", "less than or equal to 0.9", "got 2"]),
    ({"seta": {"windows": 3}}, ["seta: windows", "there are: prune, groups, window"]),
    ({"rs2": {"keep": 0.5}}, ["rs2.keep", "the study's budgets are held"]),
    ({"subset_schedule": {"score": "aum", "keeps": [0.5]}}, ["subset_schedule.budget", "budget: own"]),
    ({"subset_schedule": {"keeps": [0.5], "budget": "own"}}, ["reads a score", "aum, el2n"]),
    ({"top": {"score": "aum", "budget": "own"}}, ["top.budget", "keeps the study's budget"]),
    ({"rs2": {"budget": "own"}}, ["rs2: keep", "Field required"]),
    ({"rs2": {"classes": {"policy": "balanced"}}}, ["rs2.classes", "in training"]),
    ({"rs2": {"score": "aum"}}, ["rs2.score", "reads no score"]),
    ({"fixed_subset": None}, ["there is no 'fixed_subset'"]),
]


@pytest.mark.parametrize(("selections", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_wrong_samplers_are_refused_when_the_study_loads(
    selections: dict[str, Any], words: list[str], tmp_path: Path, study_content: dict[str, Any]
) -> None:
    with pytest.raises(StudyError) as refusal:
        load(tmp_path, study_content | {"selections": selections})
    for word in words:
        assert word in str(refusal.value)


def test_each_listed_selection_gets_a_twin_behind_it(tmp_path: Path, study_content: dict[str, Any]) -> None:
    study_content |= {"distillation": {"for": ["uniform_random", "hardest", "full"], "alpha": 0.5}, "keep": 0.25}
    assert load(tmp_path, study_content).selection_keys == [
        "full", "full+kd", "hardest@0.25", "hardest+kd@0.25", "coverage_centric@0.25", "uniform_random@0.25",
        "uniform_random+kd@0.25", "stratified_random@0.25",
    ]  # fmt: skip


def test_every_selection_has_a_twin_by_default(tmp_path: Path, study_content: dict[str, Any]) -> None:
    study = load(tmp_path, study_content | {"distillation": {}})
    names = {trial.name for trial in study.trials}
    assert {f"{name}+kd" for name in study.selections} <= names
    assert "full+kd" not in names


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"for": ["hardests"]}, ["distillation.for", "did you mean 'hardest'"]),
        ({"for": []}, ["distillation.for", "at least 1"]),
        ({"alfa": 0.5}, ["distillation.alfa", "there is no such key"]),
        ({"alpha": 2}, ["distillation.alpha", "less than or equal to 1"]),
        ({"teacher": {"model": "resnext", "steps": 3}}, ["no model is called 'resnext'"]),
    ],
    ids=str,
)
def test_wrong_distillation_is_refused(
    section: dict[str, Any], words: list[str], tmp_path: Path, study_content: dict[str, Any]
) -> None:
    with pytest.raises(StudyError) as refusal:
        load(tmp_path, study_content | {"distillation": section})
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "plain", "name", "keep"),
    [
        ("a-b+kd@0.1", "a-b@0.1", "a-b+kd", 0.1),
        ("full+kd", "full", "full+kd", 1.0),
        ("full", "full", "full", 1.0),
        ("a@30", "a@30", "a", 30),
        ("a+kd@own", "a@own", "a+kd", 1.0),
    ],
)
def test_a_twin_knows_its_plain_self(key: str, plain: str, name: str, keep: float) -> None:
    trial = Trial.parse(str(Trial(key, 3)))
    assert trial.plain == Trial(plain, 3)
    assert (trial.name, trial.keep, trial.distilled) == (name, keep, "+kd" in key)
