"""The report: every arm of a study, of any kind, compared with random at the same budget."""

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
"""The other side in comparisons between the two lengths of training."""
BY_EPOCHS, BY_STEPS = "equal epochs", "equal steps"


@dataclass(frozen=True)
class Report:
    """The results of a study."""

    study: AnyStudy
    metrics: Metrics
    """The first one decides."""
    note: str
    """The data behind the metrics, and the claim under test."""
    compare_at: str | None
    """equal steps or equal epochs; None for trials of any length."""
    rows: tuple[Row, ...]
    whole: tuple[Row, ...]
    """References, then arms without a budget of the study."""
    tuning: Mapping[str, Any] = field(default_factory=dict)
    recommendation: Recommendation | None = None
    """The recommended budget; None without an answer."""
    by_class: ByClass | None = None
    """Effects of selections on each class; None if they are unknown or targets are not classes."""
    saving: Saving | None = None
    """Saving by subsets of samples; None for other units, and for unknown costs."""
    beside: Beside | None = None
    """Metrics of a simple model on the same samples; None for studies of other units."""
    budgets: Budgets | None = None
    """Totals of selections; None if all keep an exact number of single rows."""
    time_to: TimeToAccuracy | None = None
    """Time of trainings to the full set's result; None without evaluations during training."""
    at_steps: "Report | None" = None
    """The second comparison in a study of both lengths: only its rows, of selections trained for as many steps as the
    full set; each is also compared with the same samples at equal epochs."""

    @property
    def metric(self) -> Metric:
        """The deciding metric."""
        return self.metrics[0]

    @property
    def full(self) -> Row | None:
        """The first reference, without pruning."""
        return next((row for row in self.whole if row.name in self.study.references), None)

    def against(self, name: str) -> list[tuple[Row, Comparison]]:
        """Rows at budgets that are compared with the arm or reference of that name, with the comparison."""
        title = other_of(self.study, name)
        return [(row, row.against[title]) for row in self.rows if title in row.against]

    def place(self, row: Row) -> str:
        """The budget of a row, for use after its title in a sentence."""
        if row.keep is None:
            return f"{row.kept:,} {self.kept_word}"
        if getattr(self.study, "budget_of", ROWS) != ROWS:
            return budget_of(self.study, row.keep)
        if self.study.by_share or row.kept is None:
            return f"{row.keep:g}"
        return f"{row.kept:,} {self.kept_word}"

    @property
    def is_search(self) -> bool:
        """Whether budgets count evaluations instead of kept units."""
        return self.study.unit == "evaluation"

    @property
    def kept_word(self) -> str:
        """The header of the column of budgets."""
        return "evaluations" if self.is_search else "kept"

    @property
    def verdict(self) -> str:
        """One sentence on all arms, and another on their distilled twins."""
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
        """A sentence on the arms that did better than random, and on those that did worse."""
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
    """A sentence on rows of manifests that did better or worse than random ones; empty without such rows."""
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
    """Build the report of completed trials; `note` describes the data behind the metrics. `metrics` replace the study's
    if they depend on its data or its settings.

    Comparisons are paired by seed, so they use the seeds that both sides have. If outcomes claim equal optimiser steps
    or equal epochs, trials of one budget with different lengths raise ValueError, because they are not comparable. So
    does a budget without its baselines, and a trial without the deciding metric. Recommendation and saving use equal
    epochs if a study compares at both lengths.
    """
    metrics = metrics or metrics_of(study)
    if lacking := next((trial for trial, one in outcomes.items() if metrics[0].name not in one.metrics), None):
        there = ", ".join(outcomes[lacking].metrics)
        raise ValueError(f"metric: {study.name} has no {metrics[0].name} of {lacking.title}; name one of {there}")
    outcomes = settled(study, metrics, outcomes)
    twins = {trial.plain: one for trial, one in outcomes.items() if trial.at_steps}
    every = runs_of({trial: one for trial, one in outcomes.items() if not trial.at_steps})
    # The number of seeds that a stage adds depends on the outcomes, for which no other test accounts.
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
    """Outcomes of the seeds that all trials have."""
    return {name: {s: one for s, one in each.items() if s < study.first_seeds} for name, each in runs.items()}


def useless_note(metrics: Metrics, runs: Family) -> str:
    """A note on selections whose models learned nothing; empty without any."""
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
    """The comparison at equal steps, from results at equal epochs, whose references it shares, and those of twins."""
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
