"""One training in processes of its own: `accelerate launch … -m secateur.pipelines.runs.worker FOLDER`.

All processes read `job.json` and the arrays that it names, and train together. The first one writes `outcome` into the
folder: the model and the numbers of its training. Under Dagster Pipes it also reports progress to the waiting run.
`assets/launch.py` writes the folder and starts the processes. This module does not import dagster: every process would
pay for it.
"""

import json
import mmap
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, PipesContext, open_dagster_pipes
from pydantic import BaseModel, ConfigDict

from secateur.pipelines.files.whole_files import new_file, new_folder
from secateur.pipelines.runs.choosing import sampler_of
from secateur.pipelines.studies.selection import Selection
from secateur.selectors.samplers.contract import EpochSampler
from secateur.trainers.contract import Data, Objective, TrainingConfig
from secateur.trainers.distillation.objective import Distillation
from secateur.trainers.distillation.teacher import varies
from secateur.trainers.distillation.token_teacher import teacher_for
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.learning_curve import LearningCurve, Point
from secateur.trainers.loop.shown_epochs import ShownEpochs
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.trackers import TensorBoard, Tracker
from secateur.trainers.loop.train import Trained, train
from secateur.trainers.models import registry as models
from secateur.trainers.sparse_rows import ENDING, Inputs, SparseRows, open_inputs
from secateur.trainers.tasks.own import OwnTask, Split
from secateur.trainers.tasks.registry import task_from

JOB, OUTCOME, NUMBERS = "job.json", "outcome", "trained.json"
NUMBERS_OF = ("steps", "epochs", "samples_seen", "seconds", "tokens_seen", "length", "epoch_samples", "curve")
"""Fields of `Trained` besides the model."""
ORPHANED = 75
"""Exit status of a process whose launcher is gone."""


class DataFiles(BaseModel):
    """Files of inputs and targets, in folders that all processes see. A task of the user's own has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: Path | None
    targets: Path | None
    task: dict[str, Any]
    model_settings: dict[str, Any]

    def load(self, split: Split = "train") -> Data:
        """The data with memory-mapped inputs, or a user's own task's `split`; ValueError for files of two data sets."""
        task = task_from(self.task)
        if isinstance(task, OwnTask):
            return Data.of(task, split)
        assert self.inputs
        assert self.targets
        inputs = open_inputs(self.inputs)
        targets = np.load(self.targets, allow_pickle=False)
        if len(inputs) != len(targets):
            raise ValueError(f"{self.inputs} holds {len(inputs)} samples now, not {len(targets)}: it was made again")
        return Data(inputs, targets, task, self.model_settings)


def files_of(data: Data, folder: Path, prefix: str = "") -> DataFiles:
    """Files of the data: the mapped file of the inputs if there is one, all else in new files in `folder`, with names
    that begin with `prefix`.
    """
    state, settings = data.task.state(), dict(data.model_settings)
    if isinstance(data.task, OwnTask):
        return DataFiles(inputs=None, targets=None, task=state, model_settings=settings)
    targets, inputs = folder / f"{prefix}targets.npy", mapped_from(data.inputs)
    save_array(targets, data.targets)
    if inputs is None and isinstance(data.inputs, SparseRows):
        inputs = folder / f"{prefix}inputs{ENDING}"
        with new_file(inputs, overwrite=True) as partial:
            data.inputs.save(partial)
    elif inputs is None:
        inputs = folder / f"{prefix}inputs.npy"
        save_array(inputs, data.inputs)
    return DataFiles(inputs=inputs.resolve(), targets=targets.resolve(), task=state, model_settings=settings)


def mapped_from(array: Inputs) -> Path | None:
    """The file of which an array is the whole memory map; None for other arrays."""
    if isinstance(array, SparseRows):
        return array.path
    # A view of a map is a memmap as well, and names the same file; its base is the map that it was taken from.
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and str(array.filename).endswith(".npy"):
        return Path(str(array.filename))
    return None


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a `.npy` file, whole or not at all."""
    with new_file(path, overwrite=True) as partial, partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)


class Sampled(BaseModel):
    """An in-training selection, with the settings found for it and the score that it reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    selection: dict[str, Any]
    settings: dict[str, Any]
    scores: Path | None = None


class Taught(BaseModel):
    """Knowledge distillation: settings, the teacher's folder, its cached logits, the share of samples kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: Distillation
    teacher: Path
    logits: Path | None = None
    share: float


