"""Steps that need the accelerator are in its pool: found by watching which steps call a network, not by a list."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import torch

from secateur.pipelines.assets.resources import ACCELERATOR
from secateur.pipelines.definitions import build
from secateur.pipelines.materialise import instance_at, run_study, set_pools
from secateur.pipelines.studies.files import SHIPPED, StudyFile, read_studies

WriteStudy = Callable[..., StudyFile]
CONFIG = {"model": "mlp", "model_settings": {"hidden": [4]}, "epochs": 1, "batch_size": 64}


def pools_by_step(files: list[StudyFile], root: Path) -> dict[str, str | None]:
    """The pool of each step of the graph of some studies."""
    graph = build(files, root).resolve_asset_graph()
    nodes = {graph.get(key).assets_def.node_def for key in graph.materializable_asset_keys}
    return {node.name: node.pool for node in nodes if isinstance(node, dg.OpDefinition)}


def test_every_step_that_calls_a_network_is_in_the_pool(write_study: WriteStudy, tmp_path: Path) -> None:
    file = write_study(
        proxy=CONFIG,
        training=CONFIG,
        scores={"aum": None, "checkpoint_loss": None, "density": None},
        selections={"coverage_centric": {"score": "aum"}, "herding": None},
        keep=[0.25],
        seeds=1,
        distillation={"for": ["uniform_random"]},
        recurring={"cron": "0 6 * * 1"},
    )
    calls: list[float] = []
    watch = torch.nn.modules.module.register_module_forward_pre_hook(lambda *_: calls.append(time.time()))
    try:
        with dg.DagsterInstance.ephemeral() as instance:
            run_study(file, tmp_path / "store", instance)
            steps = [step for run in instance.get_runs() for step in instance.get_run_step_stats(run.run_id)]
    finally:
        watch.remove()
    using = {step.step_key for step in steps if any(step.start_time <= call <= step.end_time for call in calls)}
    pools = pools_by_step([file], tmp_path / "store")
    expected = "proxy_training scoring_pass embeddings tuning teacher teacher_logits trained_model evaluation report"
    assert {f"blobs__{name}" for name in expected.split()} <= using
    assert {step for step in using if pools[step] != ACCELERATOR} == set()
    assert pools["blobs__neighbours"] == ACCELERATOR
    light = {name: pools[f"blobs__{name}"] for name in ("prepare", "scores__density", "subset", "manifest")}
    assert set(light.values()) == {None}


@pytest.mark.parametrize(
    "search",
    [file for file in read_studies([SHIPPED]) if file.study and file.study.kind == "search"],
    ids=lambda file: file.name,
)
def test_searches_evaluate_and_train_in_the_pool(search: StudyFile, tmp_path: Path) -> None:
    pools = pools_by_step([search], tmp_path)
    heavy: dict[str, Any] = {name: pool for name, pool in pools.items() if pool}
    assert {f"{search.name}__evaluations"} <= set(heavy)
    trained = f"{search.name}__trained_model"
    assert pools.get(trained, ACCELERATOR) == ACCELERATOR


def test_the_pool_of_the_accelerator_is_known_before_the_first_run_is_queued(tmp_path: Path) -> None:
    with instance_at(tmp_path) as instance:
        assert "accelerator" not in instance.event_log_storage.get_concurrency_keys()
        set_pools(instance)
        (limit,) = instance.event_log_storage.get_pool_limits()
        assert (limit.name, limit.limit) == ("accelerator", 1)
