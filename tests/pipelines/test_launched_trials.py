"""Launching a training, in this process: its arguments, the message of a failure, and the leftovers."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import torch

from secateur.pipelines.assets import launch as launching
from secateur.pipelines.assets.launch import LaunchError, command, launch, run
from secateur.pipelines.runs import worker
from secateur.pipelines.runs.training import Trials
from secateur.pipelines.runs.worker import JOB, TrainingJob, files_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.shown_epochs import ShownEpochs
from secateur.trainers.loop.train import Trained, train
from secateur.trainers.models import registry as models

CONFIG = TrainingConfig(model_settings={"hidden": [4]}, epochs=2, batch_size=16)
ROWS, CPU = 48, torch.device("cpu")


def points() -> Data:
    labels = np.arange(ROWS) % 3
    noise = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
    return Data(noise + np.eye(3, dtype=np.float32)[labels], labels, 3)


def bits(trained: Trained) -> list[bytes]:
    return [value.numpy().tobytes() for value in trained.model.state_dict().values()]


def test_a_failure_shows_the_last_lines_and_passes_all_on(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import sys\nfor n in range(100): print('line', n, file=sys.stderr)\nsys.exit(3)"
    with pytest.raises(LaunchError, match="training in 2 processes ended with code 3; it said last:") as raised:
        run([sys.executable, "-c", code], os.environ, 2)
    assert str(raised.value).splitlines()[1:] == [f"line {n}" for n in range(40, 100)]
    assert capfd.readouterr().err.splitlines() == [f"line {n}" for n in range(100)]
    run([sys.executable, "-c", ""], os.environ, 2)


def test_processes_are_told_to_leave_however_the_wait_ends(tmp_path: Path) -> None:
    code = "import pathlib, sys\nsys.stdin.read()\npathlib.Path(sys.argv[1]).write_text('left')"

    def broken_off(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, broken_off)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            run([sys.executable, "-c", code, str(tmp_path / "told")], os.environ, 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "told").read_text() == "left"


@pytest.mark.parametrize(("processes", "joined"), [(1, False), (2, True)])
def test_the_command_joins_processes_where_there_are_several(processes: int, joined: bool, tmp_path: Path) -> None:
    line = command(tmp_path, processes)
    assert line[line.index("--num_processes") + 1] == str(processes)
    assert ("--multi_gpu" in line, "--main_process_port" in line) == (joined, joined)
    assert line[-3:] == ["secateur.pipelines.runs.worker", str(tmp_path), "--leave-with-launcher"]


@pytest.mark.parametrize(("gpus", "refused"), [(0, []), (1, [2, 3]), (2, [3])])
def test_a_process_takes_a_gpu_where_there_are_some(
    gpus: int, refused: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching.torch.cuda, "device_count", lambda: gpus)
    for processes in (1, 2, 3):
        if processes in refused:
            with pytest.raises(ValueError, match=f"compute.processes is {processes}, this machine has {gpus} GPUs"):
                launching.refuse_too_many(processes)
        else:
            launching.refuse_too_many(processes)


def launched(job: TrainingJob, folder: Path) -> list[Trained]:
    found = []

    @dg.asset
    def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        found.append(launch(context, job, folder, 2))
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([model], instance=instance)
    return found


def test_what_is_launched_comes_back_and_its_folder_goes_unless_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def here(line: list[str], environment: Mapping[str, str], processes: int) -> None:
        assert processes == 2
        with monkeypatch.context() as patch:
            for name in ("DAGSTER_PIPES_CONTEXT", "DAGSTER_PIPES_MESSAGES"):
                patch.setenv(name, environment[name])
            worker.main([line[-2]])

    job = TrainingJob(data=files_of(points(), tmp_path / "data"), config=CONFIG, seed=3)
    folder = tmp_path / "jobs" / "one"
    monkeypatch.setattr(launching, "run", here)
    (trained,) = launched(job, folder)
    expected = train(points(), CONFIG, seed=3, device=CPU)
    assert bits(trained) == bits(expected)
    assert (trained.steps, trained.epoch_samples) == (expected.steps, expected.epoch_samples)
    assert not folder.exists()
    assert "trained in 2 processes: steps 6, epochs 2, samples_seen 96" in capfd.readouterr().err

    def fail(*_: Any) -> None:
        raise LaunchError("ended with code 1")

    monkeypatch.setattr(launching, "run", fail)
    with pytest.raises(LaunchError, match="ended with code 1"):
        launched(job, folder)
    assert [path.name for path in folder.iterdir()] == [JOB]
    assert TrainingJob.model_validate_json((folder / JOB).read_text()) == job


SELECTIONS = {
    "rs2": None,
    "easy_first": {"selector": "subset_schedule", "score": "aum", "budget": "own", "settings": {"keeps": [0.25, 0.5]}},
    "hardest": {"selector": "top", "score": "aum"},
}
CASES = {
    "hardest@0.25": ({"end": "high"}, {"keep"}),
    "rs2@0.25": ({"keep": 0.25}, {"sampled"}),
    "easy_first": ({"keeps": [0.25, 0.5]}, {"sampled"}),
    "rs2+kd@0.25": ({"keep": 0.25}, {"sampled", "taught"}),
    "hardest+kd@0.25": ({"end": "high"}, {"keep", "taught"}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_launched_trial_is_the_one_that_is_trained_here(
    name: str, write_study: Callable[..., StudyFile], tmp_path: Path
) -> None:
    settings, parts = CASES[name]
    study = write_study(
        scores={"aum": None}, selections=SELECTIONS, distillation={"alpha": 0.5}, compute={"training": "launch"}
    ).study
    assert study
    store, trial, folders = Store(tmp_path / "store"), Trial(name, 1), []
    store.save((study.name, "subset_settings"), settings, trial)
    (tmp_path / "teacher").mkdir()
    models.save(train(points(), CONFIG, seed=9, device=CPU).model, tmp_path / "teacher", CONFIG, (3,))
    stale = tmp_path / "store" / study.name / ".launched" / f"{name}-1" / "of_others"
    stale.mkdir(parents=True)
    (stale.parent / ".DS_Store").touch()

    def launch_here(job: TrainingJob, folder: Path) -> Trained:
        folders.append(folder)
        assert {part for part in ("keep", "sampled", "taught") if getattr(job, part)} == parts
        assert (job.seed, job.config, folder.name) == (1, CONFIG, "0123456789abcdef")
        assert not stale.exists()
        return TrainingJob.model_validate_json(job.model_dump_json()).train(folder)

    signals = {"aum": np.arange(ROWS, dtype=np.float32), "strata": np.arange(ROWS) % 3}
    taught = {"teacher": tmp_path / "teacher"}
    trials = Trials(study, points(), CONFIG, {}, signals, taught, store, launch_here)
    keep = np.arange(ROWS) % 4 == 0
    shown = [ShownEpochs(tmp_path / place) for place in ("launched", "here")]
    there = trials.train_launched(trial, keep, 12, "0123456789abcdef" * 4, shown[0])
    assert not folders[0].parent.exists()
    here = trials.train_here(trial, keep, 12, "0123456789abcdef" * 4, shown[1])
    assert bits(there) == bits(here)
    assert there.epoch_samples == here.epoch_samples
    rows = [[each.rows.tolist() for each in one.all(here.epoch_samples)] for one in shown]
    assert rows[0] == rows[1]
