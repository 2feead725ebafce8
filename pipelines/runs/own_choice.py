"""Choose rows by a user's scores, costs, whole groups and quotas, with a random choice of the same amount beside it."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.data.codes import codes_of
from secateur.pipelines.runs.kept_rows import ROWS, Quotas, Spent, kept_rows
from secateur.pipelines.runs.target_signals import in_sources
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.grid import RANDOM, Trial, selection_key
from secateur.pipelines.studies.own_scores import Budget
from secateur.pipelines.studies.own_selection import OwnSelection
from secateur.pipelines.studies.target import OF_SOURCES, OF_TARGET
from secateur.selectors.contract import resolve_amount, resolve_keep
from secateur.selectors.draws.ranks import Keep
from secateur.selectors.whole_units import Units, choose_at_random


@dataclass(frozen=True)
class Brought:
    """A user's inputs for the `n` rows of a study: strata int64 `[n]`, columns of the data by name, scores, vectors."""

    strata: np.ndarray
    column: Callable[[str], pl.Series]
    scores: Mapping[str, np.ndarray]
    embeddings: np.ndarray | None
    group: str | None
    of_target: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Signals of a target that selectors read, by name."""
    own_sources: Callable[[], Sequence[Any]] = tuple
    """Values of the column of sources that are the target's own."""

    @cached_property
    def groups(self) -> np.ndarray | None:
        """Numbers of groups that stay together, int64 `[n]`; None where each row is by itself."""
        return None if self.group is None else codes_of(self.column(self.group))[0]

    def signals(self, selection: OwnSelection, study: Choice) -> dict[str, np.ndarray]:
        """A selector's inputs by name; scores keep the user's type where only their order counts."""
        found: dict[str, np.ndarray] = {}
        for name in selection.reads:
            if name == "embeddings":
                assert self.embeddings is not None
                found[name] = self.embeddings
            elif name in ("strata", "memberships"):
                found[name] = self.strata
            elif name in OF_TARGET:
                found[name] = self.of_target[name]
            elif name in OF_SOURCES:
                assert study.target
                assert study.target.source
                held = self.column(study.target.source)
                if name == "target_source":
                    found[name] = in_sources(held, self.own_sources(), written=bool(study.target.own))
                else:
                    found[name] = codes_of(held)[0]
            else:
                score, sign = selection.signal(name, study.scores)
                values = self.scores[score]
                found[name] = selection.chosen.as_read(name, values if sign == 1 else -values)
        return found

    @cached_property
    def _units(self) -> dict[str | None, Units]:
        return {}

    def units(self, keep: Budget) -> Units:
        """Units that stay together, with their costs; made once for each column of costs."""
        name = next(iter(keep)) if isinstance(keep, Mapping) else None
        if name not in self._units:
            self._units[name] = Units.made_of(len(self.strata), self.groups, self.costs(keep))
        return self._units[name]

    def costs(self, keep: Budget) -> np.ndarray | None:
        """Cost of each row, float64 `[n]`; None where each costs one."""
        return self.column(next(iter(keep))).cast(pl.Float64).to_numpy() if isinstance(keep, Mapping) else None


@dataclass(frozen=True)
class Chosen:
    """Rows that stay, bool `[n]`, the settings that chose them, and the amounts that they take."""

    keep: Keep
    settings: Mapping[str, Any]
    spent: Spent
    seconds: float

    @property
    def plain(self) -> bool:
        """See `Spent.plain`."""
        return self.spent.plain


def chosen_of(study: Choice, trials: Iterable[Trial], brought: Brought) -> Iterator[tuple[Trial, Chosen]]:
    """The choice of each trial; raises ValueError that names the selection where a budget cannot be met."""
    made: dict[tuple[str, int], Chosen] = {}
    for trial in trials:
        keep, selection = study.budget_of(trial), study.selection_of(trial)
        name = selection_key(trial.name.removesuffix(RANDOM), keep)
        if (name, trial.seed) not in made:
            made[name, trial.seed] = chosen(study, selection, name, keep, trial.seed, brought)
        first = made[name, trial.seed]
        yield trial, at_random(first, keep, trial.seed, brought) if trial.name.endswith(RANDOM) else first


def chosen(study: Choice, selection: OwnSelection, name: str, keep: Budget, seed: int, brought: Brought) -> Chosen:
    """The choice of a selection at a budget."""
    started, count, costs = time.perf_counter(), len(brought.strata), brought.costs(keep)
    settings = selection.chosen.settings(**selection.settings).model_dump()
    how: dict[str, Any] = {"settings": settings, "seed": seed, "ids": np.arange(count, dtype=np.int64)}
    units = brought.units(keep)
    limit = float(resolve_amount(keep, count, float(units.costs.sum())))
    try:
        signals = brought.signals(selection, study)
        kept = kept_rows(selection.chosen, signals, units, limit, quotas_of(selection, brought.column), **how)
    except ValueError as error:
        raise ValueError(f"{study.name}: selections.{name}: {error}") from error
    spent = spent_of(kept, units, costs, keep, limit, brought)
    return Chosen(kept, settings, spent, time.perf_counter() - started)


def at_random(beside: Chosen, keep: Budget, seed: int, brought: Brought) -> Chosen:
    """A random choice of as much as a selection keeps."""
    started, count, costs = time.perf_counter(), len(brought.strata), brought.costs(keep)
    units, ids = brought.units(keep), np.arange(count, dtype=np.int64)
    kept = choose_at_random(units, beside.spent.total, seed=seed, ids=ids)
    spent = spent_of(kept, units, costs, keep, beside.spent.limit, brought)
    return Chosen(kept, {}, replace(spent, beside=beside.spent.total), time.perf_counter() - started)


def spent_of(kept: Keep, units: Units, costs: np.ndarray | None, keep: Budget, limit: float, brought: Brought) -> Spent:
    """Amounts that kept rows take."""
    total = float(kept.sum() if costs is None else costs[kept].sum())
    groups = None if brought.group is None else int(np.count_nonzero(np.bincount(units.of[kept])))
    unit = next(iter(keep)) if isinstance(keep, Mapping) else ROWS
    whole = float(units.costs.sum())
    return Spent(unit=unit, limit=limit, total=total, whole=whole, group=brought.group, groups=groups)


def quotas_of(selection: OwnSelection, column: Callable[[str], pl.Series]) -> Quotas | None:
    """Parts of the budget by the values of a column, where the selection has some."""
    return None if selection.by is None else Quotas.of(selection.by, codes_of(column(selection.by)), selection.share)


def check_budgets(study: Choice, count: int, column: Callable[[str], pl.Series]) -> None:
    """Raise ValueError for budgets and shares that the data cannot meet, before any work."""
    for keep in study.keep:
        if not isinstance(keep, Mapping):
            resolve_keep(keep, count)
            continue
        [(name, amount)] = keep.items()
        whole = column(name).cast(pl.Float64).sum()  # whole numbers of 64 bits would overflow in a sum
        if not (isinstance(amount, float) and amount <= 1) and amount > whole:
            raise ValueError(f"keep: {amount:,} {name} are more than the {whole:,.15g} of all rows")
    for name, selection in study.selections.items():
        try:
            quotas_of(selection, column)
        except ValueError as error:
            raise ValueError(f"selections.{name}.{error}") from error
