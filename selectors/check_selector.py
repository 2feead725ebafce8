"""Laws for all selectors, as one check that users can run on their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from secateur.scorers.lazy import torch
from secateur.selectors.class_policy import Policy, with_class_policy
from secateur.selectors.contract import Selector
from secateur.selectors.draws.quotas import balanced, proportional
from secateur.selectors.draws.ranks import Keep

Signals = dict[str, NDArray[Any]]
SEEDS = range(6)


def example_signals(chosen: Selector[...], count: int, numbers: np.random.Generator) -> Signals:
    """Arrays for everything that a selector reads, by name.

    `ids` int64, distinct and in no order; `strata`, `memberships` and `sources` int64, three classes of very unequal
    sizes; `target_source` int64, 0 and 1; `embeddings` float32 `[count, 6]`;
    `loss_trajectories` float32 `[count, 4]`; a name that ends in `probability` within
    [0, 1]; every other name a normal score, float32.
    """
    found: Signals = {}
    for name in chosen.reads:
        if name == "ids":
            found[name] = numbers.permutation(10 * count)[:count].astype(np.int64)
        elif name in ("strata", "memberships", "sources"):
            found[name] = np.minimum(numbers.geometric(0.7, count) - 1, 2).astype(np.int64)
        elif name == "target_source":
            found[name] = (numbers.random(count) < 0.3).astype(np.int64)
        elif name == "loss_trajectories":
            found[name] = numbers.gamma(2, size=(count, 4)).astype(np.float32)
        elif name == "embeddings":
            found[name] = numbers.normal(size=(count, 6)).astype(np.float32)
        elif name.endswith("probability"):
            found[name] = numbers.random(count).astype(np.float32)
        elif name != "budget":
            found[name] = numbers.normal(size=count).astype(np.float32)
    return found


def check_selector(
    chosen: Selector[...],
    *,
    settings: Mapping[str, Any] | None = None,
    signals: Callable[[Selector[...], int, np.random.Generator], Signals] = example_signals,
    samples: int = 48,
) -> None:
    """Check a selector against all laws; raises AssertionError that names the law that it breaks.

    `settings` are those for the check; `tunable` ones without a default get their first candidate. `signals` makes the
    arrays that it reads, for selectors with signals that `example_signals` does not know.
    """
    given = {name: values[0] for name, values in chosen.tunable.items()} | dict(settings or {})
    missing = [name for name, info in chosen.settings.model_fields.items() if info.is_required() and name not in given]
    if missing:
        raise AssertionError(f"{chosen.name}: check_selector needs values for the settings {missing}")
    case = Case(chosen, given, signals, samples)
    for law in LAWS:
        law(case)


@dataclass
class Case:
    """A selector under fixed settings, with the common parts of its laws."""

    chosen: Selector[...]
    settings: Mapping[str, Any]
    make: Callable[[Selector[...], int, np.random.Generator], Signals]
    samples: int
    signals: Signals = field(init=False)
    ids: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.signals = self.fresh(self.samples)
        self.ids = self.signals.get("ids", np.random.default_rng(1).permutation(10 * self.samples)[: self.samples])

    def fresh(self, count: int) -> Signals:
        """Read-only signals of some samples."""
        made = self.make(self.chosen, count, np.random.default_rng(0))
        for values in made.values():
            values.setflags(write=False)
        return made

    def keep(
        self,
        budget: int,
        *,
        seed: int = 0,
        signals: Signals | None = None,
        ids: NDArray[np.int64] | None = None,
        chosen: Selector[...] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Keep:
        """The selector's mask, checked for type, shape and budget."""
        chosen = chosen or self.chosen
        accepted = inspect.signature(chosen.choose).parameters
        offered = {"seed": seed, "ids": ids}
        extra = {name: value for name, value in offered.items() if name in accepted and value is not None}
        arrays = dict(self.signals if signals is None else signals)
        result = chosen(**arrays | {"budget": budget} | extra | dict(self.settings if settings is None else settings))
        count = len(next(iter(arrays.values())))
        self.require(
            isinstance(result, np.ndarray) and result.dtype == np.bool_ and result.shape == (count,),
            f"must give a bool mask of shape ({count},), gave {type(result).__name__} "
            f"{getattr(result, 'dtype', '')} {getattr(result, 'shape', '')}",
        )
        self.require(int(result.sum()) == budget, f"kept {int(result.sum())} of {count} samples, asked for {budget}")
        return result

    def require(self, holds: bool, text: str) -> None:
        if not holds:
            raise AssertionError(f"{self.chosen.name}: {text}")

    def refused(self, text: str, budget: int, **changes: Any) -> str:
        """The message of the ValueError that a call must raise."""
        try:
            self.keep(budget, **changes)
        except ValueError as error:
            return str(error)
        raise AssertionError(f"{self.chosen.name}: {text} must be refused with a ValueError")

    def most(self, count: int | None = None) -> int:
        return self.chosen.most(self.samples if count is None else count, self.settings)

    def budgets(self) -> list[int]:
        most = self.most()
        return sorted({1, max(most // 3, 1), max(most - 1, 1), most})

    def number_signals(self) -> list[str]:
        return [name for name, values in self.signals.items() if np.issubdtype(values.dtype, np.floating)]


def budget_is_exact(case: Case) -> None:
    for budget in case.budgets():
        case.keep(budget)
        case.keep(budget, ids=case.ids)
    for budget in (0, -1, case.most() + 1, case.samples + 1):
        case.refused(f"a budget of {budget} where at most {case.most()} can be kept", budget)


def seeds_decide(case: Case) -> None:
    """Same seed, same rows; other seeds, other rows exactly where the selector declares draws."""
    before = (str(np.random.get_state()), torch.get_rng_state().tolist())
    budget = max(case.most() // 3, 1)
    draws = [case.keep(budget, seed=seed).tobytes() for seed in SEEDS]
    case.require(draws == [case.keep(budget, seed=seed).tobytes() for seed in SEEDS], "one seed gave two choices")
    differ = len(set(draws)) > 1
    if case.chosen.draws:
        case.require(differ, f"draws=True, but seeds {list(SEEDS)} all keep the same rows")
    else:
        case.require(not differ, "draws=False, but the seed changes choices where nothing is tied")
    after = (str(np.random.get_state()), torch.get_rng_state().tolist())
    case.require(before == after, "touched a global random generator")


def order_is_irrelevant(case: Case) -> None:
    """The decision about a row stays where the row moves with its id: whole shards or single rows, tied or not."""
    shards = np.array_split(np.arange(case.samples), 4)
    orders = [np.random.default_rng(2).permutation(case.samples), np.concatenate([shards[s] for s in (2, 0, 3, 1)])]
    for kind, signals in variants(case):
        for budget in case.budgets():
            straight = case.keep(budget, signals=with_ids(signals, case.ids), ids=case.ids)
            for order in orders:
                moved = {name: values[order] for name, values in with_ids(signals, case.ids).items()}
                kept = case.keep(budget, signals=moved, ids=case.ids[order])
                case.require(
                    bool((kept == straight[order]).all()),
                    f"rows in another order, ids with them, gave another choice ({kind} signals, budget {budget})",
                )


def layout_is_irrelevant(case: Case) -> None:
    """Views with strides and memory-mapped copies hold the same numbers, so the same rows stay."""
    strided = {name: np.repeat(values, 2, axis=0)[::2] for name, values in case.signals.items()}
    for budget in case.budgets():
        same = (case.keep(budget) == case.keep(budget, signals=strided)).all()
        case.require(bool(same), "a strided view of the same numbers gave another choice")


def odd_scores_are_served(case: Case) -> None:
    for kind, signals in variants(case):
        for budget in case.budgets():
            case.keep(budget, signals=signals)
        budget = max(case.most() // 2, 1)
        if kind == "constant" and budget < case.most():
            kept = {case.keep(budget, signals=signals, seed=seed).tobytes() for seed in SEEDS}
            case.require(len(kept) > 1, f"constant signals must give a draw by the seed (budget {budget})")
    if case.most(1) == 1:
        case.keep(1, signals=case.fresh(1))


def variants(case: Case) -> Iterator[tuple[str, Signals]]:
    """The usual signals and the same with odd numbers in the place of every score."""

    def changed(change: Callable[[NDArray[Any]], NDArray[Any]], probabilities: bool = True) -> Signals:
        return case.signals | {
            name: change(case.signals[name]).astype(case.signals[name].dtype)
            for name in case.number_signals()
            if probabilities or not name.endswith("probability")
        }

    yield "usual", dict(case.signals)
    yield "constant", changed(lambda values: np.full_like(values, 0.5))
    yield "zero", changed(np.zeros_like)
    yield "negative", changed(lambda values: -1 - np.abs(values), probabilities=False)
    yield "heavily tied", changed(lambda values: np.clip(np.rint(values), 0, 1))
    yield "huge", changed(lambda values: values * 1e6, probabilities=False)
    if "embeddings" in case.signals:
        yield "half-precision", case.signals | {"embeddings": case.signals["embeddings"].astype(np.float16)}


def with_ids(signals: Signals, ids: NDArray[np.int64]) -> Signals:
    return signals | {"ids": ids} if "ids" in signals else signals


def broken_numbers_are_refused(case: Case) -> None:
    for name in case.number_signals():
        for value in (np.nan, np.inf, -np.inf):
            broken = case.signals[name].copy()
            broken[case.samples // 3, ...] = value
            text = case.refused(f"{value} in {name!r}", 1, signals=case.signals | {name: broken})
            case.require(
                str(case.samples // 3) in text,
                f"the refusal of {value} in {name!r} must name its row, not: {text}",
            )
    if len(case.signals) > 1:
        shorter = {name: values[: len(values) - (not at)] for at, (name, values) in enumerate(case.signals.items())}
        case.refused("arrays of unequal lengths", 1, signals=shorter)


def larger_budgets_add(case: Case) -> None:
    if not case.chosen.monotone:
        return
    step = max(case.most() // 13, 1) if case.most() > 26 else 1
    for kind, signals in variants(case):
        kept = np.zeros(case.samples, dtype=np.bool_)
        for budget in range(1, case.most() + 1, step):
            more = case.keep(budget, signals=signals)
            case.require(
                bool((more | ~kept).all()), f"monotone=True, but budget {budget} drops rows of {budget - step} ({kind})"
            )
            kept = more


def class_quotas_are_exact(case: Case) -> None:
    strata = case.signals.get("strata")
    if strata is None:
        strata = np.minimum(np.random.default_rng(3).geometric(0.6, case.samples) - 1, 2).astype(np.int64)
    sizes = np.bincount(strata)
    room = np.array([case.most(int(size)) if size else 0 for size in sizes])
    policies: list[tuple[Policy, int]] = [("proportional", 0), ("proportional", 2), ("balanced", 0), ("balanced", 1)]
    for policy, floor in policies:
        under = with_class_policy(case.chosen, policy, floor=floor)
        share_out = proportional if policy == "proportional" else balanced
        for budget in (int(np.minimum(sizes, 2).sum()), int(room.sum()) // 2, int(room.sum())):
            wanted = share_out(sizes, budget, floor=floor, room=room)
            kept = case.keep(budget, chosen=under, signals=case.signals | {"strata": strata})
            counts = np.bincount(strata[kept], minlength=len(sizes))
            case.require(
                bool((counts == wanted).all()),
                f"under the {policy} policy with floor {floor} classes keep {counts}, their quotas are {wanted}",
            )
    floored = with_class_policy(case.chosen, "none", floor=2)
    budget = max(int(room.sum()) // 2, int(np.minimum(room, 2).sum()))
    kept = case.keep(budget, chosen=floored, signals=case.signals | {"strata": strata})
    case.require(
        bool((np.bincount(strata[kept], minlength=len(sizes)) >= np.minimum(room, 2)).all()),
        "with a floor of 2 and no other policy, a class keeps fewer",
    )


def settings_survive(case: Case) -> None:
    """Signature to pydantic to YAML and back to a call."""
    written = yaml.safe_dump(case.chosen.settings(**case.settings).model_dump(mode="json"))
    read = case.chosen.settings.model_validate(yaml.safe_load(written)).model_dump()
    budget = max(case.most() // 2, 1)
    same = (case.keep(budget, settings=read) == case.keep(budget)).all()
    case.require(bool(same), f"settings that went through YAML gave another choice: {written!r}")
    try:
        case.chosen.settings(**dict(case.settings) | {"no_such_setting": 1})
    except ValueError:
        return
    raise AssertionError(f"{case.chosen.name}: an unknown setting must be refused")


LAWS = (
    budget_is_exact,
    seeds_decide,
    order_is_irrelevant,
    layout_is_irrelevant,
    odd_scores_are_served,
    broken_numbers_are_refused,
    larger_budgets_add,
    class_quotas_are_exact,
    settings_survive,
)
