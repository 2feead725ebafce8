"""Scoring passes on a local Ray cluster of two nodes: equality with the local pass, kills, and error messages."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import torch
from two_nodes import environment

from secateur.pipelines.assets import scoring_pass as scoring_assets
from secateur.pipelines.definitions import build
from secateur.pipelines.runs.ray import RayPass, Scoring, ScoringJob, job_of
from secateur.pipelines.runs.ray_cluster import share_and_room
from secateur.pipelines.runs.worker import files_of
from secateur.pipelines.storage.score_cache import ShardRows
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.sections import Compute
from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.checkpoints import fingerprint, load_checkpoints
from secateur.trainers.loop.train import train
from secateur.trainers.models import registry as models
from secateur.trainers.passes.scoring import score_rows

CPU = torch.device("cpu")
WriteStudy = Callable[..., StudyFile]
SHARD = 4
SCORES = {"checkpoint_loss": None, "last_layer_grand": None}
CHANGES: dict[str, Any] = {
    "scores": SCORES,
    "selections": {"hardest": {"selector": "top", "score": "checkpoint_loss"}},
    "proxy_runs": 2,
}

DRIVER = """
import json, sys, time
from dataclasses import replace
from functools import partial
from pathlib import Path
import dagster as dg
import numpy as np
import ray
from secateur.pipelines.assets import scoring_pass as scoring_assets
from secateur.pipelines.definitions import build
from secateur.pipelines.runs.ray import RayPass
from secateur.pipelines.storage.score_cache import ShardRows, ScoreStore
from secateur.pipelines.studies.files import StudyFile, load_study

path, root, pause, shard = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
commit = ScoreStore._commit
def slow(*args):
    commit(*args)
    time.sleep(pause)
ScoreStore._commit = slow
scoring_assets.ScoreStore = partial(ScoreStore, shard=shard)
passes = []
def kept(*args):
    passes.append(RayPass(*args))
    return passes[0]
scoring_assets.RayPass = kept
# Both workers stand ready before the first shard is handed out, so that neither can finish alone.
ray.data.DataContext.get_current().wait_for_min_actors_s = 400
job = build([StudyFile(path, load_study(path))], root).resolve_implicit_global_asset_job_def()
keys = [dg.AssetKey(["blobs", "scores", name]) for name in ("checkpoint_loss", "last_layer_grand")]
with dg.DagsterInstance.ephemeral() as instance:
    done = job.execute_in_process(instance=instance, asset_selection=keys)
for event in done.get_asset_materialization_events():
    told = {name: one.value for name, one in event.materialization.metadata.items()}
    print(json.dumps({name: told[name] for name in ("rows rescored", "rows found", "shards by Ray node")}))
assert not ray.is_initialized()
try:
    list(RayPass(replace(passes[0].job, model="0" * 64))([ShardRows(8, np.arange(8, 10), ["checkpoint_loss"])]))
except RuntimeError as error:
    print(json.dumps([str(error), *error.__notes__]))
"""


@pytest.fixture
def scored(write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Root of a study with a completed local scoring pass, in shards of four rows."""
    return scored_here(write_study(**CHANGES), tmp_path / "local", monkeypatch)


