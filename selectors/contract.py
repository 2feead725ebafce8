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
from typing import Any, Generic, ParamSpec

import numpy as np
from jaxtyping import Bool, Int64, Shaped
from pydantic import BaseModel

from secateur.scorers.contract import discover, finite, positional, settings_of, summary_of

P = ParamSpec("P")
Keep = Bool[np.ndarray, " n"]
"""True where a sample stays, in data-set order."""
Ids = Int64[np.ndarray, " n"]
"""Identity of each sample for ties and draws; row numbers where none are given."""


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

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Keep:
        """Keep mask, bool `[n]`, of exactly `budget` samples.

        Raises ValueError for arrays of unequal length, NaN or infinite scores (rows are named) and a budget outside
        1 … n.
        """
        given = inspect.signature(self.choose).bind(*args, **kwargs).arguments
        arrays = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
        lengths = {name: len(value) for name, value in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"selector {self.name!r} needs arrays of one length, got {lengths}")
        for name in self.reads:
            if np.issubdtype(getattr(given.get(name), "dtype", np.bool_), np.floating) and np.ndim(given[name]) == 1:
                finite(given[name], name)
        count, budget = next(iter(lengths.values())), given["budget"]
        if not 1 <= budget <= count:
            raise ValueError(f"selector {self.name!r}: budget {budget} is not within 1 … {count}")
        keep = self.choose(*args, **kwargs)
        if int(keep.sum()) != budget:
            raise RuntimeError(f"selector {self.name!r} kept {int(keep.sum())} samples, was asked for {budget}")
        return keep


def selector(
    *, paper: str = "", version: str = "1", tunable: Mapping[str, tuple[float, ...]] | None = None
) -> Callable[[Callable[P, Keep]], Selector[P]]:
    """Declare a selector. `version` changes whenever its choices would."""

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
        )

    return declare


@cache
def selectors() -> Mapping[str, Selector[...]]:
    """Every selector by name."""
    import secateur.selectors

    return discover(secateur.selectors, Selector)


def resolve_keep(keep: float, count: int) -> int:
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


def random_keys(samples: "int | Shaped[np.ndarray, ' n']", seed: int) -> "Shaped[np.ndarray, ' n']":
    """A uniform uint64 per sample, a hash of `(seed, id)`: the SplitMix64 finaliser (Steele et al., OOPSLA 2014).

    `samples` are the ids, int64 `[n]`, or how many there are when row numbers serve. Keys of distinct ids are distinct.
    """
    ids = np.arange(samples, dtype=np.uint64) if isinstance(samples, int) else samples.astype(np.uint64)
    with np.errstate(over="ignore"):
        return _mix(ids + _mix(np.array(seed, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)))


def _mix(z: Any) -> Any:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def keep_smallest(values: "Shaped[np.ndarray, ' n']", budget: int, *, seed: int, ids: Ids | None = None) -> Keep:
    """Mask of the `budget` smallest values; equals at the threshold are drawn by `random_keys`.

    Linear time and no sort: a partition finds the threshold, keys are made only for the values that equal it.
    """
    threshold = np.partition(values, budget - 1)[budget - 1]
    keep = values < threshold
    tied = np.flatnonzero(values == threshold)
    missing = budget - int(np.count_nonzero(keep))
    if missing < len(tied):
        keys = random_keys(tied if ids is None else ids[tied], seed)
        tied = tied[np.argpartition(keys, missing - 1)[:missing]]
    keep[tied] = True
    return keep
