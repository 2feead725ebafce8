"""Outcomes of trials, read back from a store, whatever the kind of study."""

from collections.abc import Iterable

from secateur.pipelines.runs.search_outcomes import outcomes_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.architectures import Search
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.judging.outcome import Outcome


def outcomes_at(store: Store, study: AnyStudy, trials: Iterable[Trial]) -> dict[Trial, Outcome]:
    """What trials that were run came to; raises FileNotFoundError for one that was not."""
    if isinstance(study, Search):
        every = outcomes_of(study, store.load((study.name, "evaluations")).collect())
        return {trial: every[trial] for trial in trials}
    key = (study.name, study.outcome_asset)
    return {trial: Outcome.read(store.load(key, trial), f"{study.outcome_asset} of {trial}") for trial in trials}
