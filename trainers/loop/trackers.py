"""Trackers of a training run's curves: TensorBoard, MLflow, or any other tracker of `accelerate.tracking`.

The loop logs one set of numbers per epoch and does not synchronise with the device in between:

    tracker = TensorBoard(folder)
    train(data, config, seed=0, trackers=[tracker])
    tracker.close()

Numbers per epoch: `loss` (mean task loss over the epoch's samples, before each update), `objective` (mean training
loss), `learning_rate` (of the last step), `samples_per_second` and `epoch_samples`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from secateur.scorers.lazy import not_installed, torch

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

Own = TypeVar("Own", bound="Curves")
EVERY = 1.0
"""Seconds between writes to a TensorBoard file."""


@runtime_checkable
class Tracker(Protocol):
    """Logs the numbers of a run."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Log numbers after so many optimiser steps; a step may come again after a resumption."""


class EpochTotals:
    """Sums over an epoch, kept on the device in float64 until the epoch ends."""

    def __init__(self, device: torch.device) -> None:
        # Apple's GPUs have no float64.
        wide = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(2, dtype=wide, device=device)

    def add(self, losses: torch.Tensor, descended: torch.Tensor) -> None:
        """Add a batch's task losses, `[b]`, and training losses, `[b]`."""
        self.sums[0] += losses.sum()
        self.sums[1] += descended.sum()

    def means(self, samples: int) -> dict[str, float]:
        """Means over so many samples; synchronises with the device, and resets the sums."""
        loss, objective = (self.sums / samples).tolist()
        self.sums.zero_()
        return {"loss": loss, "objective": objective}


class Curves:
    """Logs the numbers of a run to a tracker of `accelerate.tracking`, such as `WandBTracker("digits")`.

    The tracker starts at the first numbers: before training, accelerate does not know the processes and raises
    RuntimeError. `parameters` become the tracker's hyperparameters.
    """

    def __init__(self, tracker: GeneralTracker, parameters: Mapping[str, Any] | None = None) -> None:
        self.tracker, self.parameters, self.started = tracker, dict(parameters or {}), False

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Log to the tracker; starts it first."""
        if not self.started:
            self.start(step)
        self.tracker.log(dict(values), step=step)

    def start(self, step: int) -> None:
        """Start the tracker; its first numbers are those of this step."""
        from accelerate import PartialState

        PartialState()
        self.tracker.start()
        self.started = True
        if self.parameters:
            self.tracker.store_init_configuration(self.parameters)

    def flush(self) -> None:
        """Write all numbers so far to disk; most trackers do so in `log`."""

    def close(self) -> None:
        """Finish the tracker, if it has started."""
        self.flush()
        if self.started:
            self.tracker.finish()

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class TensorBoard(Curves):
    """Writes event files for `tensorboard --logdir`; the module's docstring lists the scalars.

    After a resumption use the same folder: its first numbers hide those that the killed run logged from that step on.
    """

    def __init__(self, folder: Path) -> None:
        from accelerate.tracking import TensorBoardTracker

        super().__init__(TensorBoardTracker(folder.name, folder.parent))
        self.kept: list[tuple[float, int, dict[str, float]]] = []

    def start(self, step: int) -> None:
        """Start the event file."""
        self.tracker.init_kwargs["purge_step"] = step
        super().start(step)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Buffer the numbers, and write once per second: an epoch of little data takes less time than a write by
        accelerate's tracker, which flushes the file each time.
        """
        if not self.started:
            self.start(step)
        self.kept.append((time.time(), step, dict(values)))
        if self.kept[-1][0] - self.kept[0][0] >= EVERY:
            self.flush()

    def flush(self) -> None:
        """Write the buffer, all numbers of an epoch as one event."""
        if not self.kept:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        writer = self.tracker.tracker
        for when, step, values in self.kept:
            scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
            writer.file_writer.add_summary(Summary(value=scalars), step, when)
        self.kept.clear()
        writer.flush()


class MlFlow(Curves):
    """Logs to a run of an MLflow experiment; needs the extra `mlflow`. Nests in the caller's active run, if any.

    `uri` is that of a tracking server, or of a database if all of MLflow is installed. Raises ImportError with the
    extra's name without MLflow.
    """

    def __init__(self, uri: str, *, experiment: str, run: str, parameters: Mapping[str, Any] | None = None) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise ImportError(not_installed("MLflow", "mlflow")) from error
        from accelerate.tracking import MLflowTracker

        mlflow.set_tracking_uri(uri)
        super().__init__(MLflowTracker(experiment, run_name=run, nested_run=True, logging_dir=None), parameters)

    @property
    def run_id(self) -> str:
        """The run's id, available after the first `log`."""
        return str(self.tracker.tracker.info.run_id)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        import mlflow

        if kind is not None and self.started:
            mlflow.end_run("FAILED")  # accelerate's `finish` can only set FINISHED.
        else:
            self.close()
