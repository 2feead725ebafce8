"""What a selector is: scores and a budget in, the samples worth keeping out.

A selector is a decorated pure function. Positional parameters name the signals that it reads: `scores` (the
score that a study picks), any other score by its name, `labels`, `embeddings`, and `budget`. Keyword-only parameters
are its settings, except `seed` and `ids`, which callers supply: all randomness and every tie is decided by a hash of
`(seed, id)`, so a choice does not depend on row order, sharding or the machine.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, NamedTuple, ParamSpec

import numpy as np
from jaxtyping import Bool, Int64, Num, Shaped, UInt64
from pydantic import BaseModel

from secateur.scorers.contract import discover, finite, positional, rows_text, settings_of, summary_of
from secateur.selectors.blocks import over_blocks

P = ParamSpec("P")
Keep = Bool[np.ndarray, " n"]
"""True where a sample stays, in data-set order."""
Ids = Int64[np.ndarray, " n"]
"""Identity of each sample for ties and draws, all distinct; row numbers where none are given."""


@dataclass(frozen=True)
class Selector(Generic[P]):
    """A selecting function, still callable, and what the pipeline must know of it."""

    choose: Callable[P, Keep]
    name: str
    version: str
    summary: str
    paper: str
    reads: tuple[str, ...]
    settings: type[BaseModel]
    tunable: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Settings that are picked on a validation split where a study leaves them out, with their candidates."""
    draws: bool = False
    """Whether choices depend on the seed even where nothing is tied."""
    monotone: bool = False
    """Whether, all else equal, a larger budget keeps everything that a smaller one keeps."""
    room: Callable[..., int] | None = None
    """Most samples that can be kept, of how many there are and the settings that it names; all where it is None."""
    by_id: bool = False
    """Whether rows are put in the order of their ids first: where sums over rows, or a library, would see the order."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Keep:
        """Keep mask, bool `[n]`, of exactly `budget` samples.

        Raises ValueError for arrays of unequal length, NaN or infinite numbers (rows are named) and a budget outside
        1 … n, or above what the settings leave room for.
        """
        bound = inspect.signature(self.choose).bind(*args, **kwargs)
        given = bound.arguments
        arrays = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
        lengths = {name: len(value) for name, value in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"selector {self.name!r} needs NumPy arrays of one length, got {lengths}")
        count, budget = next(iter(lengths.values())), given["budget"]
        if not 1 <= budget <= count:
            raise ValueError(f"selector {self.name!r}: budget {budget} is not within 1 … {count}")
        most = self.most(count, given)
        if budget > most:
            raise ValueError(
                f"selector {self.name!r}: budget {budget} is above {most}, all that its settings leave of {count} "
                f"samples ({self.room_settings(given)}); lower the budget or change them"
            )
        for name, values in {id(values): (name, values) for name, values in arrays.items()}.values():
            refuse_not_finite(values, name)
        ids = given.get("ids")
        if self.by_id and ids is not None and np.any(ids[1:] < ids[:-1]):
            order = np.argsort(ids, kind="stable")
            given.update({name: values[order] for name, values in arrays.items()})
            keep = np.empty(count, dtype=np.bool_)
            keep[order] = self.choose(*bound.args, **bound.kwargs)
        else:
            keep = self.choose(*args, **kwargs)
        if np.count_nonzero(keep) != budget:
            raise RuntimeError(f"selector {self.name!r} kept {np.count_nonzero(keep)} samples, was asked for {budget}")
        return keep

    def most(self, count: int, settings: Mapping[str, Any]) -> int:
        """Most samples that can be kept of `count` under these settings; the ones left out have their defaults."""
        return self.room(count, **self.room_settings(settings)) if self.room else count

    def room_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that decide how many samples can be kept, with their values."""
        if self.room is None:
            return {}
        parameters = inspect.signature(self.choose).parameters
        names = list(inspect.signature(self.room).parameters)[1:]
        return {name: settings.get(name, parameters[name].default) for name in names}


def selector(
    *,
    paper: str = "",
    version: str = "1",
    tunable: Mapping[str, tuple[float, ...]] | None = None,
    draws: bool = False,
    monotone: bool = False,
    room: Callable[..., int] | None = None,
    by_id: bool = False,
) -> Callable[[Callable[P, Keep]], Selector[P]]:
    """Declare a selector. `version` changes whenever its choices would; the rest as in `Selector`."""

    def declare(choose: Callable[P, Keep]) -> Selector[P]:
        return Selector(
            choose=choose,
            name=choose.__name__,
            version=version,
            summary=summary_of(choose),
            paper=paper,
            reads=positional(choose),
            settings=settings_of(choose),
            tunable=tunable or {},
            draws=draws,
            monotone=monotone,
            room=room,
            by_id=by_id,
        )

    return declare


@cache
def selectors() -> Mapping[str, Selector[...]]:
    """Every selector by name."""
    import secateur.selectors

    return discover(secateur.selectors, Selector)


def refuse_not_finite(values: Shaped[np.ndarray, " n *more"], name: str) -> None:
    """Raise ValueError that names the rows where a floating-point array is NaN or infinite."""
    if not np.issubdtype(values.dtype, np.floating):
        return
    if values.ndim == 1:
        # The extremes of a block tell of NaN and infinity, at half the cost of a look at each number.
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
    """Budget in samples: an int is a count, a float a fraction in (0, 1] rounded half up, of at least one sample.

    Raises ValueError for 0, negatives, fractions above 1, counts above `count`, and booleans.
    """
    if isinstance(keep, bool) or not isinstance(keep, int | float):
        raise ValueError(f"keep must be a fraction in (0, 1] or a count, got {keep!r}")
    if isinstance(keep, int):
        if not 1 <= keep <= count:
            raise ValueError(f"keep is a count of {keep}, but it must be within 1 … {count} (the samples there are)")
        return keep
    if not 0 < keep <= 1:
        raise ValueError(f"keep is a fraction of {keep}, but it must be within (0, 1]")
    return max(1, int(np.floor(keep * count + 0.5)))


