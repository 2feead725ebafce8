"""A trial that never has a manifest is fresh without one."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg

from secateur.pipelines.assets.freshness import Freshness
from secateur.pipelines.definitions import build
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial


def test_a_trial_without_a_manifest_is_not_stale_for_want_of_one(
    write_study: Callable[..., StudyFile], tmp_path: Path
) -> None:
    file = write_study(
        keep=[0.25],
        selections={"hardest": {"selector": "top", "score": "el2n", "end": "high"}, "each_epoch": {"selector": "rs2"}},
        distillation={"for": ["hardest"], "teacher": {"model": "mlp", "epochs": 1}},
    )
    assert file.study
    graph = build([file], tmp_path).resolve_asset_graph()
    freshness = Freshness(Store(tmp_path), file.study, graph, {})
    fresh = {
        name: freshness.is_fresh(dg.AssetKey([file.study.name, "manifest"]), Trial(f"{name}@0.25", 0))
        for name in ("hardest", "hardest+kd", "each_epoch")
    }
    assert fresh == {"hardest": False, "hardest+kd": True, "each_epoch": True}
    epochs = dg.AssetKey([file.study.name, "epoch_manifest"])
    of_epochs = {name: freshness.is_fresh(epochs, Trial(f"{name}@0.25", 0)) for name in ("hardest", "each_epoch")}
    assert of_epochs == {"hardest": True, "each_epoch": False}
    trained = dg.AssetKey([file.study.name, "trained_model"])
    assert not freshness.is_fresh(trained, Trial("each_epoch@0.25", 0))
