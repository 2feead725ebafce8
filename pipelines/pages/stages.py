"""The trials that a study's recommendation needs: seeds come in stages, and midpoint budgets after a failed one.

The first stage is every arm at every budget of `keep`, with the seeds of the first look. Then the open budget of an
arm's test gets the seeds of the next look, and a midpoint budget its first ones, as long as that could change the
recommendation. A study without looks and midpoints needs all its trials.
"""

from collections.abc import Mapping, Sequence

from secateur.pipelines.pages.recommendation import could_do_better, planned_looks, recommendation_of, useless_in
from secateur.pipelines.studies.grid import Trial, selection_key
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.judging.margin import Claim
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.tasks.contract import Metric

Outcomes = Mapping[Trial, Outcome]


def in_stages(study: AnyStudy) -> bool:
    """Whether outcomes determine further trials."""
    return bool(planned_looks(study))


def first_stage(study: AnyStudy) -> list[Trial]:
    """Trials that run in any case, in the order of the study."""
    later = {selection_key(arm, keep) for arm in study.arms for keep in study.between.values()}
    return [trial for trial in study.trials if trial.seed < study.first_seeds and trial.selection not in later]


def runs_of(outcomes: Outcomes) -> dict[str, dict[int, Outcome]]:
    """Outcomes by selection and seed."""
    results: dict[str, dict[int, Outcome]] = {}
    for trial, outcome in outcomes.items():
        results.setdefault(trial.selection, {})[trial.seed] = outcome
    return results


def needed(study: AnyStudy, metrics: Sequence[Metric], outcomes: Outcomes) -> list[Trial]:
    """Trials that the recommendation uses or awaits, given the outcomes of earlier stages; in the study's order."""
    first = first_stage(study)
    if not in_stages(study) or any(trial not in outcomes for trial in first):
        return first
    runs = runs_of(outcomes)
    answer = recommendation_of(study, metrics[0], runs, useless_in(metrics, runs))
    wanted = set(first)
    for arm, claim in (answer.claims if answer else {}).items():
        wanted |= read_by(study, arm, claim)
        if claim.open is not None and could_do_better(study, runs, arm, answer.claims if answer else {}):
            wanted |= waited_for(study, arm, claim.open, claim.checks[claim.open].seeds)
    return [trial for trial in study.trials if trial in wanted]


def read_by(study: AnyStudy, arm: str, claim: Claim) -> set[Trial]:
    """Trials behind the checks of an arm, with the baselines of midpoint budgets."""
    trials: set[Trial] = set()
    for keep, check in claim.checks.items():
        trials |= beside(study, arm, keep, check.seeds)
    return trials


def waited_for(study: AnyStudy, arm: str, keep: int | float, seeds: int) -> set[Trial]:
    """Trials up to the first look with more than `seeds` seeds."""
    return beside(study, arm, keep, next(look for look in planned_looks(study) if look > seeds))


def beside(study: AnyStudy, arm: str, keep: int | float, seeds: int) -> set[Trial]:
    """An arm at a budget and the references for `seeds` seeds, and the baselines of a midpoint budget."""
    if not seeds:
        return set()
    trials = {Trial(name, seed) for name in (selection_key(arm, keep), *study.references) for seed in range(seeds)}
    if keep in study.between.values():
        baselines = [name for name in (study.baseline, study.second_baseline) if name]
        trials |= {Trial(selection_key(name, keep), seed) for name in baselines for seed in range(study.first_seeds)}
    return trials


def settled(study: AnyStudy, metrics: Sequence[Metric], outcomes: Outcomes) -> Outcomes:
    """Outcomes of the stages, in sequence, without those of other trials."""
    if not in_stages(study):
        return outcomes
    known: dict[Trial, Outcome] = {}
    while True:
        wanted = needed(study, metrics, known)
        more = [trial for trial in wanted if trial in outcomes and trial not in known]
        if not more:
            return known
        known |= {trial: outcomes[trial] for trial in more}
