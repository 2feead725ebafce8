"""Rows of a report: every arm at every budget compared with random, summarised over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from secateur.pipelines.pages.names import other_of, title_of
from secateur.pipelines.pages.recommendation import learned
from secateur.pipelines.studies.grid import KD, OWN, selection_key
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.judging.comparison import Comparison, Summary, Verdict, compare, compare_pairs, summarise
from secateur.trainers.judging.outcome import TOKENS, Cost, Outcome
from secateur.trainers.tasks.contract import Metric

PLAIN_TWIN = "the same samples without a teacher"
AS_MANY = "as many rows at random"
"""The other side in comparisons of a manifest's rows."""
Results = Mapping[int, Outcome]
"""Outcomes of an arm at a budget, by seed."""
Family = Mapping[str, Results]
Metrics = tuple[Metric, ...]


@dataclass(frozen=True)
class Row:
    """One arm at one budget, over the seeds common to all arms of that budget."""

    name: str
    """The arm's name."""
    title: str
    """The arm's readable name."""
    keep: int | float | None
    """The budget in the study's notation; None without one."""
    kept: int | None
    """Kept units; None without pruning, and if seeds differ."""
    of: int | None
    """Units in all; None if seeds differ."""
    in_training: bool
    """Whether `kept` counts the samples of an epoch, selected anew in each."""
    steps: int
    """Optimiser steps of the longest seed."""
    steps_ratio: float | None
    """Steps divided by the baseline's; None if they are equal."""
    metrics: Mapping[str, Summary]
    """Summaries by metric."""
    random: Summary | None
    """The baseline at the same budget."""
    against: Mapping[str, Comparison]
    """Comparisons by the title of the other side."""
    tokens: float | None
    """Completion tokens in a language model's training, mean over seeds; None for other models."""
    tokens_ratio: float | None
    """These divided by the baseline's; None without a baseline or without counts."""
    compute: Mapping[str, Mapping[str, float]]
    """By part, and in all: `samples` trained on, or equivalent work, and `seconds`; means over seeds."""

    @property
    def distilled(self) -> bool:
        return self.name.endswith(KD)

    @property
    def marked(self) -> str:
        """The title, with a dagger if the steps differ from the baseline's."""
        return self.title + ("" if self.steps_ratio is None else " †")


