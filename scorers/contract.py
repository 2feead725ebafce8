"""Scorers: signals of every sample in, one number per sample out.

Two kinds share one registry. A *scorer* is a decorated pure function: its positional parameters name the
signals that it reads, its keyword-only parameters are its settings. An *observer* watches a training run
batch by batch and keeps O(N) accumulators. These declarations define assets, launchpad forms, stored
metadata and the laws in the tests.
"""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, ParamSpec, TypeVar, cast

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, Field, create_model

from secateur.scorers.given import bound, look_like, refuse_no_array, refuse_no_tensors, shown_call
from secateur.scorers.lazy import torch
from secateur.scorers.settings import Settings
from secateur.scorers.signals import Batch, ClassSignals, Signal, Signals

P = ParamSpec("P")
S = TypeVar("S")
Kind = TypeVar("Kind")

Scores = Float32[np.ndarray, " n"]
"""One number per sample, in data-set order."""

Meaning = Literal["harder", "easier", "longer", "more uncertain", "sparser", "denser"]
HighMeans = Literal[Meaning, "likelier mislabelled", "more important"]
Unit = Literal["sample", "weight", "channel", "delta", "head", "token"]
"""The unit of scores and selections: samples of a data set, parts of a network, tokens of a prompt."""

Count = Annotated[int, Field(ge=1)]
"""A number of things, at least one."""
Bins = Annotated[int, Field(ge=1, le=10**6)]
"""Number of equal parts of a range."""
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
"""A part of all, or a place between the least and the most."""

RESERVED = frozenset({"seed", "ids"})
"""Keyword-only parameters that callers supply and nobody configures."""

Reads = tuple[Signal | tuple[Signal, ...], ...]
"""Signals of a task that a scorer needs; one of those in an inner tuple suffices."""


@dataclass(frozen=True)
class Card:
    """Facts that every reader of a score needs; `caveat` names measurements that contradict the direction."""

    name: str
    version: str
    high_means: HighMeans
    view: str
    paper: str
    summary: str
    unit: Unit = "sample"
    caveat: str = ""


@dataclass(frozen=True)
class Scorer(Generic[P, S]):
    """A scoring function of signals, still callable, with its declaration for the pipeline."""

    compute: Callable[P, S]
    card: Card
    signals: tuple[str, ...]
    settings: type[BaseModel]
    reads: Reads = ()

    def __post_init__(self) -> None:
        look_like(self, self.compute)

    def __repr__(self) -> str:
        return shown_call(self.compute)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> S:
        """Scores: of samples float32 `[n]`, of other units float32 arrays by the groups that the signals have.

        Raises ValueError that names the rows where the score of a sample is NaN or infinite; selectors of other units
        refuse NaN.
        """
        if self.card.unit == "sample":
            what = f"scorer {self.card.name!r}"
            given = bound(what, self.compute, *args, **kwargs).arguments
            for name in self.signals:
                if given.get(name) is not None:
                    refuse_no_array(what, name, given[name])
        scores = self.compute(*args, **kwargs)
        if self.card.unit == "sample":
            finite(cast(Scores, scores), self.card.name)
        return scores


def scorer(
    *,
    high_means: HighMeans,
    view: str,
    paper: str,
    version: str = "1",
    reads: Reads = (),
    unit: Unit = "sample",
) -> Callable[[Callable[P, S]], Scorer[P, S]]:
    """Declare a scorer of signals; `version` changes with its numbers, `reads` names signals that it needs."""

    def declare(compute: Callable[P, S]) -> Scorer[P, S]:
        name = compute.__name__
        return Scorer(
            compute=compute,
            card=Card(name, version, high_means, view, paper, summary_of(compute), unit),
            signals=positional(compute),
            settings=settings_of(compute),
            reads=reads,
        )

    return declare


class TrainingBatch(Batch):
    """One training batch as the observers see it; it computes shared values once.

    `ids` int64 `[b]` are rows of the data set, each at most once; `outputs` float `[b, width]` and `losses` float `[b]`
    (the task's own, one per sample) come from the forward pass that precedes the update; `targets` `[b, …]` are as the
    task's losses read them. All live on the training device and nothing here moves them or waits for it. `task` defines
    the signals, by default classification. Raises TypeError that names each argument that is no tensor.
    """

    detached: ClassVar[bool] = True
    """Whether outputs and losses come without their gradients."""

    def __init__(
        self,
        ids: torch.Tensor,
        outputs: torch.Tensor,
        targets: torch.Tensor,
        losses: torch.Tensor,
        task: Signals | None = None,
    ) -> None:
        refuse_no_tensors("TrainingBatch", ids=ids, outputs=outputs, targets=targets, losses=losses)
        self.ids = ids
        self.outputs = (outputs.detach() if self.detached else outputs).float()
        self.targets = targets
        self.losses = (losses.detach() if self.detached else losses).float()
        self.task = task or ClassSignals()

    def take(self, places: torch.Tensor) -> TrainingBatch:
        """Some samples of the batch, int64 `[…]`."""
        return TrainingBatch(
            self.ids[places], self.outputs[places], self.targets[places], self.losses[places], self.task
        )

    @cached_property
    def not_finite(self) -> torch.Tensor:
        """Whether an output is NaN or infinite, bool `[b]`: for observers that count events, where NaN vanishes."""
        return ~self.outputs.isfinite().all(dim=1)