class TrainingJob(BaseModel):
    """Everything that a training depends on, arrays by the paths of their files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataFiles
    config: TrainingConfig
    seed: int
    keep: Path | None = None
    sampled: Sampled | None = None
    taught: Taught | None = None
    test: DataFiles | None = None
    """Samples for evaluations during training, `evaluations` times."""
    evaluations: int = 0
    curves: Path | None = None
    """Folder of TensorBoard's files."""
    shown: Path | None = None
    """Folder of the samples of each epoch, of a selection in training."""
    snapshot_seconds: float = 60.0
    """Seconds between snapshots, from which a killed job goes on."""

    def train(self, folder: Path, progress: Callable[[int, int], None] | None = None) -> Trained:
        """Train the model; every process makes the same call."""
        data, snapshots = self.data.load(), Snapshots(folder / "snapshots", seconds=self.snapshot_seconds)
        with trackers_in(self.curves, fresh=not snapshots.path.exists()) as trackers:
            return train(
                data,
                self.config,
                seed=self.seed,
                keep=None if self.keep is None else np.load(self.keep, allow_pickle=False),
                sampler=self.sampler(data),
                objective=self.objective(data),
                # Without a GPU accelerate joins processes only if they name the CPU as their device.
                device=None if torch.cuda.is_available() else torch.device("cpu"),
                progress=progress,
                snapshots=snapshots,
                trackers=trackers,
                curve=LearningCurve(partial(evaluate, data=self.test.load("test")), self.evaluations)
                if self.test
                else None,
                shown=ShownEpochs(self.shown) if self.shown else None,
            )

    def sampler(self, data: Data) -> EpochSampler | None:
        """The sampler of an in-training selection."""
        if self.sampled is None:
            return None
        selection, signals = Selection(**self.sampled.selection), {"strata": data.task.strata(data.targets)}
        if selection.score and self.sampled.scores:
            signals[selection.score] = np.load(self.sampled.scores, allow_pickle=False)
        return sampler_of(selection, signals, self.sampled.settings, config=self.config, seed=self.seed)[0]

    def objective(self, data: Data) -> Objective | None:
        """The objective of a student; None without a teacher."""
        if self.taught is None:
            return None
        taught, augmentation = self.taught, self.config.augmentation
        model = models.load(taught.teacher) if taught.logits is None or varies(augmentation) else None
        teacher = teacher_for(data, taught.settings, model=model, cached=taught.logits, augmentation=augmentation)
        return taught.settings.objective(teacher, self.config, keep=taught.share)


class Unwritten:
    """The tracker of a process that does not write: all processes take part in the sums behind the curves."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Do nothing: the first process writes the same numbers."""


@contextmanager
def trackers_in(folder: Path | None, *, fresh: bool) -> Iterator[list[Tracker]]:
    """TensorBoard in a folder, which a fresh run starts over; none without one."""
    if folder is None:
        yield []
    elif not first():
        yield [Unwritten()]
    else:
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        with TensorBoard(folder) as board:
            yield [board]


def first() -> bool:
    """Whether this is the process that writes."""
    return os.environ.get("RANK", "0") == "0"


def save_outcome(trained: Trained, job: TrainingJob, folder: Path) -> dict[str, Any]:
    """Write model and numbers into `outcome`, whole or not at all; returns the numbers."""
    numbers = {name: getattr(trained, name) for name in NUMBERS_OF} | {
        "curve": [asdict(each) for each in trained.curve]
    }
    with new_folder(folder / OUTCOME, overwrite=True) as partial:
        shape = open_inputs(job.data.inputs).shape[1:] if job.data.inputs else ()
        models.save(trained.model.cpu(), partial, job.config, shape)
        (partial / NUMBERS).write_text(json.dumps(numbers))
    return numbers


def load_outcome(folder: Path) -> Trained:
    """Read back the files of `save_outcome`."""
    numbers = json.loads((folder / OUTCOME / NUMBERS).read_text())
    numbers["epoch_samples"] = tuple(numbers["epoch_samples"])
    numbers["curve"] = tuple(Point(**point) for point in numbers["curve"])
    return Trained(model=models.load(folder / OUTCOME), **numbers)


def leave_with_launcher() -> None:
    """End this process when its standard input closes: the launcher holds the other end until it dies."""

    def wait() -> None:
        while os.read(0, 1024):
            continue
        os._exit(ORPHANED)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def pipes() -> Iterator[PipesContext | None]:
    """The first process's line to the Dagster run that launched it; None for other processes, and without a run."""
    if not first() or DAGSTER_PIPES_CONTEXT_ENV_VAR not in os.environ:
        yield None
        return
    with open_dagster_pipes() as line:
        yield line


def telling(line: PipesContext, seconds: float = 5.0) -> Callable[[int, int], None]:
    """Progress as log lines of the run, at most every few seconds."""
    last = time.monotonic()

    def told(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds or done == total:
            last = time.monotonic()
            line.log.info(f"training: step {done} of {total}")

    return told


def main(arguments: list[str]) -> None:
    """Train the job of a folder."""
    folder = Path(arguments[0])
    if "--leave-with-launcher" in arguments:
        leave_with_launcher()
    job = TrainingJob.model_validate_json((folder / JOB).read_text())
    with pipes() as line:
        trained = job.train(folder, telling(line) if line else None)
        if first():
            numbers = save_outcome(trained, job, folder)
            if line:
                line.report_asset_materialization({name: numbers[name] for name in NUMBERS_OF[:-3]})
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
