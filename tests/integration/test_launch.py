"""Trainings in separate processes: equality with one process here, kills, crashes, and clean-up."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import psutil
import pytest
import torch

from secateur.pipelines.assets import launch as launching
from secateur.pipelines.assets.launch import LaunchError, launch
from secateur.pipelines.definitions import build
from secateur.pipelines.runs.worker import JOB, Sampled, Taught, TrainingJob, files_of, mapped_from, save_array
from secateur.pipelines.storage.home import home
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.selectors.samplers.contract import make_sampler
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation.cached_logits import cache_logits
from secateur.trainers.distillation.objective import Distillation
from secateur.trainers.distillation.teacher import Teacher
from secateur.trainers.loop.train import Trained, train
from secateur.trainers.models import registry as models

CPU = torch.device("cpu")
CONFIG = TrainingConfig(model_settings={"hidden": [16]}, epochs=3, batch_size=32)


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make one process here and several there compute alike on any machine."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """Points in three classes, memory-mapped."""
    random, labels = np.random.default_rng(0), np.arange(150) % 3
    points = random.normal(size=(150, 4)).astype(np.float32) + np.eye(3, 4, dtype=np.float32)[labels]
    np.save(tmp_path / "points.npy", points)
    return Data(np.load(tmp_path / "points.npy", mmap_mode="r"), labels, 3)


def launched(job: TrainingJob, folder: Path, processes: int) -> tuple[Trained, list[str]]:
    """The result for an asset that launches the job, and the log of its run."""
    found = []

    @dg.asset
    def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        found.append(launch(context, job, folder, processes))
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize([model], instance=instance)
        log = [event.message for event in done.all_events] + [
            record.user_message for record in instance.all_logs(done.run_id)
        ]
    return found[0], log


def weights(trained: Trained) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in trained.model.state_dict().items()}


def numbers(trained: Trained) -> dict[str, Any]:
    return {name: value for name, value in vars(trained).items() if name not in ("model", "seconds")}


def test_a_taught_subset_in_one_launched_process_is_the_training_here_bit_for_bit(data: Data, tmp_path: Path) -> None:
    keep = np.arange(150) % 5 < 2
    teacher, settings = train(data, CONFIG, seed=9, device=CPU).model, Distillation(alpha=0.7, temperature=2.0)
    for name in ("teacher", "logits"):
        (tmp_path / name).mkdir()
    models.save(teacher, tmp_path / "teacher", CONFIG, (4,))
    cached = cache_logits(teacher, data, device=CPU)
    cached.save(tmp_path / "logits")
    save_array(tmp_path / "keep.npy", keep)
    job = TrainingJob(
        data=files_of(data, tmp_path / "data"),
        config=CONFIG,
        seed=3,
        keep=tmp_path / "keep.npy",
        taught=Taught(settings=settings, teacher=tmp_path / "teacher", logits=tmp_path / "logits", share=0.4),
    )
    assert TrainingJob.model_validate_json(job.model_dump_json()) == job
    folder = tmp_path / "job"
    trained, log = launched(job, folder, processes=1)
    objective = settings.objective(Teacher(teacher, cached=cached), CONFIG, keep=0.4)
    expected = train(data, CONFIG, seed=3, keep=keep, objective=objective, device=CPU)
    assert numbers(trained) == numbers(expected)
    for name, value in weights(expected).items():
        np.testing.assert_array_equal(weights(trained)[name], value, err_msg=name)
    assert not folder.exists()
    assert "training: step 6 of 6" in log
    assert any(line.startswith("trained in 1 processes: steps 6, epochs 3") for line in log)


PARENT = """
import sys
from pathlib import Path
import dagster as dg
from secateur.pipelines.assets.launch import launch
from secateur.pipelines.runs.worker import TrainingJob
job, folder = TrainingJob.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
@dg.asset
def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    launch(context, job, folder, 2)
    return dg.MaterializeResult()
with dg.DagsterInstance.ephemeral() as instance:
    dg.materialize([model], instance=instance)
"""


def works(process: psutil.Process) -> bool:
    """Whether a process is running, and not a zombie that waits for its parent."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.nightly
