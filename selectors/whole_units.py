"""Budgets of a column and samples that stay together: any selector, over whole groups and their costs.

A group (an episode, a document, a customer) is kept or dropped whole, and a budget may count tokens, bytes or seconds
in place of samples. A selector sees one sample for each group. Groups enter in the selection's own order if they fit
into the rest of the budget; the others are skipped. So the total never exceeds the budget, and no group that would
still fit is left out.
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
"""The bit of a seed to flip for the random rows beside a selection: the same seed would draw them in the same order,
and half of them would be the selection's."""
ROUNDING = 1e-12
"""Share of a budget of real numbers that stays unused, so that no order of summation exceeds the budget."""


@dataclass(frozen=True)
class Units:
    """Units that are kept or dropped whole, and their costs.

    `of` is the unit of each sample, int64 `[n]`, counted from 0; `costs` float64 `[units]` are sums over the samples.
    """

    of: Int64[np.ndarray, " n"]
    costs: Costs

    @classmethod
    def made_of(
        cls, count: int, groups: Int64[np.ndarray, " n"] | None, costs: Num[np.ndarray, " n"] | None
    ) -> "Units":
        """Units of `count` samples: equal `groups` stay together; a sample costs 1 where no `costs` are given.

        Raises ValueError that names the row of a cost that is negative, NaN or infinite.
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
        """One value per unit: the mean of numbers, the commonest stratum (the lowest of ties), the smallest id, and
        every label that one of its samples has.
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

    `signals` are those that the selector reads, by name, of `n` samples. Its order is that in which units enter as its
    budget grows. If its larger budgets drop units of smaller ones, the result is the largest budget that fits, filled
    up with units that still larger ones add. Raises ValueError where no unit fits, where the budget exceeds the cost of
    all units that can be kept, and as the selector does.
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
    """Random units that cost at most `total` together, drawn independently of a selection with the same seed."""
    return choose_units(selectors()["uniform_random"], {}, units, total, settings={}, seed=seed ^ TWIN, ids=ids)


def filled(
    kept_at: Callable[[int], Keep], most: int, costs: Costs, total: float, keys: Shaped[np.ndarray, " units"]
) -> Keep:
    """Mask of the units that enter in their order, each if it fits into the rest of the total.

    `kept_at(b)` is the mask of the first `b` units, up to `most`; `keys` order units that enter together. It searches a
    stretch of the order only if a part of it fits, but not all.
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
    # It begins with about as many units as the total buys, since some selectors take long for large budgets.
    while reached < most and (~taken & (costs <= left)).any():
        further = min(most, reached + max(1, int(min(most, left / mean)), reached // 2))
        more = kept_at(further)
        visit(kept, reached, further, more)
        reached, kept = further, more
    return taken
