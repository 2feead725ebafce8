"""The report of a study of units: every arm beside random at the same budget, and beside what nothing is pruned of."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.pipelines.pages.page import Page, Table, statistics
from secateur.pipelines.pages.plots import Curve, accuracy_curves, differences
from secateur.pipelines.pages.report import sentence_of
from secateur.pipelines.studies.grid import Trial, selection_key
from secateur.pipelines.studies.units import PruningStudy
from secateur.trainers.judging.comparison import Comparison, Summary, compare, summarise

Measured = Mapping[int, Mapping[str, Any]]
"""What was measured of an arm at a budget, by seed."""


@dataclass(frozen=True)
class UnitRow:
    """One arm at one budget, or a reference, whose `keep` is None; over the seeds that all of its budget have."""

    arm: str
    keep: float | None
    kept: int | None
    of: int | None
    metrics: Mapping[str, Summary]
    random: Summary | None
    against_random: Comparison | None
    against: Mapping[str, Comparison]
    """Beside each reference."""
    samples: float
    seconds: float

    @property
    def title(self) -> str:
        return self.arm if self.keep is None else f"{self.arm} at {self.keep:g}"


@dataclass(frozen=True)
class UnitReport:
    """What a study of units found."""

    study: PruningStudy
    metric: str
    rows: tuple[UnitRow, ...]
    references: tuple[UnitRow, ...]

    @property
    def verdict(self) -> str:
        """Which arms did better than random, and which did worse."""
        judged = [(row, row.against_random) for row in self.rows if row.against_random]
        if self.study.seeds < 2:
            return "One seed says nothing about any arm; ask for more seeds."
        if not judged:
            return "Only random was run."
        named: dict[str, list[str]] = {"better": [], "worse": []}
        for row, found in judged:
            named.setdefault(found.verdict.split()[0], []).append(row.title)
        said = sentence_of(named["better"], len(judged), self.study.seeds, "arm")
        return f"{said} Random did better than {', '.join(named['worse'])}." if named["worse"] else said


def build_unit_report(study: PruningStudy, outcomes: Mapping[Trial, Mapping[str, Any]]) -> UnitReport:
    """Gather the trials that were run; comparisons are paired by seed and use the seeds that all sides have.

    The metric is told in percent where all of its values are within [0, 1]. Raises ValueError where random was not run.
    """
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for trial, outcome in outcomes.items():
        found.setdefault(trial.selection, {})[trial.seed] = outcome
    metric = study.declared.metric
    references = {name: found[name] for name in study.declared.references if name in found}
    percent = shares_in([*found.values()])
    rows: list[UnitRow] = []
    for keep in study.keep:
        arms = {arm: found[key] for arm in study.arms if (key := selection_key(arm, keep)) in found}
        if study.declared.baseline not in arms:
            raise ValueError(f"keep {keep}: {study.declared.baseline} was not run; every report needs it")
        rows += rows_at(study, keep, arms, references, percent)
    return UnitReport(
        study, metric, tuple(rows), tuple(row_of(name, None, trials, percent) for name, trials in references.items())
    )


def shares_in(every: list[Measured]) -> Mapping[str, bool]:
    """Which metrics are told in percent: those within [0, 1] everywhere."""
    values: dict[str, list[float]] = {}
    for trials in every:
        for outcome in trials.values():
            for name, value in outcome["metrics"].items():
                values.setdefault(name, []).append(value)
    return {name: min(told) >= 0 and max(told) <= 1 for name, told in values.items()}


def rows_at(
    study: PruningStudy,
    keep: float,
    arms: Mapping[str, Measured],
    references: Mapping[str, Measured],
    percent: Mapping[str, bool],
) -> list[UnitRow]:
    """The rows of one budget, random first."""
    metric, baseline = study.declared.metric, study.declared.baseline
    seeds = sorted(set.intersection(*(set(trials) for trials in (*arms.values(), *references.values()))))
    if not seeds:
        raise ValueError(f"keep {keep}: no seed was run for every arm")
    values = {arm: [trials[seed]["metrics"][metric] for seed in seeds] for arm, trials in arms.items()}
    how = {"percent": percent[metric], "higher_is_better": study.declared.higher_is_better}
    others = {arm: told for arm, told in values.items() if arm != baseline}
    against_random = compare(others, values[baseline], against=baseline, **how)
    against = {
        name: compare(values, [trials[seed]["metrics"][metric] for seed in seeds], against=name, **how)
        for name, trials in references.items()
    }
    return [
        dataclasses.replace(
            row_of(arm, keep, {seed: trials[seed] for seed in seeds}, percent),
            random=summarise(values[baseline], percent=percent[metric]),
            against_random=against_random.get(arm),
            against={name: told[arm] for name, told in against.items()},
        )
        for arm, trials in arms.items()
    ]


def row_of(arm: str, keep: float | None, trials: Measured, percent: Mapping[str, bool]) -> UnitRow:
    """Summaries over the seeds of one arm."""
    every = list(trials.values())
    names = [name for name in every[0]["metrics"] if all(name in outcome["metrics"] for outcome in every)]
    counts = {(outcome["kept"], outcome["of"]) for outcome in every}
    kept, of = counts.pop() if len(counts) == 1 else (None, None)
    return UnitRow(
        arm=arm,
        keep=keep,
        kept=kept,
        of=of,
        metrics={
            name: summarise([outcome["metrics"][name] for outcome in every], percent=percent[name]) for name in names
        },
        random=None,
        against_random=None,
        against={},
        samples=float(np.mean([outcome["samples"] for outcome in every])),
        seconds=float(np.mean([outcome["seconds"] for outcome in every])),
    )


def header_of(report: UnitReport, name: str) -> str:
    """A metric as the head of a column."""
    percent = any(name in row.metrics and row.metrics[name].percent for row in (*report.rows, *report.references))
    return f"{name.replace('_', ' ')}{' %' if percent else ''}"


def size(row: UnitRow, total: int | None) -> str:
    """Units kept; of how many, too, where the head of the column has no `total`."""
    if row.kept is None:
        return ""
    return f"{row.kept:,}" if total else f"{row.kept:,} of {row.of:,}"


def main_table(report: UnitReport) -> Table:
    """The metric of every arm beside random."""
    head, baseline = header_of(report, report.metric), report.study.declared.baseline
    # All arms of a study keep some of the same units, mostly: told once, the table fits a terminal.
    totals = {row.of for row in (*report.rows, *report.references) if row.of is not None}
    total = totals.pop() if len(totals) == 1 else None
    lines = [["arm", "keep", head, "random", "against random", f"of {total:,}" if total else "kept"]]
    for row in report.rows:
        verdict = row.against_random.brief if row.against_random else "the baseline" if row.arm == baseline else ""
        found, by_random = str(row.metrics[report.metric]), str(row.random)
        lines.append([row.arm, f"{row.keep:g}", found, by_random, verdict, size(row, total)])
    for row in report.references:
        lines.append([row.arm, "all", str(row.metrics[report.metric]), "", "nothing pruned", size(row, total)])
    return lines


def details(report: UnitReport) -> list[tuple[str, Table]]:
    """The tables behind the main one."""
    compared = [["arm", "keep", "against", "difference", "corrected p", "Cohen's d", "verdict"]]
    for row in report.rows:
        told = {report.study.declared.baseline: row.against_random} if row.against_random else {}
        for name, found in (told | dict(row.against)).items():
            compared.append([row.arm, f"{row.keep:g}", name, *statistics(found), found.verdict])
    every = (*report.rows, *report.references)
    names = list(dict.fromkeys(name for row in every for name in row.metrics))
    measures = [["arm", "keep", *(header_of(report, name) for name in names)]]
    work = [["arm", "keep", "samples or tokens", "seconds"]]
    for row in every:
        keep = "all" if row.keep is None else f"{row.keep:g}"
        measures.append([row.arm, keep, *(str(row.metrics.get(name, "")) for name in names)])
        work.append([row.arm, keep, f"{row.samples:,.0f}", f"{row.seconds:.1f}"])
    return [("Paired comparisons", compared), ("Other measures", measures), ("Work", work)]


def note(report: UnitReport) -> str:
    """How to read the numbers, and whose claim they test."""
    declared = report.study.declared
    better = "higher" if declared.higher_is_better else "lower"
    return (
        f"{header_of(report, report.metric)} ({better} is better): mean ± half-width of the 95% t-interval over "
        f"{report.study.seeds} seeds. Paired two-sided t-tests; p-values are Holm-corrected within a budget. "
        f"The claim under test: {declared.claim} ({declared.paper})"
    )


def page_of_units(report: UnitReport, pictures: Mapping[str, bytes]) -> Page:
    """The report as a page, the experiment's own pictures behind the common ones."""
    study, head = report.study, header_of(report, report.metric)
    arms = dict.fromkeys(row.arm for row in report.rows)
    curves = []
    for arm in arms:
        rows = sorted((row for row in report.rows if row.arm == arm), key=lambda row: row.keep or 0)
        heights = [row.metrics[report.metric] for row in rows]
        curves.append(Curve(arm, [row.keep or 0 for row in rows], heights, baseline=arm == study.declared.baseline))
    across = {row.arm: row.metrics[report.metric] for row in report.references}
    xlabel = f"share of {study.declared.unit}s kept"
    plots = {report.metric: accuracy_curves(curves, across, xlabel=xlabel, ylabel=head, ticks=study.keep)}
    judged = [(row.title, row.against_random) for row in report.rows if row.against_random]
    if judged:
        plots["difference"] = differences(judged, xlabel=f"{head} minus random's")
    return Page(
        title=study.name,
        description=study.description,
        verdict=report.verdict,
        table=main_table(report),
        note=note(report),
        details=details(report),
        plots={**plots, **pictures},
        content={
            "study": study.model_dump(mode="json"),
            "metric": report.metric,
            "rows": [dataclasses.asdict(row) for row in report.rows],
            "references": [dataclasses.asdict(row) for row in report.references],
        },
    )
