"""Call a study's selector, or make its sampler, with the signals that it reads."""

import inspect
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.runs.kept_rows import Spent
from secateur.pipelines.runs.units_of_rows import kept_whole, spent_of
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.lengths import config_at
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.selection import RANDOM, Selection
from secateur.pipelines.studies.signals import SIGNALS, of_origin
from secateur.selectors.contract import resolve_keep
from secateur.selectors.draws.ranks import Keep, Ordered
from secateur.selectors.samplers.contract import EpochSampler, make_sampler
from secateur.trainers.contract import TrainingConfig

HELD: Mapping[str, Mapping[str, Any]] = {"info_batch": {"anneal_from": 1.0}}
"""Settings under which a sampler holds its budget in every epoch, where a study does not set them.

InfoBatch ends on epochs of all samples. They are most of the steps of a run at a small budget, so a study that holds a
budget leaves them out unless it asks for them.
"""


def signals_read(selection: Selection) -> set[str]:
    """Names of the scores and signals behind the positional parameters, `scores` being the study's pick."""
    return set(selection.reads) - of_origin("call") | ({selection.score} if selection.score else set())


def read_by(selections: Iterable[Selection]) -> set[str]:
    """Names of the scores and signals that several selections read."""
    return set().union(*(signals_read(selection) for selection in selections))


def choose(
    selection: Selection,
    signals: Mapping[str, np.ndarray],
    *,
    budget: int,
    seed: int,
    settings: Mapping[str, Any],
    rows: np.ndarray | None = None,
) -> Keep:
    """Keep mask, bool, over all samples or over the given rows of them; ids are row numbers either way.

    A budget of all samples keeps all, whatever the selector's settings would leave of them.
    """
    read = {name: signals[name] for name in signals_read(selection) | {"strata"}}
    signals = read if rows is None else {name: values[rows] for name, values in read.items()}
    ids = np.arange(len(next(iter(signals.values()))), dtype=np.int64) if rows is None else rows.astype(np.int64)
    if budget == len(ids):
        return np.ones(budget, dtype=np.bool_)
    values = {**signals, "budget": budget, "ids": ids, "scores": signals.get(selection.score or "")}
    named, values = inspect.signature(selection.static.choose).parameters, as_read(selection, values)
    supplied = {name: value for name, value in (("seed", seed), ("ids", ids)) if name not in selection.reads}
    keywords = {name: value for name, value in supplied.items() if name in named}
    keep: Keep = selection.static(*(values[name] for name in selection.reads), **settings, **keywords)
    return keep


