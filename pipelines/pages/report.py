"""The report: every arm of a study, of whatever kind, beside random at the same budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from secateur.pipelines.pages.budgets import Budgets
from secateur.pipelines.pages.names import budget_of, other_of
from secateur.pipelines.pages.recommendation import Recommendation, learned, recommendation_of, useless_in
from secateur.pipelines.pages.rows import AS_MANY, Family, Metrics, Row, comparable, compared_rows, values_of
from secateur.pipelines.pages.saving import Saving, saving_of
from secateur.pipelines.pages.stages import runs_of, settled
from secateur.pipelines.pages.time_to import TimeToAccuracy, time_to_of
from secateur.pipelines.pages.words import number, sentence_of
from secateur.pipelines.runs.by_class import ByClass
from secateur.pipelines.runs.deciding import metrics_of
from secateur.pipelines.runs.yardstick import Beside
from secateur.pipelines.studies.column_budgets import ROWS
from secateur.pipelines.studies.grid import KD, OWN, STEPS, Trial, selection_key
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.judging.comparison import Comparison, Verdict, compare_pairs
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.tasks.contract import Metric

SHORTER = "the same samples at equal epochs"
"""The other side of a comparison of both lengths of training."""
BY_EPOCHS, BY_STEPS = "equal epochs", "equal steps"


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
    budgets: Budgets | None = None
    """What selections come to; None where each keeps as many rows as its budget says, each by itself."""
    time_to: TimeToAccuracy | None = None
    """How soon trainings get where the full set's do; None where they were not measured along the way."""
    at_steps: "Report | None" = None
    """The other comparison of a study that asks for both: its rows alone, of selections that were trained for as many
    steps as everything takes; each stands beside the same samples at equal epochs, too."""

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
        if row.keep is None:
            return f"{row.kept:,} {self.kept_word}"
        if getattr(self.study, "budget_of", ROWS) != ROWS:
            return budget_of(self.study, row.keep)
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
        if listed := of_manifests(self.whole):
            said = f"{said} {listed}" if judged else listed
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


def of_manifests(rows: Sequence[Row]) -> str:
    """Which rows that manifests list did better or worse than as many at random; empty without such rows."""
    listed = [(row, row.against[AS_MANY]) for row in rows if AS_MANY in row.against and not row.distilled]
    named = {
        verdict: [row.title for row, compared in listed if compared.verdict is verdict]
        for verdict in (Verdict.BETTER, Verdict.WORSE)
    }
    told = [f"{' and '.join(names)} did {verdict.value} than {AS_MANY}" for verdict, names in named.items() if names]
    if not told and listed:
        told = [f"none of {', '.join(row.title for row, _ in listed)} did better than {AS_MANY}"]
    return f"Rows of manifests: {'; '.join(told)}." if told else ""


def build_report(
    study: AnyStudy,
    outcomes: Mapping[Trial, Outcome],
    note: str = "",
    *,
    metrics: Metrics = (),
    tuning: Mapping[str, Any] | None = None,
    by_class: ByClass | None = None,
    beside: Beside | None = None,
    budgets: Budgets | None = None,
) -> Report:
    """Gather the trials that were run; `note` says what the metrics were measured on. `metrics` take the place of the
    study's where these follow from its data or its settings.

    Comparisons are paired by seed, so they use the seeds that both sides have. Where outcomes say that trials are
    compared at equal optimiser steps, or at equal epochs, raises ValueError for trials of one budget that are not of
    the same length: they would not be comparable. So does a budget without its baselines, and a trial without the
    metric that decides. Recommendation and saving go by equal epochs where a study compares at both.
    """
    metrics = metrics or metrics_of(study)
    if lacking := next((trial for trial, one in outcomes.items() if metrics[0].name not in one.metrics), None):
        there = ", ".join(outcomes[lacking].metrics)
        raise ValueError(f"metric: {study.name} has no {metrics[0].name} of {lacking.title}; name one of {there}")
    outcomes = settled(study, metrics, outcomes)
    twins = {trial.plain: one for trial, one in outcomes.items() if trial.at_steps}
    every = runs_of({trial: one for trial, one in outcomes.items() if not trial.at_steps})
    # How many seeds a stage adds depends on what came out, which no other test allows for.
    results = first_of(study, every)
    lengths = {outcome.compare_at for trials in every.values() for outcome in trials.values()}
    if len(lengths) != 1 or (study.at_steps and lengths != {BY_EPOCHS}):
        said = " and for ".join(sorted(map(str, lengths)))
        raise ValueError(f"{study.name}: trials were trained for {said or 'nothing'}; train them again alike")
    rows = compared_rows(study, metrics, results, study.keep)
    answer = recommendation_of(study, metrics[0], every, useless_in(metrics, every))
    return Report(
        study,
        metrics,
        note + useless_note(metrics, every),
        lengths.pop(),
        *rows,
        tuning or {},
        answer,
        by_class,
        saving_of(study, runs_of(outcomes), answer.selection if answer else None),
        beside,
        budgets,
        time_to_of(study, metrics[0], every),
        at_steps_of(study, metrics, note, results, runs_of(twins)) if study.at_steps else None,
    )


def first_of(study: AnyStudy, runs: Family) -> dict[str, dict[int, Outcome]]:
    """Results of the seeds that all trials have."""
    return {name: {s: one for s, one in each.items() if s < study.first_seeds} for name, each in runs.items()}


def useless_note(metrics: Metrics, runs: Family) -> str:
    """Which selections have models that learned nothing; empty where none has."""
    useless = [key for key, trials in runs.items() if not all(learned(metrics, [one]) for one in trials.values())]
    named = {key.rpartition("@")[0] or key for key in useless}
    if not named:
        return ""
    floor = next(metric for metric in metrics if metric.floor is not None)
    return (
        f" Some models of {', '.join(sorted(named))} learned nothing ({floor.title} no better than "
        f"{number(floor.floor or 0.0, floor)}); an arm of which that is the mean is not called better."
    )


def at_steps_of(study: AnyStudy, metrics: Metrics, note: str, shorter: Family, twins: Family) -> Report:
    """The comparison at equal steps, by the results at equal epochs, whose references it shares, and those of twins."""
    longer = {name: trials for name, trials in first_of(study, twins).items() if name in shorter}
    longer |= {name: shorter[name] for name in study.references if name in shorter}
    longer = {
        name: {seed: one.model_copy(update={"compare_at": BY_STEPS}) for seed, one in trials.items()}
        for name, trials in longer.items()
    }
    comparable(BY_STEPS, longer)
    pruned = [keep for keep in study.keep if selection_key(f"{study.baseline}{STEPS}", keep) in study.at_steps]
    rows, whole = compared_rows(study, metrics, longer, pruned, at=f" at {BY_STEPS}")
    gains: dict[str, Comparison] = {}
    for keep in (*pruned, OWN):
        pairs = {}
        for key in (key for key in longer if key in shorter and key.endswith(f"@{keep}")):
            seeds = sorted(longer[key].keys() & shorter[key].keys())
            mine, others = ([side[key][seed] for seed in seeds] for side in (longer, shorter))
            pairs[key] = values_of(metrics, mine), values_of(metrics, others)
        gains |= compare_pairs(pairs, higher_is_better=metrics[0].higher_is_better)

    def with_gain(row: Row) -> Row:
        gain = gains.get(selection_key(row.name, OWN if row.keep is None else row.keep))
        return replace(row, against={**row.against, SHORTER: gain}) if gain else row

    found = tuple(map(with_gain, rows)), tuple(map(with_gain, whole))
    return Report(study, metrics, note + useless_note(metrics, longer), BY_STEPS, *found)
