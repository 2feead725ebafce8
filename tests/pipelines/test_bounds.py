"""Settings out of range are refused when a study loads, or before training where the limit depends on the rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import numpy as np
import pytest
import yaml

from secateur.pipelines.data.sources import SourceError
from secateur.pipelines.runs.possible import check_possible
from secateur.pipelines.studies.files import StudyError, load_study
from secateur.pipelines.studies.samples import Study
from secateur.scorers.registry import declared as scorers_of_all_units
from secateur.selectors.contract import declared as selectors_of_all_units
from secateur.selectors.samplers.contract import samplers
from secateur.trainers.experiments.contract import experiments

DECLARED = {**selectors_of_all_units(), **samplers(), **scorers_of_all_units(), **experiments()}


def free_numbers(annotation: Any) -> Iterator[Any]:
    """Numbers in an annotation without a bound."""
    if get_origin(annotation) is not Annotated:
        if annotation in (int, float):
            yield annotation
        for inner in get_args(annotation):
            yield from free_numbers(inner)


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_every_number_has_bounds(name: str) -> None:
    fields: dict[str, Any] = DECLARED[name].settings.model_fields  # type: ignore[attr-defined]
    free = [key for key, field in fields.items() if not field.metadata and [*free_numbers(field.annotation)]]
    assert free == []


def load(folder: Path, content: dict[str, Any]) -> Study:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    study = load_study(path)
    assert isinstance(study, Study)
    return study


OUT_OF_RANGE = [
    ({"quantile_window": {"score": "aum", "low": -0.1}}, ["quantile_window: low", "got -0.1"]),
    ({"quantile_window": {"score": "aum", "low": 0.5, "high": 0.5}}, ["quantile_window: ", "low < high"]),
    ({"w": {"selector": "quantile_window", "score": "aum", "high": float("nan")}}, ["w: high", "finite"]),
    ({"beta_sampling": {"score": "aum", "exponent": 0}}, ["beta_sampling: exponent", "greater than 0"]),
    ({"beta_sampling": {"score": "aum", "concentration": float("inf")}}, ["beta_sampling: concentration", "finite"]),
    ({"el2n_offset": {"offset": 1}}, ["el2n_offset: offset", "less than 1"]),
    ({"stochastic_facility_location": {"epsilon": 0.6}}, ["epsilon", "less than or equal to 0.5"]),
    ({"d2_pruning": {"score": "aum", "cutoff": 0.1, "gamma": -1}}, ["d2_pruning: gamma", "got -1"]),
    ({"seta": {"floor": 0.5}}, ["seta: floor is the least and keep the exact number"]),
    ({"info_batch": {"rule": "percentile", "quantiles": [0.2], "shares": []}}, ["info_batch: quantiles must rise"]),
    ({"subset_schedule": {"score": "aum", "keeps": [], "budget": "own"}}, ["subset_schedule: keeps"]),
]


@pytest.mark.parametrize(("selections", "words"), OUT_OF_RANGE, ids=lambda value: str(value)[:50])
def test_selections_out_of_range_are_refused_with_file_selection_and_key(
    selections: dict[str, Any], words: list[str], tmp_path: Path, study_content: dict[str, Any]
) -> None:
    with pytest.raises(StudyError) as refusal:
        load(tmp_path, study_content | {"selections": selections})
    for word in ["study.yaml", *words]:
        assert word in str(refusal.value)


SCORES = [
    ({"density": {"k": 0}}, {}, ["density: k", "got 0"]),
    ({"density": {"k": 11}}, {}, ["scores.density.k: 11", "neighbours.count: 10"]),
    ({"vog": None}, {}, ["checkpoints: ", "scores.vog", "at least 2, got 1"]),
    ({"vog": None}, {"checkpoints": 3, "proxy": {"epochs": 1}}, ["proxy.epochs: ", "scores.vog", "got 1"]),
]


@pytest.mark.parametrize(("scores", "others", "words"), SCORES, ids=str)
def test_scores_out_of_range_are_refused_with_file_score_and_key(
    scores: dict[str, Any], others: dict[str, Any], words: list[str], tmp_path: Path, study_content: dict[str, Any]
) -> None:
    with pytest.raises(StudyError) as refusal:
        load(tmp_path, study_content | {"scores": study_content["scores"] | scores} | others)
    for word in ["study.yaml", *words]:
        assert word in str(refusal.value)


def test_values_at_the_bounds_load(tmp_path: Path, study_content: dict[str, Any]) -> None:
    study_content["scores"] |= {"vog": None, "density": {"k": 10}, "mean_probability": None}
    study_content["selections"] = {
        "quantile_window": {"score": "aum", "low": 0, "high": 1},
        "stochastic_facility_location": {"epsilon": 0.5},
        "beta_sampling": {"score": "aum", "exponent": 1e-9, "concentration": 1},
        "seta": {"floor": 0.9, "budget": "own"},
    }
    load(tmp_path, study_content | {"checkpoints": 2, "proxy": {"epochs": 2}})


ROWS = [
    ({"selections": {"double_end": {"cutoff": 0.6}}, "keep": [0.5]}, "selections.double_end: keep asks"),
    ({"selections": {"w": {"selector": "quantile_window", "score": "aum", "high": 0.2}}, "keep": 30}, "leaves 20;"),
    ({"selections": {"seta": {"floor": 95, "budget": "own"}}}, "selections.seta: a floor of 95 samples is more"),
    ({"scores": {"aum": None, "vog": None}, "checkpoints": 2, "proxy": {"steps": 10, "batch_size": 10}}, "has 1"),
]


@pytest.mark.parametrize(("changes", "words"), ROWS, ids=lambda value: str(value)[:50])
def test_what_the_rows_decide_is_refused_before_training(
    changes: dict[str, Any], words: str, tmp_path: Path, study_content: dict[str, Any]
) -> None:
    content = study_content | {"selections": {"top": {"score": "aum", "end": "high"}}} | changes
    study = load(tmp_path, content)
    with pytest.raises(SourceError, match=words):
        check_possible(study, np.arange(100) % 2, ("a", "b"), 2)


def test_a_budget_of_all_rows_keeps_all_whatever_the_settings_leave(
    tmp_path: Path, study_content: dict[str, Any]
) -> None:
    content = study_content | {"selections": {"double_end": {"cutoff": 0.4}}, "keep": [0.6, 1.0]}
    check_possible(load(tmp_path, content), np.arange(100) % 2, ("a", "b"), 2)
