"""The report: every arm of a study, of whatever kind, beside random at the same budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from secateur.pipelines.pages.names import other_of, title_of
from secateur.pipelines.pages.recommendation import Recommendation, learned, recommendation_of, useless_in
from secateur.pipelines.pages.saving import Saving, saving_of
from secateur.pipelines.pages.stages import runs_of, settled
from secateur.pipelines.pages.time_to import TimeToAccuracy, time_to_of
from secateur.pipelines.pages.words import number, sentence_of
from secateur.pipelines.runs.by_class import ByClass
from secateur.pipelines.runs.deciding import metrics_of
from secateur.pipelines.runs.yardstick import Beside
from secateur.pipelines.studies.grid import KD, OWN, Trial, selection_key
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.judging.comparison import Comparison, Summary, Verdict, compare, compare_pairs, summarise
from secateur.trainers.judging.outcome import Cost, Outcome
from secateur.trainers.tasks.contract import Metric

PLAIN_TWIN = "the same samples without a teacher"
Results = Mapping[int, Outcome]
"""What an arm came to at a budget, by seed."""
Family = Mapping[str, Results]
Metrics = tuple[Metric, ...]


@dataclass(frozen=True)
class Row:
    """One arm at one budget, over the seeds that all arms of that budget have; `keep` is None where it has none."""

    name: str
    """Of the arm."""
    title: str
    """The arm's name as readers see it."""
    keep: int | float | None
    """The budget as the study writes it; None where it has none."""
    kept: int | None
    """None where nothing is pruned, or where seeds differ."""
    of: int | None
    """Units in all; None where seeds differ."""
    in_training: bool
    """Whether `kept` are the samples of an epoch, chosen anew in each."""
    steps: int
    """Optimiser steps, of the longest seed."""
    steps_ratio: float | None
    """Steps over the baseline's, None where they are equal."""
    metrics: Mapping[str, Summary]
    """By name."""
    random: Summary | None
    """The baseline at the same budget."""
    against: Mapping[str, Comparison]
    """By the other side, as a sentence names it."""
    compute: Mapping[str, Mapping[str, float]]
    """By part, and in all: `samples` trained on, or as much work, and `seconds`; means over seeds."""

    @property
    def distilled(self) -> bool:
        return self.name.endswith(KD)

    @property
    def marked(self) -> str:
        """The title, with a dagger where the steps are not the baseline's."""
        return self.title + ("" if self.steps_ratio is None else " †")


