"""In-training selectors: torch samplers that draw once per epoch and get every loss.

`set_epoch` draws, `__iter__` only reads: a loader may iterate several times and gets the same epoch. Ids travel in
the batch, so a loader that looks ahead credits no loss to the wrong sample. In a loop:

>>> import torch
>>> from torch.utils.data import DataLoader, TensorDataset
>>> from secateur.selectors.samplers.info_batch import InfoBatch
>>> data = TensorDataset(torch.arange(64), torch.randn(64, 4), torch.arange(64) % 3)  # ids, inputs, labels
>>> model = torch.nn.Linear(4, 3)
>>> optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
>>> sampler = InfoBatch(len(data), epochs=3)
>>> loader = DataLoader(data, batch_size=16, sampler=sampler)
>>> for epoch in range(3):
...     sampler.set_epoch(epoch)
...     for ids, inputs, labels in loader:
...         losses = torch.nn.functional.cross_entropy(model(inputs), labels, reduction="none")
...         sampler.observe(ids, losses)
...         optimiser.zero_grad()
...         (sampler.weights(ids) * losses).mean().backward()
...         _ = optimiser.step()
"""

from __future__ import annotations

import inspect
import warnings
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32, Int64
from pydantic import BaseModel, Field

from secateur.scorers.contract import discover, positional, settings_of
from secateur.scorers.lazy import torch
from secateur.selectors.draws.blocks import over_blocks
from secateur.selectors.draws.keyed_permutation import KeyedPermutation
from secateur.selectors.draws.ranks import Ids
from secateur.selectors.samplers.callers import caller_of, check_split
from secateur.selectors.samplers.observed_losses import ObservedLosses

KeptShare = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)]
"""A budget in settings: a count if it is an integer, else a fraction."""
BLOCK = 4096
"""Ids an iterator looks up at a time."""


