"""Outcomes of trials, read back from a store, whatever the kind of study."""

from collections.abc import Iterable, Mapping
from typing import Any

from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.judging.outcome import Outcome


def outcomes_in(study: AnyStudy, loaded: Mapping[Trial, Any]) -> dict[Trial, Outcome]:
    """Outcomes of the loaded trials, in the order of the study; ValueError for a value that is no outcome."""
    name = study.outcome_asset
    return {trial: Outcome.read(loaded[trial], f"{name} of {trial}") for trial in study.trials if trial in loaded}


def outcomes_at(store: Store, study: AnyStudy, trials: Iterable[Trial]) -> dict[Trial, Outcome]:
    """Outcomes of trials, none for a study that measures nothing; FileNotFoundError for a trial that was not run."""
    if not study.outcome_asset:
        return {}
    return outcomes_in(study, {trial: store.load((study.name, study.outcome_asset), trial) for trial in trials})