def random_keys(samples: int | Shaped[np.ndarray, " n"], seed: int) -> UInt64[np.ndarray, " keys"]:
    """A uniform uint64 per sample, a hash of `(seed, id)`: the SplitMix64 finaliser (Steele et al., OOPSLA 2014).

    `samples` are the ids, int64 `[n]`, or how many there are when row numbers serve. Keys of distinct ids are distinct.
    """
    ids = np.arange(samples) if isinstance(samples, int) else samples
    keys = np.empty(len(ids), dtype=np.uint64)

    def write(rows: slice) -> None:
        keys[rows] = ids[rows]
        hash_in_place(keys[rows], seed)

    over_blocks(len(ids), write)
    return keys


def hash_in_place(words: UInt64[np.ndarray, " n"], seed: int) -> None:
    """Make the `random_keys` of ids of the ids themselves."""
    start = np.array([seed], dtype=np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    _mix(start)
    words += start
    _mix(words)


def _mix(z: UInt64[np.ndarray, " n"]) -> None:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    z ^= z >> np.uint64(31)


def keep_smallest(values: Num[np.ndarray, " n"], budget: int, *, seed: int, ids: Ids | None = None) -> Keep:
    """Mask of the `budget` smallest values; equals at the threshold are drawn by `random_keys`.

    Linear time and no sort: a selection finds the threshold, keys are made only for the values that equal it.
    """
    return _keep_beyond(values, rank_of(values, budget - 1), np.less, budget, seed, ids)


def keep_largest(values: Num[np.ndarray, " n"], budget: int, *, seed: int, ids: Ids | None = None) -> Keep:
    """Mask of the `budget` largest values, as `keep_smallest`."""
    return _keep_beyond(values, rank_of(values, len(values) - budget), np.greater, budget, seed, ids)


def _keep_beyond(
    values: Num[np.ndarray, " n"], ranked: "Ranked", beyond: np.ufunc, budget: int, seed: int, ids: Ids | None
) -> Keep:
    keep = np.empty(len(values), dtype=np.bool_)
    over_blocks(len(values), lambda rows: beyond(values[rows], ranked.value, out=keep[rows]))
    above = len(values) - ranked.below - len(ranked.tied)
    missing = budget - (ranked.below if beyond is np.less else above)
    keep[first_by_key(ranked.tied, missing, seed, ids)] = True
    return keep


def first_by_key(
    rows: Int64[np.ndarray, " m"], count: int, seed: int, ids: Ids | None = None
) -> Int64[np.ndarray, " count"]:
    """The `count` of some rows with the smallest `random_keys`, in no order."""
    if not 0 < count < len(rows):
        return rows[:count]
    keys = random_keys(rows if ids is None else ids[rows], seed)
    return np.asarray(rows[np.argpartition(keys, count - 1)[:count]])


class Ranked(NamedTuple):
    """What stands at one rank of the sorted values."""

    value: Any
    below: int
    """How many values are smaller."""
    tied: Int64[np.ndarray, " m"]
    """Rows of the values that equal it, ascending."""


def rank_of(values: Num[np.ndarray, " n"], rank: int, *, drawn: int = 1 << 18) -> Ranked:
    """The value that has `rank` smaller or equal ones before it in sorted order, and its place.

    Floyd and Rivest's SELECT ("Expected time bounds for selection", CACM 1975), one round of it: a sample brackets
    the answer, one pass counts what lies below and collects what lies inside. The answer is exact; only the time
    depends on the sample.
    """
    if len(values) < 8 * drawn:
        return _place_of(values, np.partition(values, rank)[rank])
    sample = np.sort(values[np.random.default_rng(0).integers(0, len(values), drawn)])
    share = rank / len(values)
    place, slack = share * drawn, 1 + 6 * (share * (1 - share) * drawn) ** 0.5
    low, high = sample[max(int(place - slack), 0)], sample[min(int(place + slack), drawn - 1)]

    def look(rows: slice) -> tuple[int, np.ndarray, np.ndarray]:
        block = values[rows]
        above_low = block > low
        inside = np.flatnonzero(above_low & (block < high))
        return len(block) - int(np.count_nonzero(above_low)), inside + rows.start, block[inside]

    parts = over_blocks(len(values), look)
    through_low = sum(part[0] for part in parts)
    between = np.concatenate([part[2] for part in parts])
    if through_low <= rank < through_low + len(between):
        value = np.partition(between, rank - through_low)[rank - through_low]
        below = through_low + int(np.count_nonzero(between < value))
        return Ranked(value, below, np.concatenate([part[1] for part in parts])[between == value])
    # The answer is tied with an end of the bracket, or lies outside.
    ranked = _place_of(values, low if rank < through_low else high)
    if ranked.below <= rank < ranked.below + len(ranked.tied):
        return ranked
    return _place_of(values, np.partition(values, rank)[rank])


def _place_of(values: Num[np.ndarray, " n"], value: Any) -> Ranked:
    def look(rows: slice) -> tuple[int, np.ndarray]:
        block = values[rows]
        return int(np.count_nonzero(block < value)), np.flatnonzero(block == value) + rows.start

    parts = over_blocks(len(values), look)
    return Ranked(value, sum(part[0] for part in parts), np.concatenate([part[1] for part in parts]))