@dataclass(frozen=True)
class Report:
    """What came out of a study."""

    study: AnyStudy
    metrics: Metrics
    """The first one decides."""
    note: str
    """What the metrics were measured on, and whose claim is tested."""
    compare_at: str | None
    """equal steps, or equal epochs; None where a trial may spend what it likes."""
    rows: tuple[Row, ...]
    whole: tuple[Row, ...]
    """References, then arms that go by no budget of the study."""
    tuning: Mapping[str, Any] = field(default_factory=dict)
    recommendation: Recommendation | None = None
    """How much can go; None where no answer can be given."""
    by_class: ByClass | None = None
    """What selections do to each class; None where that is not known, or targets are no classes."""
    saving: Saving | None = None
    """What subsets of samples save; None where other units are pruned, or costs are not known."""
    beside: Beside | None = None
    """What a simple model gets of the same samples; None of studies of other units."""
    time_to: TimeToAccuracy | None = None
    """How soon trainings get where the full set's do; None where they were not measured along the way."""

    @property
    def metric(self) -> Metric:
        """What decides."""
        return self.metrics[0]

    @property
    def full(self) -> Row | None:
        """The first reference: what nothing is pruned of."""
        return next((row for row in self.whole if row.name in self.study.references), None)

    def against(self, name: str) -> list[tuple[Row, Comparison]]:
        """Rows at budgets that are compared with the arm or reference of that name, and how."""
        title = other_of(self.study, name)
        return [(row, row.against[title]) for row in self.rows if title in row.against]

    def place(self, row: Row) -> str:
        """Where a row stands, behind its title in a sentence."""
        if self.study.by_share or row.kept is None:
            return f"{row.keep:g}"
        return f"{row.kept:,} {self.kept_word}"

    @property
    def is_search(self) -> bool:
        """Whether a budget is spent, not kept."""
        return self.study.unit == "evaluation"

    @property
    def kept_word(self) -> str:
        """The head of the column of budgets."""
        return "evaluations" if self.is_search else "kept"

    @property
    def verdict(self) -> str:
        """One sentence over all arms, and one more over their taught twins."""
        study = self.study
        if study.first_seeds < 2:
            return f"One seed says nothing about any {study.arm}; ask for more seeds."
        baselines = [name for name in (study.baseline, study.second_baseline) if name]
        judged = [pair for pair in self.against(study.baseline) if pair[0].name not in baselines]
        judged = [pair for pair in judged if not pair[0].distilled]
        said = self.sentence(judged) if judged else "Only baselines were run."
        taught = self.against(f"{study.baseline}{KD}")
        if taught:
            said += f" With a teacher on both sides: {self.sentence(taught)}"
        return said

    def sentence(self, compared: Sequence[tuple[Row, Comparison]]) -> str:
        """Which of these arms did better than random, and which did worse."""
        named: dict[Verdict, list[str]] = {}
        for row, comparison in compared:
            longer = f" ({row.steps_ratio:.2g} times its steps)" if row.steps_ratio else ""
            named.setdefault(comparison.verdict, []).append(f"{row.marked} at {self.place(row)}{longer}")
        return sentence_of(
            named.get(Verdict.BETTER, []),
            named.get(Verdict.WORSE, []),
            len(compared),
            self.study.first_seeds,
            self.study.arm,
        )


def build_report(
    study: AnyStudy,
    outcomes: Mapping[Trial, Outcome],
    note: str = "",
    *,
    metrics: Metrics = (),
    tuning: Mapping[str, Any] | None = None,
    by_class: ByClass | None = None,
    beside: Beside | None = None,
) -> Report:
    """Gather the trials that were run; `note` says what the metrics were measured on. `metrics` take the place of the
    study's where these follow from its data or its settings.

    Comparisons are paired by seed, so they use the seeds that both sides have. Where outcomes say that trials are
    compared at equal optimiser steps, or at equal epochs, raises ValueError for trials of one budget that are not of
    the same length: they would not be comparable. So does a budget without its baselines, and a trial without the
    metric that decides.
    """
    metrics = metrics or metrics_of(study)
    if lacking := next((trial for trial, one in outcomes.items() if metrics[0].name not in one.metrics), None):
        there = ", ".join(outcomes[lacking].metrics)
        raise ValueError(f"metric: {study.name} has no {metrics[0].name} of {lacking.title}; name one of {there}")
    outcomes = settled(study, metrics, outcomes)
    every = runs_of(outcomes)
    # How many seeds a stage adds depends on what came out, which no other test allows for.
    results = {name: {s: one for s, one in each.items() if s < study.first_seeds} for name, each in every.items()}
    lengths = {outcome.compare_at for outcome in outcomes.values()}
    if len(lengths) != 1:
        said = " and for ".join(sorted(map(str, lengths)))
        raise ValueError(f"{study.name}: trials were trained for {said or 'nothing'}; train them again alike")
    references = {name: results[name] for name in study.references if name in results}
    rows: list[Row] = []
    for keep in study.budgets:
        family = {name: trials for name in study.arms if (trials := results.get(selection_key(name, keep)))}
        if family or keep in study.keep:
            rows += rows_at(study, metrics, keep, family, references)
    unbudgeted = {name: results.get(name) or results.get(selection_key(name, OWN)) for name in study.unbudgeted}
    whole = references | {name: trials for name, trials in unbudgeted.items() if trials}
    whole_rows = tuple(rows_of_the_whole(study, metrics, whole))
    if useless := {trial.name for trial, outcome in outcomes.items() if not learned(metrics, [outcome])}:
        floor = next(metric for metric in metrics if metric.floor is not None)
        note += (
            f" Some models of {', '.join(sorted(useless))} learned nothing ({floor.title} no better than "
            f"{number(floor.floor or 0.0, floor)}); an arm of which that is the mean is not called better."
        )
    answer = recommendation_of(study, metrics[0], every, useless_in(metrics, every))
    saving, time_to = (
        saving_of(study, every, answer.selection if answer else None),
        time_to_of(study, metrics[0], every),
    )
    found = tuple(rows), whole_rows, tuning or {}, answer, by_class, saving, beside, time_to
    return Report(study, metrics, note, lengths.pop(), *found)