class Observer(ABC):
    """Watches a training run; keeps O(samples) accumulators on the training device.

    A subclass allocates tensors in `__init__` (every tensor attribute is part of `state_dict`), updates them in
    `observe` without waiting for the device, and reduces them in `scores`. Keyword-only parameters of its
    `__init__` are its settings.
    """

    card: ClassVar[Card]
    settings: ClassVar[type[BaseModel]]
    reads: ClassVar[Reads] = ()
    """Empty without a declaration: then nothing is checked before the first batch."""
    fills_windows: ClassVar[bool] = False
    """Whether a sample with fewer presentations than the setting `window` has no score."""

    def __init__(self, samples: int, device: torch.device) -> None:
        self.epoch = torch.zeros((), dtype=torch.int64)
        self.presentations = torch.zeros(samples, dtype=torch.int64, device=device)

    def observe(self, batch: TrainingBatch) -> None:
        """Take in one batch, before the update that it causes."""
        self.update(batch)
        self.presentations.index_add_(0, batch.ids, torch.ones_like(batch.ids))

    @abstractmethod
    def update(self, batch: TrainingBatch) -> None:
        """Add a batch to the accumulators; `presentations` still counts the batches before it."""

    def end_epoch(self, epoch: int) -> None:
        """Called after each epoch, counted from 0."""
        self.epoch.fill_(epoch + 1)

    @abstractmethod
    def reduce(self) -> torch.Tensor:
        """The accumulators as one number per sample, `[samples]`."""

    def scores(self) -> Scores:
        """Scores, float32 `[samples]`; raises ValueError that names rows which the run never presented."""
        unseen = (self.presentations == 0).nonzero().flatten().cpu().numpy()
        if len(unseen):
            raise ValueError(f"score {self.card.name!r}: the run never presented {rows_text(unseen)}")
        return finite(self.reduce().cpu().numpy().astype(np.float32), self.card.name)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Every accumulator by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a `state_dict`; raises ValueError for one of another scorer or number of samples.

        A tensor without entries, whose width shows in the first batch, takes the shape of the saved one.
        """
        for name, value in self.state_dict().items():
            if not value.numel() and name in state:
                setattr(self, name, torch.zeros_like(state[name], device=value.device))
        own = self.state_dict()
        expected, saved = ({name: tuple(value.shape) for name, value in each.items()} for each in (own, state))
        if expected != saved:
            raise ValueError(
                f"score {self.card.name!r} cannot continue: its state is {expected}, the saved one {saved}"
            )
        for name, value in own.items():
            value.copy_(state[name])


def observer(
    *, high_means: HighMeans, reads: Reads, paper: str, version: str = "1"
) -> Callable[[type[Kind]], type[Kind]]:
    """Declare an observer class; the scorer is named after its file and the class after the scorer."""

    def declare(watcher: type[Kind]) -> type[Kind]:
        name = watcher.__module__.rpartition(".")[2]
        view = "training batches as trained on (train mode, augmented if the task augments), before each update"
        watcher.card = Card(name, version, high_means, view, paper, summary_of(watcher))  # type: ignore[attr-defined]
        watcher.settings = settings_of(watcher.__init__, watcher.__name__)  # type: ignore[attr-defined]
        watcher.reads = reads  # type: ignore[attr-defined]
        return watcher

    return declare


class Discovered(Mapping[str, Any]):
    """Declarations of a package by name, each read from its file at its first use; iteration reads all files."""

    def __init__(self, package: Any, kinds: tuple[type, ...], holds: Callable[[Any], bool]) -> None:
        self._kinds, self._holds = kinds, holds
        self._modules: dict[str, list[str]] = {}
        for module in modules_of(package):
            self._modules.setdefault(module.rpartition(".")[2], []).append(module)
        self._read: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """The declaration of this name; KeyError where nothing has it, ValueError where two rooms declare it."""
        if name not in self._read:
            found = {module: one for module in self._modules[name] if (one := self._in(module, name)) is not None}
            if len(found) > 1:
                raise ValueError(f"{name!r} is declared in {' and in '.join(found)}: rename one of the files")
            self._read[name] = next(iter(found.values()), None)
        if self._read[name] is None:
            raise KeyError(name)
        return self._read[name]

    def __setitem__(self, name: str, one: Any) -> None:
        """Register this one as the declaration of the file of its name."""
        self._modules.setdefault(name, [])
        self._read[name] = one

    def __delitem__(self, name: str) -> None:
        """Read it from its file again."""
        del self._read[name]

    def _in(self, module: str, name: str) -> Any:
        """The declaration of a module under the name of its file; None where it is of another kind."""
        for spelling in (name, "".join(map(str.capitalize, name.split("_")))):
            one = getattr(importlib.import_module(module), spelling, None)
            kind = isinstance(one, self._kinds) or (inspect.isclass(one) and issubclass(one, self._kinds))
            if kind and self._holds(one):
                return one
        return None

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._modules if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def discover(package: Any, *kinds: type, holds: Callable[[Any], bool] = lambda _: True) -> Mapping[str, Any]:
    """Objects of the given kinds in a package and its rooms: module `some_name` holds `some_name` or class `SomeName`.

    `holds` must be true of each. A name that two rooms declare raises ValueError at its first use.
    """
    return Discovered(package, kinds, holds)


def modules_of(package: Any) -> list[str]:
    """Dotted names of the modules in a package and in the rooms below it, in alphabetical order."""
    names = set()
    for folder in map(Path, package.__path__):
        paths = (path.relative_to(folder) for path in folder.rglob("*.py"))
        names |= {".".join([package.__name__, *path.with_suffix("").parts]) for path in paths}
    return sorted(names)


@lru_cache(maxsize=1024)
def positional(function: Callable[..., object]) -> tuple[str, ...]:
    """Names of the parameters that a function takes by position."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)


