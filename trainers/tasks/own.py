"""A user's own task over the samples of a user's own data set: a detector, a segmenter, or any model with a loss per
sample. `task: module:factory` in a study names a function without arguments that returns an `OwnTask`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Int64, Shaped

from secateur.scorers.checkpoints.contract import forward_with_features
from secateur.scorers.contract import TrainingBatch
from secateur.scorers.lazy import named, nn, torch
from secateur.scorers.signals import OF_NETWORK, Signal, Signals
from secateur.trainers.tasks.contract import Task

Split = Literal["train", "test"]


class OwnTask(Task):
    """Base class of users' tasks; a user defines only `metrics`, `samples`, `model`, `losses` and `measure`.

    A batch is the result of `collate`: tensors, or dicts or lists of them. The network's argument is the batch, and its
    outputs may have any type; `losses` and `measure` get both. Besides losses a task provides the signals (see
    `secateur.scorers.signals`) whose methods it defines, such as `correct(self, batch)`, bool `[b]`, from
    `batch.outputs` and the collated `batch.targets`. Scores that read other signals are rejected.
    """

    name = "own"
    own_network = True
    batch_size: int = 64
    """Samples per batch in passes without training."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.lacks = {
            signal: f"it does not define {signal}"
            for signal in get_args(Signal)
            if signal not in OF_NETWORK and getattr(cls, signal) in (getattr(OwnTask, signal), getattr(Signals, signal))
        }

    @abstractmethod
    def samples(self, split: Split) -> Any:
        """The samples of a split: an object with `len()` and `[number]`, always in the same order."""

    @abstractmethod
    def model(self) -> nn.Module:
        """A fresh network that takes a collated batch; the caller sets the seed of its weights."""

    @abstractmethod
    def losses(self, outputs: Any, targets: Any) -> torch.Tensor:
        """One loss per sample, float `[b]` with gradient, from the network's outputs and the collated batch."""

    @abstractmethod
    def measure(self, model: nn.Module, batches: Iterable[Any]) -> Mapping[str, float]:
        """Every metric by name; the model is in evaluation mode, and collated batches are on its device."""

    def collate(self, samples: list[Any]) -> Any:
        """A batch of samples; torch's default."""
        return torch.utils.data.default_collate(samples)

    def ids(self, split: Split) -> Sequence[str] | None:
        """A name for each sample in pages and exports; None for row numbers."""
        return None

    def groups(self, split: Split) -> Sequence[str] | None:
        """The name of each sample's group, for stratified draws and class policies; None for one group."""
        return None

    def shown(self, target: Any) -> str:
        """The target of a sample as text for pages; the argument is the whole sample. Empty text shows nothing."""
        return ""

    def strata_of(self, split: Split, count: int) -> Int64[np.ndarray, " n"]:
        """The place of each sample's group in `stratum_names`; raises ValueError unless there are `count` groups."""
        groups = self._groups(split)
        if groups and len(groups) != count:
            raise ValueError(f"task {self.name!r} yields {count} {split} samples and {len(groups)} groups")
        places = {name: place for place, name in enumerate(self.stratum_names())}
        return np.array([places[name] for name in groups], np.int64) if groups else np.zeros(count, np.int64)

    def _groups(self, split: Split) -> list[str]:
        return [str(name) for name in self.groups(split) or ()]

    def probed(self) -> OwnTask:
        """Itself, after a forward pass of two samples that finds the missing signals of `OF_NETWORK`."""
        with torch.random.fork_rng():
            model, samples = self.model().eval(), self.samples("train")
            batch = self.collate([samples[row] for row in range(min(2, len(samples)))])
            if not isinstance(batch, torch.Tensor):
                self.lacks = {**self.lacks, "inputs": "its network takes whole batches, not one tensor"}
            try:
                forward_with_features(model, batch)
            except Exception as error:  # A user's network may raise anything.
                self.lacks = {**self.lacks, "features": str(error), "embedding": str(error)}
        return self

    @property
    def width(self) -> int:
        """Raise NotImplementedError: the task makes its network itself."""
        raise self.not_known("the width of its network")

    def fitted(self, targets: Shaped[np.ndarray, "n ..."]) -> OwnTask:
        """Itself."""
        return self

    def state(self) -> dict[str, Any]:
        """The factory's name, which restores the task."""
        return {"name": self.name}

    def check(self, targets: Shaped[np.ndarray, "n ..."], rows: Int64[np.ndarray, " m"] | None = None) -> None:
        """No check: targets are in the batches."""

    def tensor(self, targets: Shaped[np.ndarray, "n ..."]) -> torch.Tensor:
        """An empty tensor `[n, 0]`: targets are in the batches."""
        return torch.empty(len(targets), 0)

    def distance(self, teacher: Any, student: Any, *, temperature: float) -> torch.Tensor:
        """Raise NotImplementedError; define it for distillation."""
        raise self.not_known("a distance between outputs, which distillation needs")

    def evaluate(self, outputs: Any, targets: Any) -> Mapping[str, float]:
        """Raise NotImplementedError: `measure` runs the network itself."""
        raise self.not_known("metrics of outputs alone")

    def strata(self, targets: Shaped[np.ndarray, "n ..."]) -> Int64[np.ndarray, " n"]:
        """The targets, which are `strata_of` a split: the network's targets are in the batches."""
        return targets

    def stratum_names(self) -> list[str]:
        """Names of the groups of both splits in alphabetical order; one name for all samples without groups."""
        return sorted({name for split in get_args(Split) for name in self._groups(split)}) or ["all"]

    def split(
        self, targets: Shaped[np.ndarray, "n ..."], fraction: float, seed: int
    ) -> tuple[Int64[np.ndarray, " pool"], Int64[np.ndarray, " held"]]:
        """The pool and the held-out rows, at random, stratified by groups if there are any."""
        if targets.any():
            return super().split(targets, fraction, seed)
        order = np.random.default_rng(seed).permutation(len(targets))
        held = int(np.ceil(fraction * len(targets)))
        return np.sort(order[held:]), np.sort(order[:held])

    def not_known(self, thing: str) -> NotImplementedError:
        """The error for a thing that the task does not define."""
        return NotImplementedError(f"the task {self.name} does not define {thing}")