def scored_here(file: StudyFile, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Root of a study, after its local scoring pass."""
    monkeypatch.setattr(scoring_assets, "ScoreStore", partial(scoring_assets.ScoreStore, shard=SHARD))
    job = build([file], root).resolve_implicit_global_asset_job_def()
    names = ("source", "samples", "test_samples", "inputs", "test_inputs", "encoder", "proxy")
    keys = [dg.AssetKey(["blobs", name]) for name in names] + [
        dg.AssetKey(["blobs", "scores", name]) for name in SCORES
    ]
    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(instance=instance, asset_selection=keys)
    return root


def results(root: Path) -> dict[str, bytes]:
    """Shards and scores by their names below the root."""
    kept = [*(root / "blobs" / ".score_store").rglob("*.parquet"), *(root / "blobs" / "scores").glob("*.npy")]
    return {str(path.relative_to(root)): path.read_bytes() for path in kept}


def driver(file: StudyFile, root: Path, address: str, pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", DRIVER, str(file.path), str(root), str(pause), str(SHARD)],
        env=environment(address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.nightly
def test_a_pass_on_two_nodes_killed_and_resumed_leaves_the_bytes_of_the_local_pass(
    scored: Path, write_study: WriteStudy, tmp_path: Path, two_nodes: str
) -> None:
    local = results(scored)
    assert len(local) == 2 * 120 // SHARD + 2
    root = scored.rename(tmp_path / "ray")
    (root / "blobs" / ".score_store").rename(tmp_path / "aside")
    (root / "blobs" / "scores").rename(tmp_path / "scores")
    file = write_study(**CHANGES, compute={"scoring": "ray"})
    kept = root / "blobs" / ".score_store"
    with driver(file, root, two_nodes, pause=0.2) as killed:
        until = time.monotonic() + 600
        while len(list(kept.rglob("*.parquet"))) < 5 and killed.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        assert killed.stderr is not None
        assert killed.wait() == -signal.SIGKILL, killed.stderr.read()
    there = {path: path.stat().st_mtime_ns for path in kept.rglob("*.parquet")}
    assert 5 <= len(there) < 60
    with driver(file, root, two_nodes, pause=0) as resumed:
        out, err = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, err
    *told, (error, note) = [json.loads(line) for line in out.splitlines()]
    assert sum(each["rows found"] for each in told) == SHARD * len(there)
    assert sum(each["rows rescored"] for each in told) == 240 - SHARD * len(there)
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert results(root) == local
    nodes = told[0]["shards by Ray node"]
    assert len(nodes) == 2
    assert all(nodes.values())
    starts = {int(path.name.split("-")[0]) for path in kept.rglob("*.parquet") if path not in there}
    assert {start for shards in nodes.values() for start in shards} == starts
    assert error.startswith("scoring rows from 8 on Ray node ")
    assert "holds other checkpoints here than on the driver" in error
    assert note.startswith("Traceback")


@pytest.mark.nightly
def test_proxies_of_folds_score_on_two_nodes_as_in_one_process(
    write_study: WriteStudy,
    study_content: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    two_nodes: str,
) -> None:
    changes = CHANGES | {"proxy": study_content["proxy"] | {"folds": 3}}
    root = scored_here(write_study(**changes), tmp_path / "local", monkeypatch)
    local = results(root)
    (root / "blobs" / ".score_store").rename(tmp_path / "aside")
    (root / "blobs" / "scores").rename(tmp_path / "scores")
    with driver(write_study(**changes, compute={"scoring": "ray"}), root, two_nodes, pause=0) as done:
        out, err = done.communicate(timeout=600)
    assert done.returncode == 0, err
    told = next(json.loads(line) for line in out.splitlines())
    assert told["rows rescored"] == 120
    assert results(root) == local


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[ScoringJob, Data]:
    """The job of both scores by two proxies of 120 points in three classes, and these points."""
    place, random = tmp_path_factory.mktemp("job"), np.random.default_rng(0)
    np.save(place / "inputs.npy", random.normal(size=(120, 2)).astype(np.float32))
    data = Data(np.load(place / "inputs.npy", mmap_mode="r"), np.arange(120) % 3, 3)
    config, folders = TrainingConfig(model_settings={"hidden": [8]}, steps=5), []
    for seed in range(2):
        folders.append(place / f"seed-{seed}")
        folders[-1].mkdir()
        models.save(train(data, config, seed=seed, device=CPU).model, folders[-1], config, (2,))
    declared = {name: scorers()[name] for name in SCORES}
    configured = {name: (each, {}) for name, each in declared.items() if isinstance(each, CheckpointScorer)}
    return job_of(data, folders, fingerprint(folders), configured, place), data


def test_a_worker_scores_as_score_rows_does_from_files_that_are_not_copied(
    job: tuple[ScoringJob, Data],
) -> None:
    described, data = job
    assert isinstance(data.inputs, np.memmap)
    assert described.data.inputs == Path(str(data.inputs.filename)).resolve()
    assert isinstance(described.data.load().inputs, np.memmap)
    rows = np.array([3, 4, 90])
    found = Scoring(described, "cpu")((rows, list(SCORES)))
    runs = [load_checkpoints(folder) for folder in described.proxies]
    configured = {name: (scorers()[name], {}) for name in SCORES}
    direct = score_rows(runs, data, rows, configured, device=CPU)  # type: ignore[arg-type]
    assert {name: scores.tobytes() for name, scores in found.items()} == {n: direct[n].tobytes() for n in SCORES}


def test_a_worker_scores_each_row_by_the_proxy_of_its_fold(job: tuple[ScoringJob, Data], tmp_path: Path) -> None:
    described, data = job
    folds = np.random.default_rng(1).integers(0, 2, 120)
    np.save(tmp_path / "folds.npy", folds)
    rows, configured = np.array([3, 4, 5, 6, 90, 91]), {name: (scorers()[name], {}) for name in SCORES}
    found = Scoring(replace(described, folds=tmp_path / "folds.npy"), "cpu")((rows, list(SCORES)))
    for fold, folder in enumerate(described.proxies):
        own = folds[rows] == fold
        assert own.any()
        direct = score_rows([load_checkpoints(folder)], data, rows[own], configured, device=CPU)  # type: ignore[arg-type]
        assert {name: scores[own].tobytes() for name, scores in found.items()} == {
            n: direct[n].tobytes() for n in SCORES
        }
    with pytest.raises(FileNotFoundError, match="on storage that every node mounts"):
        Scoring(replace(described, folds=tmp_path / "gone.npy"), "cpu")((rows, list(SCORES)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("no inputs", "SECATEUR_HOME and the data on storage that every node mounts"),
        ("other checkpoints", "other checkpoints here than on the driver"),
        ("other version", "no version 99 of scorer 'checkpoint_loss' here"),
        ("other data", "holds 120 samples now, not 119"),
        ("not a number", "'checkpoint_loss' is NaN or infinite at row 3"),
    ],
)
def test_a_worker_answers_with_what_is_wrong_and_the_remedy(
    change: str, said: str, job: tuple[ScoringJob, Data], tmp_path: Path
) -> None:
    described, data = job
    broken = dict(vars(described))
    if change == "no inputs":
        broken["data"] = described.data.model_copy(update={"inputs": tmp_path / "elsewhere" / "inputs.npy"})
    elif change == "other checkpoints":
        broken["model"] = "0" * 64
    elif change == "other version":
        broken["scorers"] = {"checkpoint_loss": ("checkpoint_loss", "99", {})}
    elif change == "other data":
        np.save(tmp_path / "targets.npy", data.targets[:119])
        broken["data"] = described.data.model_copy(update={"targets": tmp_path / "targets.npy"})
    else:
        inputs = np.array(data.inputs)
        inputs[3] = np.nan
        broken["data"] = files_of(Data(inputs, data.targets, data.task.width), tmp_path / "nan")
    with pytest.raises((OSError, ValueError), match=re.escape(said)):
        Scoring(ScoringJob(**broken), "cpu")((np.array([2, 3]), ["checkpoint_loss"]))


def test_parts_are_a_store_s_and_none_need_no_cluster(job: tuple[ScoringJob, Data]) -> None:
    assert not list(RayPass(job[0], "127.0.0.1:1")([]))


def test_without_the_extra_the_error_says_what_to_install(
    job: tuple[ScoringJob, Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    part = ShardRows(0, np.arange(2), ["checkpoint_loss"])
    with pytest.raises(ModuleNotFoundError, match="install the extra `ray`"):
        list(RayPass(job[0])([part]))


def test_nothing_of_ray_is_imported_unless_a_study_asks() -> None:
    code = "import sys, secateur.pipelines.definitions; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("resources", "threads", "share", "room"),
    [
        ([{"CPU": 1.0}, {"CPU": 1.0}], 1, {"num_cpus": 1}, 2),
        ([{"CPU": 1.0}, {"CPU": 1.0}], 8, {"num_cpus": 1}, 2),
        ([{"CPU": 16.0}, {"CPU": 10.0}], 4, {"num_cpus": 4}, 6),
        ([{"CPU": 64.0, "GPU": 8.0}, {"CPU": 64.0}], 32, {"num_gpus": 1}, 8),
        ([{}], 2, {"num_cpus": 1}, 1),
    ],
)
def test_workers_fill_the_nodes(
    resources: list[dict[str, float]], threads: int, share: dict[str, int], room: int
) -> None:
    gone = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    nodes = [gone, *({"Alive": True, "Resources": each} for each in resources)]
    assert share_and_room(nodes, threads) == (share, room)


def test_settings_that_nothing_reads_are_refused() -> None:
    with pytest.raises(ValueError, match="scoring: ray"):
        Compute(ray_address="auto")
    with pytest.raises(ValueError, match="training: launch"):
        Compute(processes=2)