def rows_at(study: AnyStudy, metrics: Metrics, keep: int | float, family: Family, references: Family) -> list[Row]:
    """The rows of one budget, baselines first, each twin behind its plain self."""
    baselines = [name for name in (study.baseline, study.second_baseline) if name]
    missing = [name for name in baselines if name not in family]
    if missing:
        raise ValueError(f"keep {keep}: {' and '.join(missing)} was not run; every report needs its baselines")
    seeds = comparable(f"keep {keep}", family)
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
    """Comparisons at one budget by the title of the other side, then by arm: Holm's correction is over each of these.

    All comparisons with random that the table shows are one family, taught twins included.
    """
    values = {name: values_of(metrics, trials) for name, trials in outcomes.items()}
    better = metrics[0].higher_is_better
    baselines = [study.baseline, *([study.second_baseline] if study.second_baseline else [])]
    against = {}
    for place, baseline in enumerate(baselines):
        others = {name: each for name, each in values.items() if name not in baselines[: place + 1]}
        against[title_of(study, baseline)] = compare(others, values[baseline], higher_is_better=better)
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
    """References, then arms that go by no budget, each compared with the first reference."""
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
    return [
        row_of(study, metrics, name, None, [trials[seed] for seed in seeds if seed in trials], whole, against)
        for name, trials in family.items()
    ]


def values_of(metrics: Metrics, outcomes: Sequence[Outcome]) -> list[float]:
    """The deciding metric of each."""
    return [outcome.metrics[metrics[0].name] for outcome in outcomes]


def comparable(where: str, family: Family) -> list[int]:
    """Seeds that all sides have; raises ValueError where their trainings were not equally long, as chosen."""
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
    """Summaries over the seeds of one arm; `baseline` are the outcomes of the same seeds that its steps are set by."""
    steps = [outcome.steps for outcome in outcomes]
    usual = steps if baseline is None else [outcome.steps for outcome in baseline]
    in_training = any(outcome.in_training for outcome in outcomes)
    counts = {outcome.kept for outcome in outcomes}
    if keep is None and in_training:  # what an epoch keeps is known only from what it saw
        counts = {round(mean([outcome.samples_seen / outcome.epochs for outcome in outcomes]))}
    totals = {outcome.of for outcome in outcomes}
    measured = [m.name for m in metrics if all(m.name in outcome.metrics for outcome in outcomes)]
    random = summarise(values_of(metrics, baseline)) if keep is not None and baseline else None
    return Row(
        name=name,
        title=title_of(study, name),
        keep=keep,
        kept=counts.pop() if len(counts) == 1 else None,
        of=totals.pop() if len(totals) == 1 else None,
        in_training=in_training,
        steps=max(steps),
        steps_ratio=None if steps == usual else max(steps) / max(usual),
        metrics={metric: summarise([outcome.metrics[metric] for outcome in outcomes]) for metric in measured},
        random=random,
        against={title: family[name] for title, family in against.items() if name in family},
        compute=compute_of(outcomes),
    )


def compute_of(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Means over seeds of every part, and of all together."""
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