def compared_rows(
    study: AnyStudy, metrics: Metrics, results: Family, budgets: Sequence[int | float], *, at: str = ""
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Rows at budgets, then rows without a budget, from results by selection.

    Raises ValueError for one of `budgets` without its baselines, and for trials of a budget with different lengths;
    `at` follows the budget in messages.
    """
    references = {name: results[name] for name in study.references if name in results}
    rows: list[Row] = []
    for keep in study.budgets:
        family = {name: trials for name in study.arms if (trials := results.get(selection_key(name, keep)))}
        if family or keep in budgets:
            rows += rows_at(study, metrics, keep, family, references, at=at)
    unbudgeted = {name: results.get(name) or results.get(selection_key(name, OWN)) for name in study.unbudgeted}
    whole = references | {name: trials for name, trials in unbudgeted.items() if trials}
    return tuple(rows), tuple(rows_of_the_whole(study, metrics, whole))


def rows_at(
    study: AnyStudy, metrics: Metrics, keep: int | float, family: Family, references: Family, *, at: str = ""
) -> list[Row]:
    """The rows of one budget, baselines first, each twin after its plain arm."""
    baselines = [name for name in (study.baseline, study.second_baseline) if name]
    missing = [name for name in baselines if name not in family]
    if missing:
        raise ValueError(f"keep {keep}{at}: {' and '.join(missing)} was not run; every report needs its baselines")
    seeds = comparable(f"keep {keep}{at}", family)
    against = comparisons(study, metrics, {name: [trials[seed] for seed in seeds] for name, trials in family.items()})
    for name, trials in references.items():
        common = [seed for seed in seeds if seed in trials]
        if common:
            values = {arm: values_of(metrics, [family[arm][seed] for seed in common]) for arm in family}
            whole = values_of(metrics, [trials[seed] for seed in common])
            against[other_of(study, name)] = compare(values, whole, higher_is_better=metrics[0].higher_is_better)
    first = [f"{name}{kd}" for name in baselines for kd in ("", KD) if f"{name}{kd}" in family]
    random = [family[study.baseline][seed] for seed in seeds]
    return [
        row_of(study, metrics, name, keep, [family[name][seed] for seed in seeds], random, against)
        for name in [*first, *(name for name in family if name not in first)]
    ]


def comparisons(
    study: AnyStudy, metrics: Metrics, outcomes: Mapping[str, Sequence[Outcome]]
) -> dict[str, dict[str, Comparison]]:
    """Comparisons at one budget by title of the other side, then by arm; Holm's correction is by other side.

    All comparisons with random in the table are one family, including distilled twins.
    """
    values = {name: values_of(metrics, trials) for name, trials in outcomes.items()}
    better = metrics[0].higher_is_better
    baselines = [study.baseline, *([study.second_baseline] if study.second_baseline else [])]
    against = {}
    for place, baseline in enumerate(baselines):
        others = {name: each for name, each in values.items() if name not in baselines[: place + 1]}
        against[title_of(study, baseline)] = compare(others, values[baseline], higher_is_better=better)
    following = {name: values[name] for name in study.following if name in values}
    for other in (name for name in study.beside_target if name in values):
        against[title_of(study, other)] = compare(following, values[other], higher_is_better=better)
    twins = {name: each for name, each in values.items() if name.endswith(KD)}
    pairs = {name: (each, values[name.removesuffix(KD)]) for name, each in twins.items()}
    against[PLAIN_TWIN] = compare_pairs(pairs, higher_is_better=better)
    taught_random = twins.pop(f"{study.baseline}{KD}", None)
    if taught_random:
        against[title_of(study, f"{study.baseline}{KD}")] = compare(twins, taught_random, higher_is_better=better)
    useless = {name for name, trials in outcomes.items() if not learned(metrics, trials)}
    for compared in against.values():
        for name, comparison in compared.items():
            if name in useless and comparison.verdict is Verdict.BETTER:
                compared[name] = replace(comparison, verdict=Verdict.NO_BETTER)
    return against


def rows_of_the_whole(study: AnyStudy, metrics: Metrics, family: Family) -> list[Row]:
    """References, then arms without a budget, each compared with the first reference."""
    if not family:
        return []
    reference = next(iter(family))
    others = {name: trials for name, trials in family.items() if name not in study.references}
    if reference not in study.references or not others:
        return [row_of(study, metrics, name, None, list(trials.values()), None, {}) for name, trials in family.items()]
    seeds = comparable(title_of(study, reference), {reference: family[reference], **others})
    whole = [family[reference][seed] for seed in seeds]
    values = {name: values_of(metrics, [trials[seed] for seed in seeds]) for name, trials in others.items()}
    better = metrics[0].higher_is_better
    against = {other_of(study, reference): compare(values, values_of(metrics, whole), higher_is_better=better)}
    beside = {name: study.as_many(name) for name in others if study.as_many(name) in others}
    pairs = {name: (values[name], values[random]) for name, random in beside.items()}
    against[AS_MANY] = compare_pairs(pairs, higher_is_better=better)
    return [
        row_of(study, metrics, name, None, [trials[seed] for seed in seeds if seed in trials], whole, against)
        for name, trials in family.items()
    ]


def values_of(metrics: Metrics, outcomes: Sequence[Outcome]) -> list[float]:
    """The deciding metric of each outcome."""
    return [outcome.metrics[metrics[0].name] for outcome in outcomes]


def comparable(where: str, family: Family) -> list[int]:
    """Seeds common to all sides; raises ValueError if trainings differ in the length of comparison."""
    everything = [outcome for trials in family.values() for outcome in trials.values()]
    if everything[0].compare_at:
        counted = everything[0].compare_at.removeprefix("equal ")
        lengths = sorted({getattr(outcome, counted) for outcome in everything})
        if len(lengths) > 1:
            raise ValueError(f"{where}: trials were trained for {lengths} {counted}; train them again alike")
    seeds = sorted(set.intersection(*(set(trials) for trials in family.values())))
    if not seeds:
        raise ValueError(f"{where}: no seed was run for every arm")
    return seeds


def row_of(
    study: AnyStudy,
    metrics: Metrics,
    name: str,
    keep: int | float | None,
    outcomes: Sequence[Outcome],
    baseline: Sequence[Outcome] | None,
    against: Mapping[str, Mapping[str, Comparison]],
) -> Row:
    """Summary of one arm over seeds; `baseline` are the outcomes of the same seeds to compare its steps with."""
    steps = [outcome.steps for outcome in outcomes]
    usual = steps if baseline is None else [outcome.steps for outcome in baseline]
    in_training = any(outcome.in_training for outcome in outcomes)
    counts = {outcome.kept for outcome in outcomes}
    if keep is None and in_training:  # only the number of samples seen shows the size of an epoch
        counts = {round(mean([outcome.samples_seen / outcome.epochs for outcome in outcomes]))}
    totals = {outcome.of for outcome in outcomes}
    # The number of rows in a budget of a column, of whole groups or with quotas differs between seeds.
    varies = isinstance(study, Study) and not all(map(study.by_rows, study.selections.values()))
    kept = round(mean([float(outcome.kept or 0) for outcome in outcomes])) if varies else None
    measured = [m.name for m in metrics if all(m.name in outcome.metrics for outcome in outcomes)]
    random = summarise(values_of(metrics, baseline)) if keep is not None and baseline else None
    return Row(
        name=name,
        title=title_of(study, name),
        keep=keep,
        kept=counts.pop() if len(counts) == 1 else kept,
        of=totals.pop() if len(totals) == 1 else None,
        in_training=in_training,
        steps=max(steps),
        steps_ratio=None if steps == usual else max(steps) / max(usual),
        metrics={metric: summarise([outcome.metrics[metric] for outcome in outcomes]) for metric in measured},
        random=random,
        against={title: family[name] for title, family in against.items() if name in family},
        tokens=tokens_of(outcomes),
        tokens_ratio=ratio_of(tokens_of(outcomes), tokens_of(baseline or [])),
        compute=compute_of(outcomes),
    )


def tokens_of(outcomes: Sequence[Outcome]) -> float | None:
    """Mean over seeds of the completion tokens in trainings; None if some outcomes lack a count."""
    counted = [float(outcome.facts[TOKENS]) for outcome in outcomes if TOKENS in outcome.facts]
    return mean(counted) if counted and len(counted) == len(outcomes) else None


def ratio_of(number: float | None, other: float | None) -> float | None:
    """The quotient of two numbers; None if either is unknown."""
    return number / other if number is not None and other else None


def compute_of(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Means over seeds of every part, and of their total."""
    parts = list(dict.fromkeys(part for outcome in outcomes for part in outcome.compute))
    spent = {part: [outcome.compute.get(part, Cost()) for outcome in outcomes] for part in parts}
    totals = {"samples": mean([o.work for o in outcomes]), "seconds": mean([o.all_seconds for o in outcomes])}
    return {
        part: {"samples": mean([c.samples for c in costs]), "seconds": mean([c.seconds for c in costs])}
        for part, costs in spent.items()
    } | {"all": totals}


def mean(values: Sequence[float]) -> float:
    """Float64 mean of one number per seed."""
    return summarise(values).mean
