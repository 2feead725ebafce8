"""A task of the user's own, over samples that the user's own data set yields: a detector, a segmenter, whatever has a
loss per sample. `task: module:factory` in a study names a function without arguments that returns an `OwnTask`."""

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
    """What a user writes: `metrics`, `samples`, `model`, `losses` and `measure`, and no more.

    A batch is whatever `collate` makes of samples: tensors, dicts, lists of them. The network is called with the batch
    and may put out anything; `losses` and `measure` get both. Besides losses a task gives the signals (see
    `secateur.scorers.signals`) whose methods it defines, such as `correct(self, batch)`, bool `[b]`, of
    `batch.outputs` and the collated `batch.targets`; a score that reads another is rejected.
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
        """The samples of a split: anything with `len()` and `[number]`, always in the same order."""

    @abstractmethod
    def model(self) -> nn.Module:
        """A fresh network, which is called with a collated batch; the seed of its weights is set before."""

    @abstractmethod
    def losses(self, outputs: Any, targets: Any) -> torch.Tensor:
        """One loss per sample, float `[b]` with gradient, of what the network put out and of the collated batch."""

    @abstractmethod
    def measure(self, model: nn.Module, batches: Iterable[Any]) -> Mapping[str, float]:
        """Every metric by name; the model is in evaluation mode, batches are collated and on its device."""

    def collate(self, samples: list[Any]) -> Any:
        """A batch of samples; torch's default."""
        return torch.utils.data.default_collate(samples)

    def ids(self, split: Split) -> Sequence[str] | None:
        """A name for each sample, by which pages and exports call it; None for row numbers."""
        return None

    def groups(self, split: Split) -> Sequence[str] | None:
        """The name of each sample's group, of which stratified draws and class policies keep shares; None for one."""
        return None

    def shown(self, target: Any) -> str:
        """The target within a sample, which is what this method gets, as pages show it; nothing where it is empty."""
        return ""

    def strata_of(self, split: Split, count: int) -> Int64[np.ndarray, " n"]:
        """The place of each sample's group among `stratum_names`; raises ValueError where groups are not `count`."""
        groups = self._groups(split)
        if groups and len(groups) != count:
            raise ValueError(f"task {self.name!r} yields {count} {split} samples and {len(groups)} groups")
        places = {name: place for place, name in enumerate(self.stratum_names())}
        return np.array([places[name] for name in groups], np.int64) if groups else np.zeros(count, np.int64)

    def _groups(self, split: Split) -> list[str]:
        return [str(name) for name in self.groups(split) or ()]

    def probed(self) -> OwnTask:
        """Itself, after a forward pass of two samples has shown which of `OF_NETWORK` its network gives."""
        with torch.random.fork_rng():
            model, samples = self.model().eval(), self.samples("train")
            batch = self.collate([samples[row] for row in range(min(2, len(samples)))])
            if not isinstance(batch, torch.Tensor):
                self.lacks = {**self.lacks, "inputs": "its network takes whole batches, not one tensor"}
            try:
                forward_with_features(model, batch)
            except Exception as error:  # a network of the user's may raise anything
                self.lacks = {**self.lacks, "features": str(error), "embedding": str(error)}
        return self

    @property
    def width(self) -> int:
        """Not asked for: the network is the task's own."""
        raise self.not_known("the width of its network")

    def fitted(self, targets: Shaped[np.ndarray, "n ..."]) -> OwnTask:
        """Itself."""
        return self

    def state(self) -> dict[str, Any]:
        """The factory that makes it again."""
        return {"name": self.name}

    def check(self, targets: Shaped[np.ndarray, "n ..."], rows: Int64[np.ndarray, " m"] | None = None) -> None:
        """Nothing to check: targets are in the batches."""

    def tensor(self, targets: Shaped[np.ndarray, "n ..."]) -> torch.Tensor:
        """Nothing, `[n, 0]`: targets are in the batches."""
        return torch.empty(len(targets), 0)

    def distance(self, teacher: Any, student: Any, *, temperature: float) -> torch.Tensor:
        """To be defined by a task that students of a teacher learn."""
        raise self.not_known("a distance between outputs, which distillation needs")

    def evaluate(self, outputs: Any, targets: Any) -> Mapping[str, float]:
        """Not asked for: `measure` runs the network itself."""
        raise self.not_known("metrics of outputs alone")

    def strata(self, targets: Shaped[np.ndarray, "n ..."]) -> Int64[np.ndarray, " n"]:
        """The targets, which are `strata_of` a split: what a network learns is in the batches."""
        return targets

    def stratum_names(self) -> list[str]:
        """Names of the groups of both splits in alphabetical order; one for all samples where there are none."""
        return sorted({name for split in get_args(Split) for name in self._groups(split)}) or ["all"]

    def split(
        self, targets: Shaped[np.ndarray, "n ..."], fraction: float, seed: int
    ) -> tuple[Int64[np.ndarray, " pool"], Int64[np.ndarray, " held"]]:
        """Rows to choose from and rows held out, at random, stratified where there are groups."""
        if targets.any():
            return super().split(targets, fraction, seed)
        order = np.random.default_rng(seed).permutation(len(targets))
        held = int(np.ceil(fraction * len(targets)))
        return np.sort(order[held:]), np.sort(order[:held])

    def not_known(self, thing: str) -> NotImplementedError:
        """The error that says what is not defined."""
        return NotImplementedError(f"the task {self.name} does not define {thing}")


class OwnBatch(TrainingBatch):
    """A training batch that holds ids, losses and the signals that the task defines, `[b, …]` each, and no more."""

    def __init__(self, ids: torch.Tensor, losses: torch.Tensor, signals: Mapping[str, torch.Tensor], task: OwnTask):
        self.ids, self.losses, self.signals, self.task = ids, losses.detach().float(), dict(signals), task
        self.__dict__.update(signals)  # where cached properties look first

    @classmethod
    def of(cls, ids: torch.Tensor, outputs: Any, targets: Any, losses: torch.Tensor, task: OwnTask) -> OwnBatch:
        """Of what the network put out for a collated batch."""
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
        """The samples of a keep mask, of row numbers or of a slice; none is read yet."""
        return Rows(self.samples, self.collate, self.rows[rows])

    def batch(self) -> Any:
        """All of these samples, collated."""
        return self.collate([self.samples[row] for row in self.rows.tolist()])


def own_task(name: str) -> OwnTask:
    """The task that `module:factory` returns; raises ValueError that says why there is none."""
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