class OwnBatch(TrainingBatch):
    """A training batch with ids, losses and the task's signals alone, `[b, …]` each."""

    def __init__(self, ids: torch.Tensor, losses: torch.Tensor, signals: Mapping[str, torch.Tensor], task: OwnTask):
        self.ids, self.losses, self.signals, self.task = ids, losses.detach().float(), dict(signals), task
        self.__dict__.update(signals)  # Cached properties look here first.

    @classmethod
    def of(cls, ids: torch.Tensor, outputs: Any, targets: Any, losses: torch.Tensor, task: OwnTask) -> OwnBatch:
        """The batch with the signals from a network's outputs for a collated batch."""
        whole = cls(ids, losses, {}, task)
        whole.outputs, whole.targets = outputs, targets
        names = sorted(task.provides - OF_NETWORK - {"losses", "target_output"})
        return cls(ids, losses, {name: getattr(whole, name).detach() for name in names}, task)

    def take(self, places: torch.Tensor) -> OwnBatch:
        """Some samples of the batch, int64 `[…]`."""
        signals = {name: values[places] for name, values in self.signals.items()}
        return OwnBatch(self.ids[places], self.losses[places], signals, self.task)  # type: ignore[arg-type]

    @cached_property
    def not_finite(self) -> torch.Tensor:
        """Whether the loss is NaN or infinite, bool `[b]`."""
        return ~self.losses.isfinite()


class Rows:
    """Samples of a user's data set, chosen by row numbers like an array; `batch` reads and collates them."""

    shape: tuple[int, ...] = ()

    def __init__(self, samples: Any, collate: Callable[[list[Any]], Any], rows: np.ndarray | None = None) -> None:
        self.samples, self.collate = samples, collate
        self.rows = np.arange(len(samples), dtype=np.int64) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Shaped[np.ndarray, " m"]) -> Rows:
        """The samples of a keep mask, of row numbers or of a slice; reads none of them yet."""
        return Rows(self.samples, self.collate, self.rows[rows])

    def batch(self) -> Any:
        """All of these samples, collated."""
        return self.collate([self.samples[row] for row in self.rows.tolist()])


def own_task(name: str) -> OwnTask:
    """The task that `module:factory` returns; raises ValueError with the reason if it returns none."""
    try:
        made = named(name, "task")()
    except TypeError as error:
        raise ValueError(f"task {name!r}: {error}") from error
    if not isinstance(made, OwnTask):
        raise ValueError(f"task {name!r} returned a {type(made).__name__}; it must return an OwnTask")
    if not made.metrics:
        raise ValueError(f"task {name!r} names no metrics: the first one decides comparisons")
    made.name = name
    return made
