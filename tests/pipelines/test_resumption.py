"""Finished work of the same inputs is not repeated; a killed run resumes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from secateur.pipelines.assets import tuning as tuning_assets
from secateur.pipelines.materialise import run_study
from secateur.pipelines.runs import proxy as proxy_runs
from secateur.pipelines.runs import training as training
from secateur.pipelines.storage.home import home
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial

WriteStudy = Callable[..., StudyFile]
SMALL: dict[str, Any] = {
    "keep": [0.25, 1.0],
    "seeds": 1,
    "proxy": {"model": "mlp", "model_settings": {"hidden": [8]}, "epochs": 2},
    "training": {"model": "mlp", "model_settings": {"hidden": [8]}, "epochs": 3, "batch_size": 32},
    "selections": {"hardest": {"selector": "top", "score": "el2n"}, "coverage_centric": {"score": "aum"}, "rs2": None},
    "distillation": {"for": ["rs2", "uniform_random"], "alpha": 0.5},
}


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every training: its caller and its seed."""
    seen: list[tuple[str, int]] = []

    def recording(where: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append((where, kwargs.get("seed", 0)))
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(training, "train", recording("trial", training.train))
    monkeypatch.setattr(proxy_runs, "train", recording("proxy", proxy_runs.train))
    monkeypatch.setattr(tuning_assets, "tune", recording("tuning", tuning_assets.tune))
    return seen


def run(file: StudyFile, root: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, root, instance)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.suffix in (".npy", ".safetensors")}


def trials_are_what_their_partitions_say(store: Store) -> None:
    """Masks, settings, costs and curves of SMALL."""

    def load(asset: str, selection: str) -> Any:
        return store.load(dg.AssetKey(["blobs", asset]), Trial(selection, 0))

    assert load("subset", "rs2@0.25").all()
    assert (load("subset", "uniform_random+kd@0.25") == load("subset", "uniform_random@0.25")).all()
    assert load("subset", "coverage_centric@1.0").all()
    assert load("subset_settings", "rs2+kd@0.25")["keep"] == 0.25
    for selection in ("rs2@0.25", "uniform_random+kd@0.25"):
        assert store.find(dg.AssetKey(["blobs", "manifest"]), Trial(selection, 0)) is None
    rs2, taught = load("evaluation", "rs2@0.25"), load("evaluation", "uniform_random+kd@0.25")
    assert (rs2["in_training"], rs2["kept"], rs2["samples_seen"], rs2["epochs"]) == (True, 30, 90, 3)
    assert set(rs2["compute"]) == {"training"}
    assert set(taught["compute"]) == {"training", "teacher"} | ({"choosing"} & set(taught["compute"]))
    assert taught["compute"]["teacher"]["forward"] == 120 * 3 + 120
    plain, hard = load("evaluation", "uniform_random@0.25"), load("evaluation", "hardest@0.25")
    assert hard["compute"]["proxy"]["backward"] == 240
    assert "proxy" not in plain["compute"]
    assert plain["metrics"]["loss"] != taught["metrics"]["loss"]
    curves = sorted(path.name for path in (home() / "tensorboard" / "blobs").iterdir())
    assert {"proxy-0", "full-0", "rs2+kd@0.25-0", "hardest@0.25-0"} <= set(curves)


def test_a_study_that_is_run_again_trains_what_has_changed_and_nothing_else(
    write_study: WriteStudy, tmp_path: Path, trainings: list[tuple[str, int]]
) -> None:
    root = tmp_path / "store"
    store = Store(root)
    run(write_study(**SMALL), root)
    # One of the five static trials that keep all samples, the full set's included, is trained.
    assert sorted(where for where, _ in trainings) == ["proxy", *["trial"] * (2 + 5 + 2 + 2), "tuning"]
    trials_are_what_their_partitions_say(store)
    first = contents(root)
    trainings.clear()
    run(write_study(**SMALL), root)
    assert trainings == []
    assert contents(root) == first
    longer = SMALL | {"training": {**SMALL["training"], "epochs": 4}}
    run(write_study(**longer), root)
    assert [where for where, _ in trainings if where == "proxy"] == []
    assert len([where for where, _ in trainings if where == "trial"]) == 11
    report = json.loads((store.load(dg.AssetKey(["blobs", "report"])) / "report.json").read_text())
    assert {row["steps"] for row in report["rows"]} == {4, 16}
    assert store.load(dg.AssetKey(["blobs", "evaluation"]), Trial("rs2+kd@0.25", 0))["epochs"] == 4


def test_a_proxy_of_two_runs_goes_on_behind_the_first(
    write_study: WriteStudy, tmp_path: Path, trainings: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = SMALL | {"proxy_runs": 2, "selections": {"rs2": None}, "keep": [0.25], "distillation": None}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(write_study(**content), whole)
    recorded = proxy_runs.train

    def fails_second(*args: Any, **kwargs: Any) -> Any:
        if kwargs["seed"] == 1:
            raise RuntimeError("the second run fails")
        return recorded(*args, **kwargs)

    monkeypatch.setattr(proxy_runs, "train", fails_second)
    with pytest.raises(RuntimeError, match="the second run fails"):
        run(write_study(**content), broken)
    monkeypatch.setattr(proxy_runs, "train", recorded)
    trainings.clear()
    run(write_study(**content), broken)
    assert [seed for where, seed in trainings if where == "proxy"] == [1]
    for name in ("aum", "el2n", "forgetting"):
        again, once = (np.load(root / "blobs" / "scores" / f"{name}.npy") for root in (broken, whole))
        assert (again == once).all()


def test_results_of_a_killed_run_are_counted_as_fresh(write_study: WriteStudy, tmp_path: Path) -> None:
    file = write_study(seeds=1, keep=[0.25])
    with dg.DagsterInstance.ephemeral() as instance:
        first = run_study(file, tmp_path / "store", instance)
        shutil.rmtree(tmp_path / "store" / "blobs" / ".ledger" / "graph")  # a step of a killed run records nothing
        again = run_study(file, tmp_path / "store", instance)
    assert first.fresh == 0
    assert again.made + again.fresh == first.made
    trained = len(list(file.study.trials)) if file.study else 0
    assert again.fresh >= 1 + trained  # the proxy and the trained models were reused