def settings_of(function: Callable[..., object], name: str | None = None) -> type[BaseModel]:
    """Keyword-only parameters of a function, without the reserved ones, as a validated model that allows no others."""
    fields: dict[str, Any] = {
        p.name: (annotation_of(p, function), ... if p.default is p.empty else p.default)
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in RESERVED
    }
    return create_model(f"{name or function.__name__}_settings", __base__=Settings, **fields)


def annotation_of(parameter: inspect.Parameter, function: Callable[..., object]) -> Any:
    """The type of a parameter, also of one whose module keeps annotations as text: the others stay text."""
    kind = parameter.annotation
    return eval(kind, inspect.unwrap(function).__globals__) if isinstance(kind, str) else kind  # type: ignore[attr-defined]


def summary_of(thing: Any) -> str:
    """First paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def finite(values: Scores, name: str) -> Scores:
    """The same values; raises ValueError that names the rows where one is NaN or infinite."""
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"score {name!r} is NaN or infinite at {rows_text(bad)}")
    return values


class NotFinite(ValueError):
    """Outputs or losses that are NaN or infinite: an argmax would silently decide on them."""


@contextmanager
def naming(whose: str) -> Iterator[None]:
    """Put the trial, run or arm at hand before the message of a NotFinite that is raised in the block."""
    try:
        yield
    except NotFinite as error:
        raise type(error)(f"{whose}: {error}") from error


def finite_outputs(outputs: Any, what: str = "the outputs", *, model: Any = None, first_row: int = 0) -> Any:
    """The same outputs, an array or tensor `[n, …]`; raises NotFinite for those that are NaN or infinite.

    Its message counts the rows and names them, counted from `first_row`, with the `model` that gave them and the
    remedy.
    """
    good = outputs.isfinite() if hasattr(outputs, "isfinite") else np.isfinite(outputs)
    while good.ndim > 1:
        good = good.all(-1)
    if not good.all():
        bad = np.flatnonzero(~(good.cpu().numpy() if hasattr(good, "cpu") else good))
        what += f" of {name_of(model)}" if model is not None else ""
        places = f"{rows_text(first_row + bad)}, {len(bad)} of {len(outputs)}"
        raise NotFinite(f"{what} are NaN or infinite at {places}: {remedy_for(model)}")
    return outputs


def name_of(model: Any) -> str:
    """The class of a model, and the name or folder that a model of transformers was loaded from."""
    path = getattr(getattr(model, "config", None), "_name_or_path", "")
    return f"the model {type(model).__name__}" + (f" ({path})" if path else "")


def remedy_for(model: Any) -> str:
    """The remedy for NaN or infinite outputs, by whether the model's own weights are finite."""
    weights = {} if model is None else {n: w for n, w in model.state_dict().items() if w.is_floating_point()}
    broken = next((name for name, weight in weights.items() if not weight.isfinite().all()), None)
    if broken is not None:
        return f"so are its weights (first {broken}): its training diverged; train it again with a lower learning rate"
    if any(weight.dtype == torch.float16 for weight in weights.values()):
        return "its weights are float16, which ends at 65,504: save the model in float32 or bfloat16"
    return "its training diverged; train it again with a lower learning rate" + (
        ", or look at inputs that are too large for it" if weights else ""
    )


def rows_text(rows: np.ndarray) -> str:
    """Rows for an error message: the first few and their number."""
    shown = ", ".join(str(int(row)) for row in rows[:10])
    return f"row{'s' if len(rows) > 1 else ''} {shown}{f', … ({len(rows)} in all)' if len(rows) > 10 else ''}"
