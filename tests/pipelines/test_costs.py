"""Costs of selections: training, and exactly the assets that they depend on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from secateur.pipelines.runs.costs import costs_of, parts_of, save_pass_cost, saved, total
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.trainers.judging.outcome import Cost, Outcome

TRAINED = Outcome(kept=30, of=120, compute={"training": Cost(100, 100, 2.0)})


@pytest.fixture
def study(write_study: Callable[..., StudyFile]) -> Study:
    loaded = write_study(
        scores={"aum": None, "el2n": None, "checkpoint_loss": None, "density": None},
        selections={
            "coverage_centric": {"score": "aum", "cutoff": 0.1},
            "dense": {"selector": "top", "score": "density"},
            "loss": {"selector": "top", "score": "checkpoint_loss"},
            "k_center": None,
            "rs2": None,
            "schedule": {"selector": "subset_schedule", "score": "aum", "budget": "own", "settings": {"keeps": [0.5]}},
        },
        distillation={"for": ["rs2", "uniform_random"]},
    ).study
    assert loaded
    return loaded


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Every asset's cost, each a power of two: a sum identifies its parts."""
    store = Store(tmp_path / "store")
    costs: dict[tuple[str, ...], dict[str, Any]] = {
        ("proxy_cost",): vars(Cost(1, 1, 1.0)),
        ("scoring_pass_cost",): {"model": "a", **vars(Cost(2, seconds=2.0))},
        ("scores_cost", "density"): vars(Cost(seconds=4.0)),
        ("embeddings_cost",): vars(Cost(8, seconds=8.0)),
        ("neighbours_cost",): vars(Cost(seconds=16.0)),
        ("teacher_cost",): vars(Cost(32, 32, 32.0)),
        ("teacher_logits_cost",): vars(Cost(64, seconds=64.0)),
    }
    for key, cost in costs.items():
        store.save(dg.AssetKey(["blobs", *key]), cost)
    return store


@pytest.mark.parametrize(
    ("selection", "seconds", "parts"),
    [
        ("full", 0, set()),
        ("uniform_random@0.25", 0, set()),
        ("rs2@0.25", 0, set()),
        ("schedule", 1, {"proxy"}),
        ("coverage_centric@0.25", 1, {"proxy"}),
        ("loss@0.25", 1 + 2, {"proxy", "scoring"}),
        ("k_center@0.25", 1 + 8, {"proxy", "embeddings"}),
        ("dense@0.25", 1 + 4 + 8 + 16, {"proxy", "scoring", "embeddings", "neighbours"}),
        ("uniform_random+kd@0.25", 32 + 64, {"teacher"}),
        ("rs2+kd@0.25", 32 + 64, {"teacher"}),
    ],
)
def test_a_trial_is_charged_what_it_depends_on_and_nothing_else(
    selection: str, seconds: float, parts: set[str], study: Study, store: Store
) -> None:
    costs = costs_of(study, Trial(selection, 0), store, TRAINED)
    assert set(costs) == parts | {"training"}
    assert total(costs.values()).seconds == seconds + 2.0


def test_keeping_everything_needs_no_score(study: Study, store: Store) -> None:
    everything = TRAINED.model_copy(update={"kept": 120})
    assert set(costs_of(study, Trial("dense@1.0", 0), store, everything)) == {"training"}
    assert "teacher" in costs_of(study, Trial("uniform_random+kd@1.0", 0), store, everything)


def test_a_score_that_an_in_training_selection_reads_is_charged_though_it_keeps_every_sample(
    study: Study, store: Store
) -> None:
    everything = TRAINED.model_copy(update={"kept": 120})
    assert costs_of(study, Trial("schedule", 0), store, everything)["proxy"] == Cost(1, 1, 1.0)


def test_choosing_and_tuning_count(study: Study, store: Store) -> None:
    trial = Trial("coverage_centric@0.25", 1)
    store.save(dg.AssetKey(["blobs", "subset_cost"]), vars(Cost(seconds=0.5)), trial)
    store.save(dg.AssetKey(["blobs", "tuning_cost"]), {trial.selection: vars(Cost(7, 7, 3.0))})
    costs = costs_of(study, trial, store, TRAINED)
    assert costs["choosing"] == Cost(seconds=0.5)
    assert costs["tuning"] == Cost(7, 7, 3.0)


def test_a_shared_asset_is_charged_once(study: Study) -> None:
    found = parts_of(study, {"density", "embeddings", "neighbour_distances"})
    assert found["embeddings"] == [("embeddings_cost",)]
    assert found["neighbours"] == [("neighbours_cost",)]


def test_a_forward_pass_counts_a_third_of_a_sample_trained_on() -> None:
    assert Cost(90, 90, 1.0).samples == 90
    assert Cost(90, 0, 1.0).samples == 30
    assert Cost(180, 90, 1.0).samples == 120


def test_rows_that_were_scored_before_keep_their_cost(study: Study, tmp_path: Path) -> None:
    store, place = Store(tmp_path), ("scoring_pass_cost",)
    save_pass_cost(store, "blobs", "model a", 5.0, 100)
    save_pass_cost(store, "blobs", "model a", 0.1, 0)
    assert saved(study, store, place) == Cost(forward=100, seconds=5.0)
    save_pass_cost(store, "blobs", "model a", 1.0, 10)
    assert saved(study, store, place) == Cost(forward=110, seconds=6.0)
    save_pass_cost(store, "blobs", "model b", 2.0, 50)
    assert saved(study, store, place) == Cost(forward=50, seconds=2.0)
