"""The training loop: trains a model on kept samples and passes every batch to observers.

With a sampler `config.steps` means exactly that many optimiser steps over as many epochs as necessary, and
`config.epochs` that many epochs of the sampler; in both cases the schedule ends with the run.

`batch_size` is that of an optimiser step. `config.accumulate` divides a batch into parts, and several processes of one
launch divide it into shares. The gradient is that of the whole batch, and observers and sampler get the whole batch
in every process; batch norm measures parts, and with several processes on the CPU shares. All processes make the same
call; only the first one writes and calls `progress`, `checkpoint` and `trackers`. Under float16 the loss scaler may
skip steps, usually the first few; they count.

>>> import numpy as np
>>> inputs = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
>>> data = Data(inputs, (inputs[:, 0] > 0).astype(np.int64), 2)
>>> trained = train(data, TrainingConfig(epochs=2), seed=0, keep=np.arange(64) < 32)
>>> trained.samples_seen, trained.steps
(64, 2)
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from secateur.scorers.contract import Observer
from secateur.scorers.lazy import nn, torch
from secateur.selectors.draws.ranks import Keep
from secateur.selectors.samplers.contract import EpochSampler
from secateur.trainers.contract import AfterStep, Data, Objective, Progress, TrainingConfig
from secateur.trainers.loop.learning_curve import LearningCurve, Point
from secateur.trainers.loop.left_out import tell_left_out
from secateur.trainers.loop.run import Run
from secateur.trainers.loop.schedule import Schedule, check_sampler, rows_to_train_on
from secateur.trainers.loop.shown_epochs import ShownEpochs
from secateur.trainers.loop.snapshots import Snapshots, summary_of_hooks, summary_of_run
from secateur.trainers.loop.trackers import Curves, EpochTotals, Tracker
from secateur.trainers.models.registry import build, networks
from secateur.trainers.processes import processes_here
from secateur.trainers.tasks.missing_signals import missing_signals
from secateur.trainers.tasks.own import OwnTask
from secateur.trainers.tasks.token_roles import sizes_of

Checkpoint = Callable[["nn.Module", int, int], None]
"""Called with (model, steps done, total steps) after each epoch; it may evaluate the model. Snapshots save its state if
it has `state_dict` and `load_state_dict`."""


@dataclass(frozen=True)
class Trained:
    """A trained model and its cost over all processes; the seconds of a resumed run include those of all its parts."""

    model: nn.Module
    steps: int
    epochs: int
    samples_seen: int
    seconds: float
    tokens_seen: int = 0
    """Completion tokens of these samples, if samples are sequences."""
    length: Literal["epochs", "steps"] = "steps"
    """The unit of the config's length: runs are comparable at equal epochs, or at equal optimiser steps."""
    epoch_samples: tuple[int, ...] = ()
    """Number of samples of each epoch."""
    curve: tuple[Point, ...] = ()
    """The points of the learning curve, if there is one; `seconds` exclude the time of measuring."""


def train(
    data: Data,
    config: TrainingConfig,
    *,
    seed: int,
    keep: Keep | None = None,
    sampler: EpochSampler | None = None,
    objective: Objective | None = None,
    observers: Sequence[Observer] = (),
    device: torch.device | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    snapshots: Snapshots | None = None,
    trackers: Sequence[Tracker] = (),
    start: nn.Module | None = None,
    after_step: AfterStep | None = None,
    curve: LearningCurve | None = None,
    shown: ShownEpochs | None = None,
) -> Trained:
    """Train a fresh model on the kept samples (all of them without `keep`), or on the epochs of a new `sampler`.

    With `start` it trains a copy of that model instead, with its weights, its standardisation of the inputs and its
    trainable parameters (`requires_grad`). `after_step` may change the weights after each optimiser step, for example
    to hold pruned ones at zero. A new `curve` records metrics during the run; its time does not count. `shown` writes
    the samples of each epoch with their weights.

    A step minimises the mean over its batch of `sampler.weights(ids)` times `objective`, by default the task's loss
    with the config's label smoothing. Observers and the sampler get ids, outputs, targets and the task's per-sample
    losses of each batch before the update, with any objective. Initial weights and order depend on `seed` (and the
    sampler's) alone; on a CPU the same call gives the same bits.

    With `snapshots` the run saves its state at intervals; after a kill the same call with new observers and a new
    sampler resumes it. Raises ValueError for arguments that do not fit each other, for targets that the task does not
    take, for observers of signals that it does not provide, and for the snapshot of another run.
    """
    processes, device = processes_here(device)
    if sampler is not None:
        check_sampler(sampler, data, keep)
    rows = rows_to_train_on(data, keep)
    check_fit(data, config, observers)
    started, saved, made_of = time.perf_counter(), None, {}
    if snapshots is not None:
        made_of = summary_of_run(data, rows, config, seed, sampler, objective, observers)
        made_of |= summary_of_hooks(start, after_step) | ({"evaluations": curve.evaluations} if curve else {})
        made_of |= {"processes": processes.world, "device": device.type, **snapshots.of}
        saved = snapshots.read(made_of)
    model = fresh_model(data, config, seed) if start is None else copy.deepcopy(start)
    if saved is None and start is None and isinstance(model, networks.Model):
        model.standardise.fit(data, None if keep is None else rows.numpy())
    model, schedule = on_device(model, device, config), Schedule(config, rows, sampler, seed, sizes_in(data, rows))
    totals = EpochTotals(device) if trackers else None
    run = Run(data, model, schedule, device, processes, objective, observers, totals, after_step, curve)
    with run.under_way():
        if saved is not None:
            run.load_state_dict(saved, checkpoint)
        began = started - run.position.seconds
        began = follow(run, made_of, began, progress, checkpoint, snapshots, trackers, shown)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return trained(run, time.perf_counter() - began)


