"""Budgets of a column and samples that stay together: any selector, over whole groups and what each costs.

A group (an episode, a document, a customer) is kept or dropped whole, and a budget may count tokens, bytes or seconds
in place of samples. A selector sees one sample for each group. Groups are taken in the selection's own order as long as
they fit what is left of the budget; one that does not is skipped, so that the total never exceeds the budget, and no
group that would still fit is left out.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Num, Shaped

from secateur.selectors.contract import Selector, selectors
from secateur.selectors.draws.ranks import Ids, Keep, random_keys
from secateur.selectors.draws.strata import codes_of

Costs = Float64[np.ndarray, " units"]
TWIN = 1 << 32
"""Of a seed, the bit that is turned for the random rows beside a selection: with its own they would be drawn in the
same order, and half of them would be the selection's."""
ROUNDING = 1e-12
"""Share of a budget of real numbers that is left alone, so that no order of adding up exceeds it."""


@dataclass(frozen=True)
class Units:
    """What is kept or dropped whole, and what it costs.

    `of` is the unit of each sample, int64 `[n]`, counted from 0; `costs` float64 `[units]` are sums over the samples.
    """

    of: Int64[np.ndarray, " n"]
    costs: Costs

    @classmethod
    def made_of(
        cls, count: int, groups: Int64[np.ndarray, " n"] | None, costs: Num[np.ndarray, " n"] | None
    ) -> "Units":
        """Units of `count` samples: equal `groups` stay together; a sample costs 1 where no `costs` are given.

        Raises ValueError for a cost that is negative, NaN or infinite, by its row.
        """
        spent = np.ones(count) if costs is None else costs.astype(np.float64)
        if len(bad := np.flatnonzero(~(np.isfinite(spent) & (spent >= 0)))):
            raise ValueError(f"row {bad[0]} costs {spent[bad[0]]:g}, one of {len(bad)} that are no number from 0 on")
        if groups is None:
            return cls(np.arange(count), spent)
        of = codes_of(groups)[0].astype(np.int64)
        return cls(of, np.bincount(of, spent))

    @property
    def single(self) -> bool:
        """Whether every unit is one sample."""
        return len(self.costs) == len(self.of)

    @cached_property
    def sizes(self) -> Int64[np.ndarray, " units"]:
        """Samples of each unit."""
        return np.bincount(self.of, minlength=len(self.costs))

    def signals(self, signals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One value per unit: the mean of numbers, the commonest stratum (of equally common ones the lowest), the
        smallest id, and every label that one of its samples has.
        """
        if self.single:
            inverse = np.empty(len(self.of), np.int64)
            inverse[self.of] = np.arange(len(self.of))
            return {name: values[inverse] for name, values in signals.items()}
        return {name: self.reduced(values) for name, values in signals.items()}

    def reduced(self, values: np.ndarray) -> np.ndarray:
        """Values `[n, …]` as `[units, …]`: see `signals`."""
        count = len(self.costs)
        if values.dtype == np.bool_:
            held = np.zeros((count, *values.shape[1:]), np.bool_)
            np.logical_or.at(held, self.of, values)
            return held
        if np.issubdtype(values.dtype, np.integer):
            occurring, codes = np.unique(values, return_inverse=True)
            votes = np.unique(self.of * len(occurring) + codes, return_counts=True)
            owner, code = np.divmod(votes[0], len(occurring))
            order = np.lexsort((code, -votes[1], owner))
            first = order[np.searchsorted(owner[order], np.arange(count))]
            return occurring[code[first]].astype(values.dtype)
        flat = values.reshape(len(values), -1).astype(np.float64)
        sums = np.stack([np.bincount(self.of, column, count) for column in flat.T], axis=1)
        means = (sums / self.sizes[:, np.newaxis]).astype(values.dtype)
        return np.asarray(means.reshape(count, *values.shape[1:]))

    def ids(self, ids: Ids) -> Int64[np.ndarray, " units"]:
        """The smallest id of each unit."""
        smallest = np.full(len(self.costs), np.iinfo(np.int64).max)
        np.minimum.at(smallest, self.of, ids)
        return smallest


def choose_units(
    chosen: Selector[...],
    signals: Mapping[str, np.ndarray],
    units: Units,
    total: float,
    *,
    settings: Mapping[str, Any],
    seed: int,
    ids: Ids,
) -> Keep:
    """Mask of samples, bool `[n]`, whose units cost at most `total` together, in the order of a selector.

    `signals` are what the selector reads, by name, of `n` samples. Its order is that in which units enter as its budget
    grows; of a selector whose larger budgets drop what smaller ones keep, the largest budget that fits is taken, and
    filled up with what still larger ones add. Raises ValueError where not one unit fits, where the budget exceeds what
    all that can be kept costs, and as the selector does.
    """
    own_ids = units.ids(ids)
    arguments = units.signals({name: values for name, values in signals.items() if name != "ids"})
    if "ids" in chosen.reads:
        arguments["ids"] = own_ids
    parameters = inspect.signature(chosen.choose).parameters
    given = {"seed": seed, "ids": own_ids}
    named = {name: value for name, value in given.items() if name in parameters and name not in chosen.reads}

    def kept_at(budget: int) -> Keep:
        keep: Keep = chosen(**arguments, budget=budget, **settings, **named)
        return keep

    if units.single and (units.costs == 1).all():
        return np.asarray(kept_at(int(total))[units.of])
    allowed = chosen.allowed(arguments | dict(settings))
    costs = units.costs if allowed is None else units.costs[allowed]
    bound = total if np.array_equal(costs, np.round(costs)) else total * (1 - ROUNDING)
    if total > float(costs.sum()) * (1 + ROUNDING):
        raise ValueError(
            f"selector {chosen.name!r}: a budget of {total:g} is above {costs.sum():g}, all that can be kept; lower "
            "the budget or widen its settings"
        )
    if costs.min() > bound:
        raise ValueError(f"nothing fits a budget of {total:g}: the cheapest that can be kept costs {costs.min():g}")
    most = chosen.most(len(costs), settings)
    return np.asarray(filled(kept_at, most, units.costs, bound, random_keys(own_ids, seed))[units.of])


def choose_at_random(units: Units, total: float, *, seed: int, ids: Ids) -> Keep:
    """Units that cost at most `total` together, drawn apart from what a selection of the same seed draws."""
    return choose_units(selectors()["uniform_random"], {}, units, total, settings={}, seed=seed ^ TWIN, ids=ids)


def filled(
    kept_at: Callable[[int], Keep], most: int, costs: Costs, total: float, keys: Shaped[np.ndarray, " units"]
) -> Keep:
    """Mask of the units that are taken in their order, each if it still fits what is left of the total.

    `kept_at(b)` is the mask of the first `b` units, up to `most`; units that enter together go by `keys`. A stretch of
    the order is looked into only if some of it fits and not all of it does.
    """
    taken, left = np.zeros(len(costs), np.bool_), total

    def visit(before: Keep, low: int, high: int, through: Keep) -> None:
        nonlocal left
        new = np.flatnonzero(through & ~before & ~taken)
        own = costs[new]
        if not len(new) or own.min() > left:
            return
        if own.sum() <= left:
            taken[new] = True
            left -= own.sum()
        elif high - low == 1:
            for unit in new[np.argsort(keys[new])]:
                if costs[unit] <= left:
                    taken[unit] = True
                    left -= costs[unit]
        else:
            middle = (low + high) // 2
            between = kept_at(middle)
            visit(before, low, middle, between)
            visit(between, middle, high, through)

    reached, kept, mean = 0, np.zeros(len(costs), np.bool_), max(float(costs.mean()), 1e-300)
    # From about as many units as the total buys, so that selectors that take long for large budgets are spared them.
    while reached < most and (~taken & (costs <= left)).any():
        further = min(most, reached + max(1, int(min(most, left / mean)), reached // 2))
        more = kept_at(further)
        visit(kept, reached, further, more)
        reached, kept = further, more
    return taken
