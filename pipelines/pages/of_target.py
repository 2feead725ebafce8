"""Selections for a target compared with random rows, of which those of the target's own source often win."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from secateur.pipelines.pages.names import title_of
from secateur.pipelines.pages.report import Report
from secateur.pipelines.pages.rows import Row
from secateur.pipelines.pages.words import Table, brief, mean_of, number, signed
from secateur.pipelines.studies.target import SOURCE_RANDOM
from secateur.trainers.judging.comparison import Verdict

NO_SOURCE = (
    "The study does not say where rows come from: with source: COLUMN under target, random rows of the target's own "
    "source stand beside these selections, and those often win."
)
SIMPLER = "Where the source of rows is known, rows of that source at random are the simpler choice."
WORDS = {
    Verdict.WORSE: "{0} did better than {1}.",
    Verdict.BETTER: "Better than {0}: {1}.",
    Verdict.NO_BETTER: "Not shown to be better than {0}, nor worse: {1}.",
    Verdict.ONE_SEED: "One seed says nothing of {1} beside {0}.",
}
"""Sentences that compare selections with a reference."""


@dataclass(frozen=True)
class OfTarget:
    """The ranking of selections for the target and of their random baselines, in sentences and a table."""

    sentences: tuple[str, ...]
    winners: tuple[dict[str, Any], ...]
    """By budget: `keep`, the name of the best `arm`, and its `mean`."""
    table: Table

    def content(self) -> dict[str, Any]:
        """JSON-able content."""
        return {"sentences": list(self.sentences), "winners": list(self.winners)}


def of_target(report: Report) -> OfTarget | None:
    """The comparison; None for a study without selections for a target."""
    study = report.study
    if not study.following:
        return None
    winners, said = [], list[str]()
    for keep in dict.fromkeys(row.keep for row in report.rows if row.name in study.following):
        ordered = in_order(report, keep)
        winners.append({"keep": keep, "arm": ordered[0].name, "mean": mean(report, ordered[0])})
        said.append(first_of(report, ordered))
    if not study.beside_target:
        said.append(NO_SOURCE)
    return OfTarget((*said, *verdicts(report)), tuple(winners), table_of(report))


def compared(report: Report) -> list[Row]:
    """Rows of selections for the target and of all random baselines."""
    study = report.study
    names = {*study.following, *study.beside_target, study.baseline, study.second_baseline}
    return [row for row in report.rows if row.name in names]


def in_order(report: Report, keep: Any) -> list[Row]:
    """Rows at a budget, the best mean first."""
    sign = -1 if report.metric.higher_is_better else 1
    return sorted((row for row in compared(report) if row.keep == keep), key=lambda row: sign * mean(report, row))


def mean(report: Report, row: Row) -> float:
    """The row's mean of the deciding metric."""
    return row.metrics[report.metric.name].mean


def first_of(report: Report, rows: list[Row]) -> str:
    """A sentence on the best row and the others in order."""
    first, *others = ((row.title, number(mean(report, row), report.metric)) for row in rows)
    behind = "; ".join(" ".join(each) for each in others)
    return f"At {report.place(rows[0])}, {first[0]} comes first with {first[1]} {report.metric.title}, before {behind}."


def verdicts(report: Report) -> Iterator[str]:
    """Sentences that compare the selections for the target with each of its random baselines."""
    study = report.study
    for name in study.beside_target:
        named: dict[Verdict, list[str]] = {}
        for row, comparison in report.against(name):
            if row.name in study.following:
                change = signed(comparison.difference, report.metric)
                named.setdefault(comparison.verdict, []).append(f"{row.title} at {report.place(row)} ({change})")
        title = title_of(study, name)
        for verdict, rows in named.items():
            words = WORDS[verdict].format(title, ", ".join(rows))
            yield (
                words[0].upper()
                + words[1:]
                + (f" {SIMPLER}" if verdict is Verdict.WORSE and name == SOURCE_RANDOM else "")
            )


def table_of(report: Report) -> Table:
    """Selections for the target and random baselines, compared with each of the target's random baselines."""
    study, metric = report.study, report.metric
    titles = [title_of(study, name) for name in study.beside_target]
    lines = [[study.arm, report.kept_word, metric.title, *(f"against {title}" for title in titles)]]
    for row in compared(report):
        cells = [brief(row.against[title], metric) if title in row.against else "" for title in titles]
        place = f"{row.kept:,}" if row.kept is not None else ""
        lines.append([row.title, place, mean_of(row.metrics[metric.name], metric), *cells])
    return lines