def sizes_in(data: Data, rows: torch.Tensor) -> Int64[np.ndarray, "2 n"] | None:
    """`sizes_of` these rows; None if samples are no sequences."""
    return sizes_of(data.inputs, rows.numpy()) if data.model_settings.get("kind") == "sequences" else None


def trained(run: Run, seconds: float) -> Trained:
    """The result of a finished run."""
    at, model = run.position, run.model
    return Trained(
        model=(laid_out(model, torch.contiguous_format) if run.config.channels_last else model).eval(),
        steps=at.steps_done,
        epochs=at.epoch,
        samples_seen=at.samples_seen,
        tokens_seen=at.tokens_seen,
        seconds=seconds,
        length=run.config.length,
        epoch_samples=tuple(at.epoch_samples),
        curve=tuple(run.curve.points) if run.curve else (),
    )


def check_fit(data: Data, config: TrainingConfig, observers: Sequence[Observer]) -> None:
    """Raise ValueError for settings that do not fit inputs or targets, and for observers without their signals."""
    own = isinstance(data.task, OwnTask)
    if config.channels_last and (own or data.inputs.ndim != 4):
        raise ValueError(f"channels_last is for images, the inputs have shape {data.inputs.shape}: leave it out")
    if config.length_buckets and data.model_settings.get("kind") != "sequences":
        raise ValueError(f"length_buckets sorts samples of task sft, the task is {data.task.name}: leave it out")
    if config.augmentation and own:
        raise ValueError("augmentation is for images that we read: vary the samples in the task's own data set")
    if config.label_smoothing and not data.task.smooths:
        raise ValueError(f"label_smoothing is for classes and labels, the task is {data.task.name}: leave it out")
    missing = [text for watcher in observers for text in missing_signals(type(watcher), data.task)]
    if missing:
        raise ValueError("; ".join(missing))


def fresh_model(data: Data, config: TrainingConfig, seed: int) -> nn.Module:
    """A network for this data with weights drawn from `seed`; a user's own task makes its network itself."""
    if not isinstance(data.task, OwnTask):
        return build(config, data.inputs.shape[1:], data.task, seed=seed, learned=data.model_settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = data.task.model()
    network.task = data.task  # type: ignore[assignment]
    return network


def on_device(model: nn.Module, device: torch.device, config: TrainingConfig) -> nn.Module:
    """The model on the device, with its weights in the config's memory layout."""
    model.to(device)
    return laid_out(model, torch.channels_last) if config.channels_last else model


def laid_out(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    """The model with its four-dimensional weights in this layout."""
    return model.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def follow(
    run: Run,
    made_of: Mapping[str, Any],
    began: float,
    progress: Progress | None,
    checkpoint: Checkpoint | None,
    snapshots: Snapshots | None,
    trackers: Sequence[Tracker],
    shown: ShownEpochs | None,
) -> float:
    """Follow the schedule of a run to its end; `began` is its start time, moved later by all interruptions.

    Returns the start time moved later by the time of measuring as well.
    """
    at, processes = run.position, run.processes
    if shown is not None:
        shown.check(at.epoch_samples[: at.epoch])
    run.model.train()

    def save() -> None:
        at.seconds = time.perf_counter() - began
        state = run.state_dict(checkpoint)
        if snapshots is not None and processes.writes:
            for tracker in trackers:
                if isinstance(tracker, Curves):
                    tracker.flush()  # A resumed run starts after these numbers and never logs them again.
            snapshots.write(made_of, state)

    for epoch in run.schedule.epochs(at):
        steps, seen, entered = len(epoch.steps), at.samples_seen, time.perf_counter()
        if len(at.epoch_samples) == at.epoch:
            at.epoch_samples.append(len(epoch.ids))
        if shown is not None and processes.writes:
            shown.write(epoch.number, epoch.ids, None if run.sampler is None else run.sampler.weights(epoch.ids))
        for _ in run.train_epoch(epoch):
            ended = at.step == steps
            if ended:
                run.end_epoch()
                tell_left_out(run)
                if run.totals is not None:
                    values = run.numbers(len(epoch.ids))  # Synchronises, so that the time is right.
                    values["samples_per_second"] = (at.samples_seen - seen) / (time.perf_counter() - entered)
                    for tracker in trackers if processes.writes else ():
                        tracker.log(values, step=at.steps_done)
                expected = run.schedule.expected_steps(at)
                if progress and processes.writes:
                    progress(at.steps_done, expected)
                if checkpoint and processes.writes:
                    checkpoint(run.model, at.steps_done, expected)
                    run.model.train()
                at.epoch, at.step = at.epoch + 1, 0
            measured = run.measure(began, steps)
            began, entered = began + measured, entered + measured
            if snapshots is not None and due(snapshots, run, ended):
                save()
    if snapshots is not None and snapshots.keep:
        save()
    elif snapshots is not None and processes.writes:
        snapshots.finish()
    return began


def due(snapshots: Snapshots, run: Run, ended: bool) -> bool:
    """Whether to save the state after a step, which may have ended an epoch; the same in all processes."""
    steps, epochs = snapshots.steps, snapshots.epochs
    if (steps and run.position.steps_done % steps == 0) or (ended and epochs and run.position.epoch % epochs == 0):
        return True
    if run.processes.world == 1:
        return snapshots.due_by_time()
    return ended and run.processes.agree(snapshots.due_by_time(), run.device)
