"""Curves of a run arrive in the trackers."""

import sys

import numpy as np
import pytest
import torch

from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.trackers import MlFlow, TensorBoard
from secateur.trainers.loop.train import train

CPU = torch.device("cpu")


def blobs(samples=90, classes=3, features=5, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, samples)
    inputs = generator.normal(size=(samples, features)) + 2 * np.eye(classes, features)[labels]
    return Data(inputs.astype(np.float32), labels, classes)


class Log:
    def __init__(self):
        self.told = []

    def log(self, values, *, step):
        self.told.append((step, values))


def test_tensorboard_shows_the_run(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = Log()
    with TensorBoard(tmp_path) as board:
        train(blobs(), TrainingConfig(epochs=3, batch_size=32), seed=0, device=CPU, trackers=[board, log])
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    for name in ("loss", "objective", "learning_rate", "samples_per_second", "epoch_samples"):
        shown = [(each.step, each.value) for each in events.Scalars(name)]
        assert shown == [(step, pytest.approx(values[name], rel=1e-6)) for step, values in log.told]


class Killed(BaseException):
    pass


def test_a_run_that_was_killed_shows_each_epoch_once(tmp_path):
    """The kill comes one epoch after the snapshot, and closes no file."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config, whole, first, second = TrainingConfig(epochs=6, batch_size=32), Log(), Log(), Log()
    kinds = {"seed": 0, "device": CPU}
    train(blobs(), config, **kinds, trackers=[whole])

    def kill(model, done, total):
        if done == 5 * 3:
            raise Killed

    snapshots = Snapshots(tmp_path / "snapshots", epochs=2)
    board = TensorBoard(tmp_path / "curves")
    with pytest.raises(Killed):
        train(blobs(), config, **kinds, snapshots=snapshots, trackers=[board, first], checkpoint=kill)
    with TensorBoard(tmp_path / "curves") as board:
        train(blobs(), config, **kinds, snapshots=snapshots, trackers=[board, second])
    assert [step for step, _ in first.told] == [3, 6, 9, 12, 15]
    assert [step for step, _ in second.told] == [15, 18]
    events = EventAccumulator(str(tmp_path / "curves"))
    events.Reload()
    shown = [(each.step, each.value) for each in events.Scalars("loss")]
    assert shown == [(step, pytest.approx(values["loss"], rel=1e-6)) for step, values in whole.told]


def test_mlflow_that_is_missing_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ImportError, match="MLflow is not installed: install the extra `mlflow`"):
        MlFlow("file:nowhere", experiment="digits", run="top@0.1")


def test_mlflow_marks_a_run_that_failed(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    tracker = MlFlow(tmp_path.as_uri(), experiment="digits", run="top@0.1")

    def kill(model, done, total):
        raise Killed

    with pytest.raises(Killed), tracker:
        train(blobs(), TrainingConfig(epochs=2), seed=0, device=CPU, trackers=[tracker], checkpoint=kill)
    assert mlflow.MlflowClient(tracking_uri=tmp_path.as_uri()).get_run(tracker.run_id).info.status == "FAILED"


def test_mlflow_has_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # databases need more than mlflow-skinny
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    log, uri = Log(), tmp_path.as_uri()
    with MlFlow(uri, experiment="digits", run="aum@0.1", parameters={"seed": 0}) as tracker:
        train(blobs(), TrainingConfig(epochs=2, batch_size=32), seed=0, device=CPU, trackers=[tracker, log])
    client = mlflow.MlflowClient(tracking_uri=uri)
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "0"}
    history = client.get_metric_history(tracker.run_id, "loss")
    assert [(each.step, each.value) for each in history] == [(step, values["loss"]) for step, values in log.told]
