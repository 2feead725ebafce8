"""Observers see held-out samples after each epoch, also in a run resumed after a kill."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secateur.scorers.observers.el2n import El2n
from secateur.scorers.observers.forgetting import Forgetting
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.checkpoints import CheckpointWriter
from secateur.trainers.loop.held_out import HeldOut
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.train import train

CPU = torch.device("cpu")
CONFIG = TrainingConfig(epochs=4, batch_size=16, learning_rate=0.02, model_settings={"hidden": (8,)})


def points() -> Data:
    random = np.random.default_rng(0)
    labels = np.arange(90, dtype=np.int64) % 3
    return Data((random.normal(size=(90, 2)) + labels[:, None]).astype(np.float32), labels, 3)


def held_out(data: Data, rows: np.ndarray, folder: Path) -> HeldOut:
    folder.mkdir()
    observers: dict[str, Any] = {"el2n": El2n(90, CPU, epochs=2), "forgetting": Forgetting(90, CPU)}
    return HeldOut(observers, data, rows, CheckpointWriter(folder, 2))


def test_a_killed_run_goes_on_to_the_same_scores_and_checkpoints(tmp_path: Path) -> None:
    data, rows = points(), np.arange(0, 90, 4, dtype=np.int64)
    keep = ~np.isin(np.arange(90), rows)
    whole = held_out(data, rows, tmp_path / "whole")
    train(data, CONFIG, seed=0, keep=keep, device=CPU, checkpoint=whole)
    assert all((watcher.presentations[rows] == watcher.presentations[0]).all() for watcher in whole.observers.values())
    assert not any(watcher.presentations[torch.from_numpy(keep)].any() for watcher in whole.observers.values())
    assert whole.observers["el2n"].presentations[0] == 2, "of its first two epochs"
    assert whole.observers["forgetting"].presentations[0] == 4

    class Killed(HeldOut):
        def __call__(self, model: Any, done: int, total: int) -> None:
            if self.epoch == 2:
                raise KeyboardInterrupt
            super().__call__(model, done, total)

    (tmp_path / "parts").mkdir()
    first = held_out(data, rows, tmp_path / "first")
    killed = Killed(first.observers, data, rows, CheckpointWriter(tmp_path / "parts", 2))
    snapshots = Snapshots(tmp_path / "snapshots", epochs=1)
    with pytest.raises(KeyboardInterrupt):
        train(data, CONFIG, seed=0, keep=keep, device=CPU, checkpoint=killed, snapshots=snapshots)
    second = held_out(data, rows, tmp_path / "second")
    second.then = CheckpointWriter(tmp_path / "parts", 2)
    train(data, CONFIG, seed=0, keep=keep, device=CPU, checkpoint=second, snapshots=snapshots)
    for name, values in whole.scores().items():
        np.testing.assert_array_equal(second.scores()[name], values)
        assert len(np.unique(values)) > 1
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["checkpoint-01.safetensors"]


def test_a_score_that_is_no_number_names_the_row(tmp_path: Path) -> None:
    data, rows = points(), np.array([5, 50], np.int64)
    shown = held_out(data, rows, tmp_path / "whole")
    keep = ~np.isin(np.arange(90), rows)
    train(data, CONFIG, seed=0, keep=keep, device=CPU, checkpoint=shown)
    shown.observers["el2n"].total[50] = float("nan")
    with pytest.raises(ValueError, match="score 'el2n' is NaN or infinite at row 50"):
        shown.scores()
