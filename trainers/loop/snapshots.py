"""The whole state of a training run in one file, from which a killed run resumes as if uninterrupted.

A snapshot holds the model, the optimiser, the loss scaler, the position in the run with its cost, the sampler, the
observers, other objects with a state (such as a `CheckpointWriter`), and the generators that layers draw from. On a
CPU, in one process, a resumed run gives the same bits as an uninterrupted one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from secateur.scorers.contract import Observer
from secateur.scorers.lazy import nn, torch
from secateur.selectors.samplers.contract import EpochSampler
from secateur.trainers.contract import AfterStep, Data, Objective, TrainingConfig
from secateur.trainers.models.identity import weights_of
from secateur.trainers.sparse_rows import SparseRows

NAME = "snapshot.pt"
FORMAT = 1


@dataclass
class Snapshots:
    """The place and interval of one run's snapshots: after so many seconds, steps or epochs, whichever comes first.

    A run resumes from its snapshot in `folder`, and raises ValueError for one of another run. At its end it removes the
    snapshot, or with `keep` writes a final one, from which the same call returns the trained model at once. `of` holds
    further facts that identify the run, such as the fingerprint of a teacher (JSON-able values). With several processes
    the folder must be visible to all of them, and the run checks seconds after each epoch only.
    """

    folder: Path
    seconds: float | None = None
    steps: int | None = None
    epochs: int | None = None
    keep: bool = False
    of: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError without an interval, and for one that is not above 0."""
        intervals = [each for each in (self.seconds, self.steps, self.epochs) if each is not None]
        if not intervals or min(intervals) <= 0:
            raise ValueError("snapshots need an interval above 0: seconds, steps or epochs")
        self._last = time.perf_counter()

    @property
    def path(self) -> Path:
        """The file that holds the snapshot."""
        return self.folder / NAME

    def due_by_time(self) -> bool:
        """Whether the last snapshot, or the start, is at least `seconds` ago."""
        return self.seconds is not None and time.perf_counter() - self._last >= self.seconds

    def write(self, made_of: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Replace the snapshot atomically: the old one stays until the new one is complete and on disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save({"format": FORMAT, "made_of": dict(made_of), "state": dict(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.path)
        self._last = time.perf_counter()

    def read(self, made_of: Mapping[str, Any]) -> dict[str, Any] | None:
        """The saved state, its tensors on the CPU; None without a snapshot.

        Raises ValueError for the snapshot of another run, with the differences, and for a file that is no snapshot.
        """
        if not self.path.exists():
            return None
        remedy = f"give this run a folder of its own, or delete {self.path}"
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            version, theirs = saved["format"], saved["made_of"]
        except Exception as error:
            raise ValueError(f"{self.path} is not a snapshot of a run ({error}); {remedy}") from error
        if version != FORMAT:
            raise ValueError(f"{self.path} has format {version}, this version reads {FORMAT}; {remedy}")
        names = sorted({*made_of, *theirs})
        differ = [
            f"{name} {theirs.get(name)!r} (here {made_of.get(name)!r})"
            for name in names
            if theirs.get(name) != made_of.get(name)
        ]
        if differ:
            raise ValueError(f"{self.path} is the snapshot of another run: {', '.join(differ)}; {remedy}")
        return dict(saved["state"])

    def finish(self) -> None:
        """Remove the snapshot, and the folder if it is empty then."""
        self.path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def summary_of_run(
    data: Data,
    rows: torch.Tensor,
    config: TrainingConfig,
    seed: int,
    sampler: EpochSampler | None,
    objective: Objective | None,
    observers: Sequence[Observer],
) -> dict[str, Any]:
    """The facts that identify a run before it begins, for its snapshots; the loading of inputs is none of them."""
    settings = config.model_dump(mode="json", exclude={"loading", "workers"})
    return {
        **summary_of_data(data, rows),
        **{f"config {name}": value for name, value in settings.items()},
        "seed": seed,
        **(
            {}
            if sampler is None
            else {f"sampler's {k}": v for k, v in sampler.state_dict(consumed=0)["made_of"].items()}
        ),
        "objective": summary_of_objective(objective),
        "observers": [summary_of_observer(watcher) for watcher in observers],
    }


def summary_of_data(data: Data, rows: torch.Tensor) -> dict[str, Any]:
    """The facts that identify data: shape, dtype and XXH3 of inputs and targets at the training rows, in order."""
    digest, numbers = xxhash.xxh3_128(), rows.numpy()
    for start in range(0, len(numbers), 4096):
        block = numbers[start : start + 4096]
        digest.update(block.tobytes())
        if isinstance(
            data.inputs, np.ndarray | SparseRows
        ):  # A user's own data set need not yield the same samples twice.
            digest.update(np.ascontiguousarray(data.inputs[block]).tobytes())
        digest.update(np.ascontiguousarray(data.targets[block]).tobytes())
    return {
        "samples": len(data),
        "rows trained on": len(numbers),
        "inputs": f"{getattr(data.inputs, 'dtype', 'own')} {list(data.inputs.shape[1:])}",
        "task": data.task.state(),
        "data": digest.hexdigest(),
    }


def summary_of_objective(objective: Objective | AfterStep | None) -> Any:
    """An objective's attribute `made_of`, a mapping; else its module and name."""
    if objective is None:
        return None
    own = getattr(objective, "made_of", None)
    if own is not None:
        return dict(own)
    named = objective if hasattr(objective, "__qualname__") else type(objective)
    return f"{named.__module__}:{named.__qualname__}"  # type: ignore[union-attr]


def summary_of_hooks(start: nn.Module | None, after_step: AfterStep | None) -> dict[str, Any]:
    """The facts that identify the start model and the hook after each step; empty without them."""
    parts: dict[str, Any] = {}
    if start is not None:
        learning = [name for name, each in start.named_parameters() if each.requires_grad]
        parts["start"] = f"{type(start).__qualname__}, {weights_of(start)}, of which {', '.join(learning)} learn"
    return parts if after_step is None else parts | {"after_step": summary_of_objective(after_step)}


def summary_of_observer(watcher: Observer) -> str:
    """An observer's class and settings, its plain attributes."""
    settings = {name: value for name, value in vars(watcher).items() if isinstance(value, (int, float, str, tuple))}
    return f"{type(watcher).__module__}:{type(watcher).__qualname__} {settings}"
