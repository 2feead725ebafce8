"""Selectors: scores and a budget in, the samples worth keeping out.

A selector is a decorated pure function. Positional parameters name the signals that it reads: `scores` (the
score that a study picks), any other score by its name, `strata` (the class of a sample, or its substitute),
`memberships` (strata, or all labels of a sample), `embeddings`, and `budget`. Keyword-only parameters
are its settings, except `seed` and `ids`, which callers supply: a hash of `(seed, id)` decides all randomness and every
tie, so a choice does not depend on row order, sharding or the machine.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Generic, ParamSpec, TypeVar

import numpy as np
from jaxtyping import Num, Shaped
from pydantic import BaseModel, Field

from secateur.scorers.contract import Unit, discover, finite, positional, rows_text, settings_of, summary_of
from secateur.scorers.given import bound, look_like, refuse_no_array, refuse_no_count, shown_call
from secateur.scorers.memory import DoesNotFit, available_memory, gigabytes
from secateur.selectors.draws.blocks import over_blocks
from secateur.selectors.draws.ranks import Keep, Ordered
from secateur.selectors.sizes import Memory, Sizes

Cut = Annotated[float, Field(ge=0, lt=1)]
"""Share of all samples to cut."""

P = ParamSpec("P")
M = TypeVar("M")


@dataclass(frozen=True)
class Selector(Generic[P]):
    """A selecting function, still callable, with its declaration for the pipeline."""

    choose: Callable[P, Keep]
    name: str
    version: str
    summary: str
    paper: str
    reads: tuple[str, ...]
    settings: type[BaseModel]
    tunable: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Settings with the candidates that tuning tries on a validation split where a study leaves them out."""
    draws: bool = False
    """Whether choices depend on the seed even where nothing is tied."""
    monotone: bool = False
    """Whether, all else equal, a larger budget keeps everything that a smaller one keeps."""
    room: Callable[..., int] | None = None
    """Most samples that can be kept, from their number and the settings that it names; None: all."""
    candidates: Callable[..., Keep] | None = None
    """Mask of samples that can be kept, from the signals and settings that it names; None: all."""
    by_id: bool = False
    """Whether rows are first sorted by their ids: where sums over rows, or a library, depend on the order."""
    memory: Memory | None = None
    """Bytes that it holds beside its arguments, where these are more than a few numbers per sample."""

    def __post_init__(self) -> None:
        look_like(self, self.choose)

    def __repr__(self) -> str:
        return shown_call(self.choose)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Keep:
        """Keep mask, bool `[n]`, of exactly `budget` samples.

        Raises TypeError for arguments that it does not take, and ValueError for anything but NumPy arrays, arrays of
        unequal length, NaN or infinite numbers (rows are named), a budget outside 1 … n, or above the room that the
        settings leave, and work that does not fit into memory (DoesNotFit).
        """
        what = f"selector {self.name!r}"
        given = bound(what, self.choose, *args, **kwargs)
        arguments = given.arguments
        for name in [*self.reads, "ids"]:
            if name == "budget":
                refuse_no_count(what, name, arguments[name])
            elif arguments.get(name) is not None:
                refuse_no_array(what, name, arguments[name])
        arrays = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
        lengths = {name: len(value) for name, value in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"{what} needs arrays of one length, got {lengths}")
        count, budget = next(iter(lengths.values())), arguments["budget"]
        if not 1 <= budget <= count:
            raise ValueError(f"selector {self.name!r}: budget {budget} is not within 1 … {count}")
        most = self.most(count, arguments)
        if budget > most:
            raise ValueError(
                f"selector {self.name!r}: budget {budget} is above {most}, all that its settings leave of {count} "
                f"samples ({self.room_settings(arguments)}); lower the budget or change them"
            )
        self.refuse_large(arrays)
        for name, values in {id(values): (name, values) for name, values in arrays.items()}.values():
            refuse_not_finite(values, name)
        allowed = self.allowed(arguments)
        if self.candidates and allowed is not None and budget > (held := int(np.count_nonzero(allowed))):
            named = self.named(self.candidates, arguments)
            chosen = {name: value for name, value in named.items() if name not in arrays}
            raise ValueError(
                f"selector {self.name!r}: budget {budget} is above {held}, all that {chosen} leaves of {count} "
                "samples; lower the budget or widen them"
            )
        ids = arguments.get("ids")
        if self.by_id and ids is not None and np.any(ids[1:] < ids[:-1]):
            order = np.argsort(ids, kind="stable")
            arguments.update({name: values[order] for name, values in arrays.items()})
            keep = np.empty(count, dtype=np.bool_)
            keep[order] = self.choose(*given.args, **given.kwargs)
        else:
            keep = self.choose(*args, **kwargs)
        if np.count_nonzero(keep) != budget:
            raise RuntimeError(f"selector {self.name!r} kept {np.count_nonzero(keep)} samples, was asked for {budget}")
        return keep

    def refuse_large(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Raise DoesNotFit where a choice by these signals needs more memory than there is."""
        if self.memory is None:
            return
        samples = max(map(len, arrays.values()))
        dimensions = max((values.shape[1] for values in arrays.values() if values.ndim == 2), default=0)
        if self.memory(Sizes(samples, dimensions, samples)) <= (free := available_memory()):
            return
        largest = int(np.unique(arrays["strata"], return_counts=True)[1].max()) if "strata" in arrays else samples
        if fault := self.memory_fault(Sizes(samples, dimensions, largest), free):
            raise DoesNotFit(f"selector {self.name!r}: {fault}")

    def memory_fault(self, sizes: Sizes, free: int) -> str:
        """The reason why a choice among so many samples exceeds `free` bytes, with the remedy; empty where it fits."""
        needed = 0 if self.memory is None else self.memory(sizes)
        if needed <= free:
            return ""
        of = f" of {sizes.dimensions:,} dimensions" if sizes.dimensions else ""
        return (
            f"{sizes.samples:,} samples{of} take {gigabytes(needed)} of memory, and {gigabytes(free)} are free; choose "
            "within classes, by a class policy, or among a part that was drawn before, take embeddings of fewer "
            "dimensions, or a machine with more memory"
        )

    def most(self, count: int, settings: Mapping[str, Any]) -> int:
        """Most samples that can be kept of `count` under these settings; the ones left out have their defaults."""
        return self.room(count, **self.room_settings(settings)) if self.room else count

    def room_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that decide how many samples can be kept, with their values."""
        return self.named(self.room, settings) if self.room else {}

    def allowed(self, arguments: Mapping[str, Any]) -> Keep | None:
        """Samples that can be kept of these signals under these settings, bool `[n]`; None where all can be."""
        return None if self.candidates is None else self.candidates(**self.named(self.candidates, arguments))

    def as_read(self, name: str, scores: Num[np.ndarray, " n"]) -> Num[np.ndarray, " n"]:
        """Scores of any type in the form that this selector reads as signal `name`: unchanged where their order alone
        counts, so that none is rounded, else float32."""
        ordered = inspect.signature(self.choose).parameters[name].annotation is Ordered
        return scores if ordered else scores.astype(np.float32)

    def named(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that a function of this selector takes by name; those left out have the selector's defaults."""
        parameters = inspect.signature(self.choose).parameters
        names = [name for name in inspect.signature(function).parameters if name in parameters]
        return {name: arguments.get(name, parameters[name].default) for name in names}


def read_off(choose: Callable[..., Any]) -> dict[str, Any]:
    """The declaration of a selector, taken from its function."""
    return {
        "choose": choose,
        "name": choose.__name__,
        "summary": summary_of(choose),
        "reads": positional(choose),
        "settings": settings_of(choose),
    }


def selector(
    *,
    paper: str = "",
    version: str = "1",
    tunable: Mapping[str, tuple[float, ...]] | None = None,
    draws: bool = False,
    monotone: bool = False,
    room: Callable[..., int] | None = None,
    candidates: Callable[..., Keep] | None = None,
    by_id: bool = False,
    memory: Memory | None = None,
) -> Callable[[Callable[P, Keep]], Selector[P]]:
    """Declare a selector. `version` changes whenever its choices do; the rest as in `Selector`."""

    def declare(choose: Callable[P, Keep]) -> Selector[P]:
        return Selector(
            **read_off(choose),
            version=version,
            paper=paper,
            tunable=tunable or {},
            draws=draws,
            monotone=monotone,
            room=room,
            candidates=candidates,
            by_id=by_id,
            memory=memory,
        )

    return declare


@dataclass(frozen=True)
class MaskSelector(Generic[P, M]):
    """A function that selects units other than samples, still callable: masks by group (layer, tensor), or one mask.

    Positional parameters are `scores` or `shapes` by group, from the experiment, and `keep`, the share of all units
    that stays; `seed` and settings are keyword-only, as in a `Selector`.
    """

    choose: Callable[P, M]
    name: str
    version: str
    summary: str
    paper: str
    reads: tuple[str, ...]
    settings: type[BaseModel]
    units: tuple[Unit, ...]
    """Its units; without any, all units that come in groups."""
    draws: bool = False
    """Whether choices depend on the seed even where nothing is tied."""
    exact: bool = True
    """Whether exactly the budget stays; more may stay where it is False, never less."""

    def __post_init__(self) -> None:
        look_like(self, self.choose)

    def __repr__(self) -> str:
        return shown_call(self.choose)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> M:
        """Bool masks of the units' shapes; True stays."""
        masks = self.choose(*args, **kwargs)
        parts: list[Any] = list(masks.values()) if isinstance(masks, Mapping) else [masks]
        share = inspect.signature(self.choose).bind(*args, **kwargs).arguments["keep"]
        budget = resolve_keep(share, sum(mask.size for mask in parts))
        kept = sum(int(np.count_nonzero(mask)) for mask in parts)
        if kept < budget or (kept > budget and self.exact):
            raise RuntimeError(f"selector {self.name!r} kept {kept} units, the budget is {budget}")
        return masks


def mask_selector(
    *units: Unit, paper: str = "", version: str = "1", draws: bool = False, exact: bool = True
) -> Callable[[Callable[P, M]], MaskSelector[P, M]]:
    """Declare a selector of these units; `version` changes whenever its choices do, the rest is `MaskSelector`'s."""

    def declare(choose: Callable[P, M]) -> MaskSelector[P, M]:
        return MaskSelector(
            **read_off(choose),
            version=version,
            paper=paper,
            units=units,
            draws=draws,
            exact=exact,
        )

    return declare


@cache
def declared() -> Mapping[str, Selector[...] | MaskSelector[..., Any]]:
    """The selectors of all units by name; no two share one."""
    import secateur.selectors

    return discover(secateur.selectors, Selector, MaskSelector)


@cache
def selectors() -> Mapping[str, Selector[...]]:
    """Every selector of samples by name."""
    import secateur.selectors

    return discover(secateur.selectors, Selector)


def of_other_units() -> dict[str, str]:
    """Selectors of other units than samples, and their units."""
    masks = {name: one for name, one in declared().items() if isinstance(one, MaskSelector)}
    return {name: " and ".join(f"{unit}s" for unit in one.units) or "other units" for name, one in masks.items()}


@cache
def mask_selectors(unit: Unit) -> Mapping[str, MaskSelector[..., Any]]:
    """Every selector of a unit other than samples, by name."""
    import secateur.selectors

    return discover(secateur.selectors, MaskSelector, holds=lambda one: unit in (one.units or (unit,)))


def refuse_not_finite(values: Shaped[np.ndarray, " n *more"], name: str) -> None:
    """Raise ValueError that names the rows where a floating-point array is NaN or infinite."""
    if not np.issubdtype(values.dtype, np.floating):
        return
    if values.ndim == 1:
        # The extremes of a block reveal NaN and infinity, at half the cost of a check of each number.
        ends = over_blocks(len(values), lambda rows: (values[rows].min(), values[rows].max()))
        if not np.isfinite(ends).all():
            finite(values, name)
        return
    width = tuple(range(1, values.ndim))
    good = over_blocks(len(values), lambda rows: np.isfinite(values[rows]).all(axis=width), 1 << 10)
    bad = np.flatnonzero(~np.concatenate(good))
    if len(bad):
        raise ValueError(f"{name!r} is NaN or infinite at {rows_text(bad)}")


def resolve_keep(keep: int | float, count: int) -> int:
    """Budget in samples: an int is a count, a float a fraction in (0, 1], rounded to the nearest count, half up.

    Raises ValueError for 0, negatives, fractions above 1, fractions of less than half a sample, counts above `count`,
    and booleans.
    """
    if isinstance(keep, bool) or not isinstance(keep, int | float):
        raise ValueError(f"keep must be a fraction in (0, 1] or a count, got {keep!r}")
    if isinstance(keep, int):
        if not 1 <= keep <= count:
            raise ValueError(f"keep is a count of {keep}, but it must be within 1 … {count} (the samples there are)")
        return keep
    if not 0 < keep <= 1:
        raise ValueError(f"keep is a fraction of {keep}, but it must be within (0, 1]")
    if not (budget := nearest(keep, count)):
        raise ValueError(
            f"keep is a fraction of {keep}, which of {count} comes to {keep * count:.2g}, less than half of one: name "
            "a larger fraction, or a count"
        )
    return budget


def nearest(share: float, count: int) -> int:
    """The whole number nearest to a share of a count, half up."""
    return int(np.floor(share * count + 0.5))


def resolve_amount(keep: int | float | Mapping[str, int | float], count: int, whole: float) -> int | float:
    """The largest size of the kept rows: `resolve_keep`, or an amount of a column whose total is `whole`, or a share of
    this total in (0, 1]; raises ValueError for anything else.
    """
    if not isinstance(keep, Mapping):
        return resolve_keep(keep, count)
    [(column, amount)] = keep.items()
    if isinstance(amount, bool) or not amount > 0:
        raise ValueError(f"keep: {column} needs an amount above 0, got {amount}")
    return amount * whole if isinstance(amount, float) and amount <= 1 else amount