def test_two_processes_of_a_killed_run_leave_and_the_next_two_train_what_one_trains(data: Data, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": None, "steps": 200})
    sampled = Sampled(selection={"selector": "rs2", "budget": "own"}, settings={"keep": 0.4})
    job = TrainingJob(
        data=files_of(data, tmp_path / "data"), config=config, seed=4, sampled=sampled, snapshot_seconds=0.05
    )
    folder, described = tmp_path / "job", tmp_path / "described.json"
    described.write_text(job.model_dump_json())
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", PARENT, str(described), str(folder)]) as parent:
        until = time.monotonic() + 300
        while not list(folder.glob("snapshots/*.pt")) and parent.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        started = psutil.Process(parent.pid).children(recursive=True)
        described_by = [each for each in started if str(folder) in each.cmdline()]
        parent.send_signal(signal.SIGKILL)
    assert parent.returncode == -signal.SIGKILL
    assert len(described_by) == 3, "the launcher and two that train"
    until = time.monotonic() + 60
    while any(map(works, started)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(works, started))
    assert {path.name for path in folder.iterdir()} == {JOB, "snapshots"}
    trained, _ = launched(job, folder, processes=2)
    sampler = make_sampler("rs2", {"keep": 0.4}, {"samples": 150}, seed=4)
    expected = train(data, config, seed=4, sampler=sampler, device=CPU)
    assert numbers(trained) == numbers(expected)
    for name, value in weights(expected).items():
        np.testing.assert_allclose(weights(trained)[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


FRAGILE = """
import os
from secateur.trainers.models.registry import mlp
def network(shape, classes, kind):
    if os.environ["RANK"] == "1":
        if kind == "raises":
            raise ValueError("the second process is ill")
        os.kill(os.getpid(), 9)
    return mlp(shape, classes)
"""


@pytest.mark.parametrize(
    ("kind", "said"),
    [pytest.param("raises", "the second process is ill", marks=pytest.mark.nightly), ("dies", "SIGKILL")],
)
def test_a_process_that_fails_is_one_clear_error_and_leaves_nothing_half_written(
    kind: str, said: str, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    config = CONFIG.model_copy(update={"model": "fragile:network", "model_settings": {"kind": kind}})
    job = TrainingJob(data=files_of(data, tmp_path / "data"), config=config, seed=0)
    with pytest.raises(LaunchError, match="training in 2 processes ended with code 1") as raised:
        launched(job, tmp_path / "job", processes=2)
    assert said in str(raised.value)
    assert [path.name for path in (tmp_path / "job").iterdir()] == [JOB]


def materialise(file: StudyFile, root: Path) -> None:
    """Materialise a trial of an in-training selection with a teacher, and all its inputs."""
    job = build([file], root).resolve_implicit_global_asset_job_def()
    trials = ("subset", "trained_model")
    names = ["source", "samples", "test_samples", "inputs", "test_inputs", "encoder", "proxy", "scores/aum", "tuning"]
    names += ["teacher", "teacher_logits"]
    ends = {"start": Trial("rs2+kd@0.25", 0), "end": Trial("rs2+kd@0.25", 0)}
    span = {f"dagster/asset_partition_range_{end}": str(trial) for end, trial in ends.items()}
    with dg.DagsterInstance.ephemeral() as instance:
        for chosen, tags in ((names, {}), (trials, span)):
            keys = [dg.AssetKey(["blobs", *name.split("/")]) for name in chosen]
            job.execute_in_process(instance=instance, asset_selection=keys, tags=tags)
        record = instance.get_latest_materialization_event(dg.AssetKey(["blobs", "trained_model"]))
        assert record is not None
        assert record.asset_materialization is not None
        assert record.asset_materialization.metadata["trained"].value == "now"


def test_a_study_trains_by_launch_as_it_does_here(write_study: Callable[..., StudyFile], tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "scores": {"aum": None},
        "selections": {"rs2": None},
        "keep": [0.25],
        "distillation": {"alpha": 0.5, "temperature": 2.0},
    }
    roots = tmp_path / "here", tmp_path / "launched"
    for root, compute in zip(roots, ({}, {"training": "launch"}), strict=True):
        shutil.rmtree(home() / "tensorboard", ignore_errors=True)
        materialise(write_study(**changes, compute=compute), root)
    here, there = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("trained_model/**/model*")} for root in roots
    )
    assert len(here) == 2
    assert here == there
    assert not list((roots[1] / "blobs" / ".launched").iterdir())
    assert len(list((home() / "tensorboard" / "blobs").glob("rs2*/events.*"))) == 1


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching.torch.cuda, "device_count", lambda: 2)
    launching.refuse_too_many(2)
    with pytest.raises(ValueError, match=r"compute.processes is 3, this machine has 2 GPUs"):
        launching.refuse_too_many(3)


def test_inputs_that_are_a_whole_map_are_named_and_all_others_written(data: Data, tmp_path: Path) -> None:
    assert mapped_from(data.inputs) == tmp_path / "points.npy"
    for part in (data.inputs[:100], data.inputs[::-1], np.array(data.inputs)):
        assert mapped_from(part) is None
        files = files_of(Data(part, data.targets[: len(part)], 3, {"kind": "numbers"}), tmp_path / "files")
        loaded = files.load()
        np.testing.assert_array_equal(loaded.inputs, part)
        assert (loaded.task.width, loaded.model_settings) == (3, {"kind": "numbers"})
    assert json.loads(files.model_dump_json())["inputs"].endswith("files/inputs.npy")
