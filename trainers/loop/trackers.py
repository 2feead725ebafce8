"""Where the curves of a training run go: TensorBoard event files, or MLflow.

The loop hands a tracker one set of numbers per epoch and never waits for the device in between:

    tracker = TensorBoard(folder)
    train(data, config, seed=0, trackers=[tracker])
    tracker.close()

Numbers per epoch: `loss` (mean plain cross-entropy over the samples presented, before each update), `objective` (mean
of what was descended), `learning_rate` (of the last step), `samples_per_second` and `epoch_samples`.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import torch


@runtime_checkable
class Tracker(Protocol):
    """Takes the numbers of a run as it goes."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Numbers that hold after so many optimiser steps; a step may come again after a resumption."""


class EpochTotals:
    """Sums over an epoch, kept on the device in float64 until the epoch ends."""

    def __init__(self, device: torch.device) -> None:
        # Apple's GPUs have no float64.
        wide = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(2, dtype=wide, device=device)

    def add(self, losses: torch.Tensor, descended: torch.Tensor) -> None:
        """Plain losses of a batch, `[b]`, and what its step descended the mean of, `[b]`."""
        self.sums[0] += losses.sum()
        self.sums[1] += descended.sum()

    def means(self, samples: int) -> dict[str, float]:
        """Means over so many samples; the one place that waits for the device. Starts over."""
        loss, objective = (self.sums / samples).tolist()
        self.sums.zero_()
        return {"loss": loss, "objective": objective}


class TensorBoard:
    """Writes event files that `tensorboard --logdir` shows; scalars are named as in the module's docstring.

    After a resumption point it at the same folder: `resumed_at`, in steps, hides what was logged beyond by the run that
    was killed.
    """

    def __init__(self, folder: Path, *, resumed_at: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder), purge_step=resumed_at)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Write scalars."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is buffered and close the file."""
        self.writer.close()

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class MlFlow:
    """Logs to a run of an MLflow experiment; needs the extra `mlflow`.

    `uri` is that of a tracking server, or of a database where all of MLflow is installed; `parameters` are recorded
    once. Raises ImportError that names the extra where MLflow is not installed.
    """

    def __init__(self, uri: str, *, experiment: str, run: str, parameters: Mapping[str, Any] | None = None) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise ImportError("MLflow is not installed: pip install 'secateur[mlflow]'") from error
        self.client: Any = MlflowClient(tracking_uri=uri)
        known = self.client.get_experiment_by_name(experiment)
        number = known.experiment_id if known else self.client.create_experiment(experiment)
        self.run_id: str = self.client.create_run(number, run_name=run).info.run_id
        for name, value in (parameters or {}).items():
            self.client.log_param(self.run_id, name, value)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Log metrics."""
        for name, value in values.items():
            self.client.log_metric(self.run_id, name, value, step=step)

    def close(self) -> None:
        """Mark the run as finished."""
        self.client.set_terminated(self.run_id)

    def __enter__(self) -> "MlFlow":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.client.set_terminated(self.run_id, status="FAILED")