@dataclass(frozen=True)
class Shard:
    """The share of every epoch for this process: positions `rank`, `rank + world`, … of the common order.

    Shares are equally long, so that no process waits for another: `pad` repeats the head of the epoch for the last
    ones, `drop` leaves out the rest of the division. Make none where accelerate, or the transformers Trainer, splits
    batches; with Lightning, use it and `use_distributed_sampler=False`. Where a library would split a share again, the
    first id raises RuntimeError.
    """

    rank: int = 0
    world: int = 1
    remainder: Literal["pad", "drop"] = "pad"

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} is not within 0 … {self.world - 1}")
        if self.remainder not in ("pad", "drop"):
            raise ValueError(f"remainder must be 'pad' or 'drop', got {self.remainder!r}")

    def length(self, count: int) -> int:
        """Samples in this share of an epoch of `count`."""
        return -(-count // self.world) if self.remainder == "pad" else count // self.world


@dataclass(frozen=True)
class Draw:
    """One epoch of the whole world: `at(positions)` gives int64 ids for positions within 0 … count-1, in any thread."""

    count: int
    at: Callable[[Ids], Ids]
    weights: torch.Tensor | None = None
    """Factor of each sample's loss, float32 `[samples]`; None where all are 1."""


@dataclass(frozen=True)
class Shuffled:
    """Given ids in the order of a keyed permutation, computed for each position on demand."""

    ids: Ids
    order: KeyedPermutation

    def __call__(self, positions: Ids) -> Ids:
        """Ids at these positions."""
        return np.asarray(self.ids[self.order(positions)], dtype=np.int64)


def listed(at: Callable[[Ids], Ids], count: int) -> Ids:
    """Ids of `at` for the positions 0 … count-1, int64: by blocks, which stay in cache."""
    ids = np.empty(count, dtype=np.int64)
    over_blocks(count, lambda rows: ids.__setitem__(rows, at(np.arange(rows.start, rows.stop))))
    return ids


def shuffled(ids: Ids, seed: int, weights: torch.Tensor | None = None) -> Draw:
    """An epoch of these ids, each once, in random order."""
    return Draw(len(ids), Shuffled(ids, KeyedPermutation(len(ids), seed)), weights)


@dataclass(frozen=True)
class PlannedEpoch:
    """Number of samples that this process trains on in an epoch: `exact`, or an upper bound."""

    samples: int
    exact: bool

    def steps(self, batch_size: int, *, drop_last: bool = False) -> int:
        """Batches of this process; an upper bound where `exact` is False."""
        return self.samples // batch_size if drop_last else -(-self.samples // batch_size)


class EpochSampler(ABC):
    """A sampler: `set_epoch` draws each epoch from `(seed, epoch)` and from the losses that `observe` got.

    A new sampler is at epoch 0, and epochs only go on: a run that begins anew needs a new sampler. A subclass defines
    `draw` and `planned`; positional parameters of its `__init__` name its inputs, keyword-only ones are its settings.
    It sets `observed` if its draws follow losses.
    """

    settings: ClassVar[type[BaseModel]]
    version: ClassVar[str] = "1"
    """Version of its draws: it changes where the same seed, epoch and losses give other samples than before."""
    observed: ObservedLosses | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.settings = settings_of(cls.__init__, cls.__name__)

    def __init__(
        self, samples: int, shard: Shard, seed: int, settings: Mapping[str, Any], reads: Mapping[str, Any]
    ) -> None:
        """A subclass calls it last, since it draws epoch 0; `reads` are further inputs of its draws.

        Raises ValueError for settings that break their bounds or contradict each other.
        """
        if samples < 1:
            raise ValueError(f"{type(self).__name__} needs at least one sample, got {samples}")
        if not 0 <= seed < 1 << 63:
            raise ValueError(f"seed {seed} is not within 0 … 2**63-1")
        self.refuse(self.settings(**settings), samples)
        self.samples, self.shard, self.seed = samples, shard, seed
        self.epoch = 0
        self._counted, self._warned = False, set[str]()
        self._made_of = {
            "sampler": type(self).__name__,
            "samples": samples,
            "seed": seed,
            "share": f"{shard.rank} of {shard.world}, {shard.remainder}",
            **{name: _summary(value) for name, value in {**settings, **reads}.items()},
        }
        self._begin()

    @classmethod  # noqa: B027 - settings mostly go together
    def refuse(cls, settings: Any, samples: int | None = None) -> None:
        """Raise ValueError where `settings` contradict each other, or do not suit so many samples."""

    @abstractmethod
    def draw(self, epoch: int) -> Draw:
        """The epoch, the same in every process; a function of seed, epoch and merged losses alone."""

    @abstractmethod
    def planned(self, epoch: int) -> tuple[int, bool]:
        """(samples in the epoch over all processes, True) or (an upper bound, False), before anything is observed."""

    def set_epoch(self, epoch: int) -> None:
        """Draw an epoch, counted from 0; does nothing for the current one.

        First merges the losses observed since the last draw. In a run of several processes that is a collective
        call: every process must make it. Raises ValueError for an epoch before the current one: its rows have
        been shown, and the losses of later epochs are known.
        """
        if epoch < 0:
            raise ValueError(f"epoch {epoch} is negative")
        if epoch < self.epoch:
            raise ValueError(
                f"set_epoch({epoch}) would send the sampler back from epoch {self.epoch}, and show rows twice. A "
                f"resumed run goes on with set_epoch({self.epoch}); loaders of accelerate count from 0 by themselves: "
                f"call loader.set_epoch({self.epoch}) before. A run that begins anew needs a new sampler"
            )
        if epoch == self.epoch:
            self._counted = not self._passed  # the same one after a whole epoch: nobody counts
            return
        if self.observed is not None:
            self.observed.merge(self.epoch)
            if self._passed and not self.observed.any_seen():
                self.warn_once(
                    f"an epoch went by without a loss, so {type(self).__name__} cannot tell easy samples from hard "
                    "ones: call sampler.observe(ids, losses) for each batch"
                )
        self.epoch, self._counted = epoch, True
        self._begin()

    def warn_once(self, message: str) -> None:
        """Warn once in the life of this sampler; no warning for an empty message."""
        if message and message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, stacklevel=3)

    def _begin(self) -> None:
        self._draw = self.draw(self.epoch)
        self._tables: dict[torch.device, torch.Tensor] = {}
        self._position, self._resume_at, self._passed = 0, 0, False

    def _entered(self, place: int) -> None:
        """Called before the first id of an iterator, to detect faults of the loop around it."""
        self.warn_once(check_split(self.shard.rank, self.shard.world, place))
        if self._passed and not self._counted and self.epoch == 0:
            self.warn_once(
                "epoch 0 begins for the second time: call sampler.set_epoch(epoch) before each epoch, or every one "
                "shows the same samples"
            )

    def __len__(self) -> int:
        """Samples of this process in the epoch, also after a resumption."""
        return self.shard.length(self._draw.count)

    def __iter__(self) -> ShareIterator:
        """This process's ids of the epoch; after `load_state_dict`, the first iterator in use gives the rest."""
        return ShareIterator(self, self._resume_at)

    def epoch_ids(self) -> Ids:
        """All ids of this process in the epoch, in order, int64 `[len(self)]`."""
        return listed(self.ids_at, len(self))

    def ids_at(self, places: Ids) -> Ids:
        """Ids at these places of this process's share, int64: any place without the ones before it."""
        if self.shard.world == 1:
            return self._draw.at(places)
        return self._draw.at((places * self.shard.world + self.shard.rank) % self._draw.count)

    def observe(self, ids: Int64[torch.Tensor, " b"], losses: torch.Tensor) -> None:
        """Take in a batch: the ids that came in it and their per-sample losses, float `[b]`, before weighting.

        Stays on the device of the losses and waits for nothing. They count from the next draw on. A sampler
        that has no use for losses ignores them. Raises TypeError for anything but tensors and for ids of another type.
        """
        if self.observed is not None:
            self.observed.observe(ids, losses)

    def weights(self, ids: Int64[torch.Tensor, " b"]) -> Float32[torch.Tensor, " b"]:
        """Factor of each sample's loss in this epoch, float32, on the device of `ids`."""
        if self._draw.weights is None:
            return torch.ones(len(ids), dtype=torch.float32, device=ids.device)
        if ids.device not in self._tables:
            self._tables[ids.device] = self._draw.weights.to(ids.device)
        return self._tables[ids.device][ids]

    @property
    def forward_only(self) -> Ids:
        """Ids of this process that the epoch does not train on, but whose losses it needs, int64.

        At the end of the epoch, before the next `set_epoch`, the loop computes them without gradients and in evaluation
        mode, and passes them to `observe`. Most samplers have none.
        """
        return np.empty(0, dtype=np.int64)

    def plan(self, epochs: int) -> list[PlannedEpoch]:
        """Samples of this process in epochs 0 … epochs-1: exact where they are known, else an upper bound."""
        plans = []
        for epoch in range(epochs):
            count, exact = (self._draw.count, True) if epoch == self.epoch else self.planned(epoch)
            plans.append(PlannedEpoch(self.shard.length(count), exact))
        return plans

    def state_dict(self, consumed: int | None = None) -> dict[str, Any]:
        """The sampler's state in tensors, numbers and strings (`torch.load(weights_only=True)` reads it back).

        `consumed` is the number of samples of the epoch that this process has trained on: by default the ones that its
        latest iterator gave out. A loader with workers or look-ahead has taken more; then pass it, or use torchdata's
        StatefulDataLoader, which counts. Each process saves its own.
        """
        position = self._position if consumed is None else consumed
        state = {"made_of": self._made_of, "epoch": self.epoch, "position": position}
        return state if self.observed is None else {**state, "observed": self.observed.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`; raises ValueError for the state of another sampler, naming the difference.

        It also raises where torchdata's loader, whose state holds one of the sampler, would go back to an epoch before
        the current one.
        """
        mine, theirs = self._made_of, state["made_of"]
        differ = [f"{key} {theirs.get(key)!r} (here {mine.get(key)!r})" for key in mine if mine[key] != theirs.get(key)]
        if differ:
            raise ValueError(
                f"the state is of another sampler: {', '.join(differ)}; make the sampler as it was made then"
            )
        if int(state["epoch"]) < self.epoch and caller_of(("_BatchSamplerIterator",)):
            raise ValueError(
                f"the loader's state is of epoch {state['epoch']}, and the sampler was set to epoch {self.epoch}: go "
                f"on with the epoch of the state, `for epoch in range({state['epoch']}, epochs)`, which has nothing "
                "left where it was saved at its end"
            )
        if self.observed is not None:
            self.observed.load_state_dict(state["observed"])
        self.epoch = int(state["epoch"])
        self._begin()
        if not 0 <= state["position"] <= len(self):
            raise ValueError(f"the state stands at sample {state['position']} of an epoch of {len(self)}")
        self._position = self._resume_at = int(state["position"])

    def __getstate__(self) -> dict[str, Any]:
        """Without the copies of the weights on devices."""
        return {**vars(self), "_tables": {}}


@dataclass(eq=False)
class ShareIterator(Iterator[int]):
    """Walks one share of one epoch by blocks; its state is its place, for torchdata's StatefulDataLoader."""

    sampler: EpochSampler
    place: int
    block: list[int] = field(default_factory=list)
    ahead: int = 0
    entered: bool = False

    def __post_init__(self) -> None:
        self._epoch, self._draw, self._length = self.sampler.epoch, self.sampler._draw, len(self.sampler)

    def __iter__(self) -> ShareIterator:
        return self

    def __next__(self) -> int:
        if self.sampler._draw is not self._draw:
            raise RuntimeError(
                f"this iterator belongs to a draw of epoch {self._epoch}, and the sampler has since gone on to epoch "
                f"{self.sampler.epoch}: call set_epoch before the loader is iterated, not while"
            )
        if not self.entered:
            self.entered = True
            self.sampler._entered(self.place)
        if self.place >= self._length:
            raise StopIteration
        if self.ahead == len(self.block):
            self.block = self.sampler.ids_at(np.arange(self.place, min(self.place + BLOCK, self._length))).tolist()
            self.ahead = 0
        sample = self.block[self.ahead]
        self.ahead += 1
        self.place += 1
        self.sampler._position, self.sampler._resume_at = self.place, 0
        self.sampler._passed |= self.place == self._length
        return sample

    def state_dict(self) -> dict[str, int]:
        """The place of the next id in the share."""
        return {"place": self.place}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a place."""
        self.place, self.block, self.ahead = int(state["place"]), [], 0


def _summary(value: Any) -> Any:
    """The record of a setting or a signal in a state: the value, or the checksum of an array."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}, crc32 {zlib.crc32(value.tobytes()):08x}"
    return list(value) if isinstance(value, tuple) else value


@cache
def samplers() -> Mapping[str, type[EpochSampler]]:
    """Every in-training selector by name."""
    import secateur.selectors

    return discover(secateur.selectors, EpochSampler, holds=lambda kind: not inspect.isabstract(kind))


def make_sampler(
    name: str, settings: Mapping[str, Any], signals: Mapping[str, Any], *, seed: int, shard: Shard | None = None
) -> EpochSampler:
    """The sampler of this name, with `settings` from YAML and those `signals` (`samples`, `epochs`, `strata`, `scores`,
    `keep`) that it reads.

    Raises ValueError for an unknown name, invalid settings, and a missing signal.
    """
    if name not in samplers():
        raise ValueError(f"no sampler {name!r}; there are {', '.join(sorted(samplers()))}")
    kind = samplers()[name]
    chosen = kind.settings(**settings)
    parameters = inspect.signature(kind.__init__).parameters
    reads = [read for read in positional(kind.__init__) if read not in ("self", "shard")]
    missing = [read for read in reads if read not in signals and parameters[read].default is inspect.Parameter.empty]
    if missing:
        raise ValueError(f"sampler {name!r} needs {', '.join(missing)}; given are {', '.join(signals) or 'none'}")
    given = {read: signals[read] for read in reads if read in signals}
    values = {setting: getattr(chosen, setting) for setting in type(chosen).model_fields}
    build: Callable[..., EpochSampler] = kind
    return build(**given, **values, seed=seed, shard=shard or Shard())
