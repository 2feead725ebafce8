"""What one cell of a study keeps: a static subset, or the candidates of a selection that is made in training."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.pipelines.cells import Cell
from secateur.pipelines.choosing import choose, sampler_of
from secateur.pipelines.study import Study
from secateur.selectors.contract import Keep, resolve_keep
from secateur.selectors.epoch_sampler import EpochSampler


@dataclass(frozen=True)
class Subset:
    """Kept samples of a cell, with the settings that chose them and the seconds that it took.

    `in_training` is None for a static subset; else what is planned of the epochs. `fault` says how the budget is
    missed, empty where it is not.
    """

    keep: Keep
    settings: Mapping[str, Any]
    seconds: float
    in_training: Mapping[str, Any] | None = None
    fault: str = ""


def subset_of(
    study: Study, cell: Cell, signals: Mapping[str, np.ndarray], given: Mapping[str, Any], picked: Mapping[str, Any]
) -> Subset:
    """The subset of a plain cell; `given` are the launchpad's settings, `picked` the tuned ones."""
    started, everyone = time.perf_counter(), np.ones(len(signals["labels"]), dtype=np.bool_)
    if cell.selection == "full":
        return Subset(everyone, {}, 0.0)
    selection, budget = study.selections[cell.name], resolve_keep(cell.keep, len(everyone))
    if selection.in_training:
        settings = dict(given) if selection.budget == "own" else {**given, "keep": cell.keep}
        sampler, epochs = sampler_of(selection, signals, settings, recipe=study.training, seed=cell.seed)
        plan, fault = plan_of(sampler, epochs, None if selection.budget == "own" else budget)
        return Subset(everyone, settings, 0.0, plan, fault)
    whole = budget == len(everyone)
    settings = {} if whole else {name: picked.get(name) if value is None else value for name, value in given.items()}
    keep = choose(selection, signals, budget=budget, seed=cell.seed, settings=settings)
    fault = "" if keep.sum() == budget else f"{keep.sum()} kept, the budget is {budget}"
    return Subset(keep, settings, time.perf_counter() - started, fault=fault)


def plan_of(sampler: EpochSampler, epochs: int, budget: int | None) -> tuple[dict[str, Any], str]:
    """What is known before training of the epochs' lengths, and how they miss the budget, if there is one."""
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