def as_read(selection: Selection, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with scores as float32, like those of scorers, except where only their order counts (`Ordered`)."""
    named = inspect.signature(selection.static.choose).parameters
    scores = (set(selection.reads) - SIGNALS.keys()) | ({"scores"} & set(selection.reads))
    plain = [name for name in scores if named[name].annotation is not Ordered]
    return {**values, **{name: np.asarray(values[name], np.float32) for name in plain}}


def choose_at(
    study: Study,
    selection: Selection,
    signals: Mapping[str, np.ndarray],
    table: pl.DataFrame,
    *,
    limit: float,
    seed: int,
    settings: Mapping[str, Any],
    rows: np.ndarray | None = None,
) -> Keep:
    """Mask of a static selection over all samples, or over the given rows: `limit` rows, or whole groups that take at
    most `limit` of the budget's column, by quotas where it has some. `table` has the columns of all samples.
    """
    count = len(signals["strata"])
    if study.by_rows(selection):
        return choose(selection, signals, budget=int(limit), seed=seed, settings=settings, rows=rows)
    rows = np.arange(count) if rows is None else rows
    given = {**signals, "scores": signals.get(selection.score or "")}
    values = as_read(selection, {name: given[name] for name in selection.reads if name not in ("ids", "budget")})
    read = {name: np.asarray(value) for name, value in values.items()}
    if len(rows) < count:
        read = {name: value[rows] for name, value in read.items()}
    return kept_whole(study, selection, read, table, limit=limit, seed=seed, settings=settings, rows=rows)


def kept_at(
    study: Study,
    selection: Selection,
    signals: Mapping[str, np.ndarray],
    table: pl.DataFrame,
    *,
    keep: int | float,
    seed: int,
    settings: Mapping[str, Any],
) -> Keep:
    """Mask of a static selection over all samples at a budget of the study; a budget of everything keeps everything."""
    everyone = np.ones(len(signals["strata"]), dtype=np.bool_)
    spent = spent_of(study, table, everyone, keep)
    if spent.limit >= spent.whole:
        return everyone
    return choose_at(study, selection, signals, table, limit=spent.limit, seed=seed, settings=settings)


def held_settings(selection: Selection) -> dict[str, Any]:
    """The study's settings of an in-training selection, with those of `HELD` where it holds the study's budget."""
    return {**(HELD.get(selection.selector, {}) if selection.budget == "study" else {}), **selection.settings}


def sampler_of(
    selection: Selection,
    signals: Mapping[str, np.ndarray],
    settings: Mapping[str, Any],
    *,
    config: TrainingConfig,
    seed: int,
) -> tuple[EpochSampler, int]:
    """A new sampler over all samples for one run of this config, and the expected epochs of the run."""

    def make(epochs: int) -> EpochSampler:
        own = {"samples": len(signals["strata"]), "epochs": epochs, "strata": np.asarray(signals["strata"])}
        scores = {"scores": np.asarray(signals[selection.score], np.float32)} if selection.score else {}
        return make_sampler(selection.selector, settings, own | scores, seed=seed)

    epochs = epochs_of(make, config)
    return make(epochs), epochs


def epochs_of(make: Callable[[int], EpochSampler], config: TrainingConfig) -> int:
    """Epochs of a run: the config's, or the fewest whose planned lengths add up to its optimiser steps."""
    if config.epochs is not None:
        return config.epochs

    def enough(epochs: int) -> bool:
        return sum(steps_of(plan.samples, config) for plan in make(epochs).plan(epochs)) >= (config.steps or 0)

    high = 1
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def steps_of(samples: int, config: TrainingConfig) -> int:
    """Optimiser steps of one epoch of so many samples."""
    return config.model_copy(update={"steps": None, "epochs": 1}).total_steps(samples)


@dataclass(frozen=True)
class Subset:
    """Kept samples of a trial, with the settings that chose them and the seconds that it took.

    `in_training` is the plan of the epochs, None for a static subset. `fault` is the sentence about a missed budget,
    empty where the budget is met. `spent` is None where the budget is a number of single rows.
    """

    keep: Keep
    settings: Mapping[str, Any]
    seconds: float
    in_training: Mapping[str, Any] | None = None
    fault: str = ""
    spent: Spent | None = None


def subset_of(
    study: Study,
    trial: Trial,
    signals: Mapping[str, np.ndarray],
    table: pl.DataFrame,
    given: Mapping[str, Any],
    picked: Mapping[str, Any],
    listed: Mapping[str, Keep] | None = None,
) -> Subset:
    """The subset of a trial, which its twins share; `given` are the launchpad's settings, `picked` the tuned ones.

    The plan of a selection in training has the trial's own length. `table` has the columns of the data that budgets,
    groups and quotas read; `listed` are the rows that manifests keep, by the selection.
    """
    started, everyone = time.perf_counter(), np.ones(len(signals["strata"]), dtype=np.bool_)
    if trial.plain.selection == "full":
        return Subset(everyone, {}, 0.0)
    selection = study.selections[trial.plain.name]
    if selection.in_training:
        own = selection.budget == "own"
        settings = dict(given) if own else {**given, "keep": trial.keep}
        config = config_at(study.training, trial, len(everyone))
        sampler, epochs = sampler_of(selection, signals, settings, config=config, seed=trial.seed)
        plan, fault = plan_of(sampler, epochs, None if own else resolve_keep(trial.keep, len(everyone)))
        return Subset(everyone, settings, 0.0, plan, fault)
    if selection.listed:
        kept = (listed or {})[study.listed_by(trial.plain.name)]
        if selection.as_many_as is not None:
            settings = {"as_many_as": selection.as_many_as}
            seed = own_seed(trial.seed, trial.plain.name, selection.as_many_as)
            drawn = choose(selection, signals, budget=int(kept.sum()), seed=seed, settings={})
            return Subset(drawn, settings, time.perf_counter() - started)
        return Subset(kept, {"manifest": str(selection.manifest)}, time.perf_counter() - started)
    spent = spent_of(study, table, everyone, trial.keep)
    whole = spent.limit >= spent.whole
    settings = {} if whole else {name: picked.get(name) if value is None else value for name, value in given.items()}
    keep = kept_at(study, selection, signals, table, keep=trial.keep, seed=trial.seed, settings=settings)
    seconds = time.perf_counter() - started
    if study.by_rows(selection):
        budget = int(spent.limit)
        fault = "" if keep.sum() == budget else f"{keep.sum()} kept, the budget is {budget}"
        return Subset(keep, settings, seconds, fault=fault)
    spent = spent_of(study, table, keep, trial.keep)
    fault = f"{spent.total:g} {spent.unit} kept, the budget is {spent.limit:g}" if spent.total > spent.limit else ""
    return Subset(keep, settings, seconds, fault=fault, spent=None if spent.plain else spent)


def own_seed(seed: int, name: str, beside: str) -> int:
    """The seed of the random rows beside a manifest: the trial's for the first set, and one by the set's name for each
    further set, or all sets would hold the same rows."""
    if name == f"{beside}{RANDOM}":
        return seed
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0])


def plan_of(sampler: EpochSampler, epochs: int, budget: int | None) -> tuple[dict[str, Any], str]:
    """Planned lengths of the epochs, and the sentence about epochs that miss the budget, if there is one."""
    plans = sampler.plan(epochs)
    lengths = [plan.samples for plan in plans]
    told = {
        "epochs": epochs,
        "least samples of an epoch": min(lengths),
        "most samples of an epoch": max(lengths),
        "planned exactly": all(plan.exact for plan in plans),
    }
    off = 0 if budget is None else sum(not plan.exact or plan.samples != budget for plan in plans)
    return told, f"{off} of {epochs} epochs do not hold the budget of {budget}" if off else ""
