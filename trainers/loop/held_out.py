"""Observers of held-out samples, which they see after each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from secateur.scorers.contract import Observer, Scores, TrainingBatch, finite
from secateur.scorers.lazy import nn, torch
from secateur.trainers.contract import Data
from secateur.trainers.tasks.own import OwnBatch, OwnTask

if TYPE_CHECKING:
    from secateur.trainers.loop.checkpoints import CheckpointWriter

BATCH = 512


class HeldOut:
    """A `Checkpoint` of `train` that shows held-out samples to observers, in evaluation mode and not augmented.

    `rows` int64 `[m]` are the held-out rows; observers have the length of all data. Passes each call on to `then`.
    """

    def __init__(
        self, observers: Mapping[str, Observer], data: Data, rows: Int64[np.ndarray, " m"], then: CheckpointWriter
    ) -> None:
        self.observers, self.data, self.rows, self.then, self.epoch = observers, data, rows, then, 0

    def __call__(self, model: nn.Module, done: int, total: int) -> None:
        """Called at the end of each epoch with the model, steps done, total steps."""
        device = next(model.parameters()).device
        model.eval()
        with torch.no_grad():
            for start in range(0, len(self.rows) if self.observers else 0, BATCH):
                batch = self.batch_of(model, self.rows[start : start + BATCH], device)
                for watcher in self.observers.values():
                    watcher.observe(batch)
        for watcher in self.observers.values():
            watcher.end_epoch(self.epoch)
        self.epoch += 1
        self.then(model, done, total)

    def batch_of(self, model: nn.Module, rows: Int64[np.ndarray, " b"], device: torch.device) -> TrainingBatch:
        """The observers' batch of some rows, with the model's outputs."""
        some, ids = self.data.take(rows), torch.from_numpy(rows).to(device)
        inputs, task = some.network_inputs(device), self.data.task
        outputs = model(inputs)
        if isinstance(task, OwnTask):
            return OwnBatch.of(ids, outputs, inputs, task.losses(outputs, inputs), task)
        targets = task.tensor(some.targets).to(device)
        return TrainingBatch(ids, outputs, targets, task.losses(outputs.float(), targets), task)

    def scores(self) -> Mapping[str, Scores]:
        """Scores of the rows by name, float32 `[m]`; raises ValueError that names rows with NaN or infinite scores."""
        found = {}
        for name, watcher in self.observers.items():
            whole = np.zeros(len(self.data), np.float32)
            whole[self.rows] = watcher.reduce().cpu().numpy()[self.rows]
            found[name] = finite(whole, watcher.card.name)[self.rows]
        return found

    def state_dict(self) -> dict[str, Any]:
        """The state for snapshots."""
        observers: Sequence[Any] = [watcher.state_dict() for watcher in self.observers.values()]
        return {"epoch": self.epoch, "observers": observers, "then": self.then.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a snapshot."""
        self.epoch = state["epoch"]
        for watcher, own in zip(self.observers.values(), state["observers"], strict=True):
            watcher.load_state_dict(own)
        self.then.load_state_dict(state["then"])
