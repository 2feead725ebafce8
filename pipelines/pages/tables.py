"""The report's tables: every arm against random, the comparisons in detail, other measures, and costs."""

from collections.abc import Mapping
from typing import Any

from secateur.pipelines.pages.by_class import class_tables
from secateur.pipelines.pages.names import other_of, title_of
from secateur.pipelines.pages.recommendation import margin_table
from secateur.pipelines.pages.report import Report
from secateur.pipelines.pages.rows import AS_MANY, Row
from secateur.pipelines.pages.words import (
    LOST,
    Table,
    brief,
    difference_of,
    direction,
    mean_of,
    number,
    sentence,
    with_sign,
)
from secateur.pipelines.runs.by_class import ByClass
from secateur.pipelines.studies.grid import KD, OWN, selection_key
from secateur.trainers.tasks.contract import Metric

MARGINS, SAVING, TIME = "How much can go", "Savings", "Time to accuracy"
BY_CLASS, PAIRED, COMPUTE = "Found of each", "Paired comparisons", "Compute"
"""Titles of tables with their own place on the page; there may be several by class."""
WORST, WORST_HEAD = "worst_class_accuracy", "worst class"
TRAINED = "completion tokens trained"
"""Header of a column: tokens counted as often as seen, with their ratio to random's."""
RANDOM_COLUMN = 3
"""Column of random's own number in the main table; a terminal omits it, because a budget's first line shows it."""


def main_table(report: Report) -> Table:
    """The deciding metric of every arm against random, and against the second baseline if there is one."""
    study, metric, total = report.study, report.metric, total_of(report)
    unit = metric.title.removeprefix(metric.name.replace("_", " "))
    random, other = title_of(study, study.baseline), study.second_baseline
    second = title_of(study, other) if other else None
    kept = f"{report.kept_word} of {total:,}" if total and study.by_share else report.kept_word
    header = [study.arm, kept, metric.title, f"{random}{unit}", f"against {random}"]
    worst = worst_class(report)
    last = [worst.title.replace(" accuracy", "")] if worst else []
    lines = [[*header, *([second.removesuffix(f" {random}")] if second else []), *last]]
    for row in report.rows:
        beside = mean_of(row.random, metric) if row.random else ""
        against = row.against.get(random)
        verdict = brief(against, metric) if against else "the baseline" if row.name == study.baseline else ""
        line = [row.marked, size_of(report, row), mean_of(row.metrics[metric.name], metric), beside, verdict]
        if second:
            against = row.against.get(second)
            line.append(brief(against, metric, with_p=False) if against else "")
        lines.append(line + worst_of(row, worst, report.by_class))
    for row in report.whole:
        against = row.against.get(other_of(study, study.references[0])) if study.references else None
        verdict = f"{brief(against, metric)}, {title_of(study, study.references[0])}" if against else "nothing pruned"
        alike = next((other for other in report.whole if other.name == study.as_many(row.name)), None)
        if alike and AS_MANY in row.against:
            verdict = f"{brief(row.against[AS_MANY], metric)}, {AS_MANY}"
        own = mean_of(alike.metrics[metric.name], metric) if alike else ""
        line = [row.marked, size_of(report, row), mean_of(row.metrics[metric.name], metric), own, verdict]
        lines.append(line + ([""] if second else []) + worst_of(row, worst, report.by_class))
    return lines


def worst_class(report: Report) -> Metric | None:
    """The metric of the worst class, if it is known and not the deciding one."""
    every = (*report.rows, *report.whole)
    known = [metric for metric in report.metrics[1:] if metric.name == WORST]
    return known[0] if known and any(WORST in row.metrics for row in every) else None


def worst_of(row: Row, worst: Metric | None, effects: ByClass | None) -> list[str]:
    """A row's cell of the worst class: only the mean, with a mark if the row loses the class; empty if the table has no
    such column.
    """
    if worst is None:
        return []
    if WORST not in row.metrics:
        return [""]
    shown = number(row.metrics[WORST].mean, worst)
    return [f"{LOST} {shown}" if effects and loses_worst(row, effects) else shown]


def loses_worst(row: Row, effects: ByClass) -> bool:
    """Whether a row loses its worst class, by the mean over seeds."""
    own = row.name if row.name in effects.recalls else selection_key(row.name, OWN)
    key = own if row.keep is None else selection_key(row.name, row.keep)
    known = {name: x for name, x in zip(effects.names, effects.recalls.get(key, ()), strict=False) if x is not None}
    return any(known[one.name] == min(known.values()) for one in effects.lost.get(key, ()))


def total_of(report: Report) -> int | None:
    """Total number of units, common to all rows; None if it differs."""
    totals = {row.of for row in report.rows if row.of is not None}
    return totals.pop() if len(totals) == 1 else None


def size_of(report: Report, row: Row) -> str:
    """The readable size of a row's subset."""
    if not report.study.by_share:
        return "" if row.kept is None else f"{row.kept:,}" + (" per epoch" if row.in_training else "")
    if row.keep is None:
        return "all"
    if row.kept is None or row.of is None:
        return f"{row.keep:g}"
    return f"{row.keep:g} ({row.kept:,})" if total_of(report) else f"{row.keep:g} ({row.kept:,} of {row.of:,})"


def paired_table(report: Report) -> Table:
    """Paired differences with their intervals, corrected p-values and effect sizes."""
    metric = report.metric
    unit = "points" if metric.percent else metric.unit
    difference = f"difference{f', {unit}' if unit else ''}"
    lines = [[report.study.arm, report.kept_word, "against", difference, "corrected p", "Cohen's d", "verdict"]]
    for row in (*report.rows, *report.whole):
        for other, compared in row.against.items():
            p_value = "none" if compared.p_value is None else f"{compared.p_value:.2g}"
            effect = "none" if compared.effect_size is None else with_sign(f"{compared.effect_size:.1f}")
            numbers = [difference_of(compared, metric), p_value, effect, sentence(compared, metric, other)]
            lines.append([row.marked, size_of(report, row), other, *numbers])
    return lines


def measures_table(report: Report) -> Table:
    """Every metric of every row; for classes, followed by the result of a model without inputs."""
    every = (*report.rows, *report.whole)
    metrics = [metric for metric in report.metrics if any(metric.name in row.metrics for row in every)]
    lines = [[report.study.arm, report.kept_word, *(metric.title for metric in metrics)]]
    for row in every:
        shown = (mean_of(row.metrics[m.name], m) if m.name in row.metrics else "" for m in metrics)
        lines.append([row.marked, size_of(report, row), *shown])
    if report.by_class and any(metric.floor is not None for metric in metrics):
        floors = ["" if metric.floor is None else number(metric.floor, metric) for metric in metrics]
        lines.append(["always the commonest class", "", *floors])
    return lines


def compute_table(report: Report) -> Table:
    """The cost of each row, by part."""
    every = (*report.rows, *report.whole)
    parts = list(dict.fromkeys(part for row in every for part in row.compute if part != "all"))
    stepped = any(row.steps for row in every)
    counted = any(row.tokens is not None for row in every)
    head = [
        report.study.arm,
        report.kept_word,
        *(["steps"] if stepped else []),
        *([TRAINED] if counted else []),
        *parts,
    ]
    lines = [[*head, "all, samples or tokens", "all, seconds"]]
    for row in every:
        spent = [row.compute.get(part) for part in parts]
        cells = [f"{each['samples']:,.0f} / {each['seconds']:.1f} s" if each else "" for each in spent]
        steps = f"{row.steps:,}" + ("" if row.steps_ratio is None else f" ({row.steps_ratio:.2g} x) †")
        whole, tokens = row.compute["all"], [tokens_of(row)] if counted else []
        totals = [f"{whole['samples']:,.0f}", f"{whole['seconds']:.1f}"]
        lines.append([row.marked, size_of(report, row), *([steps] if stepped else []), *tokens, *cells, *totals])
    return lines


def tokens_of(row: Row) -> str:
    """Number of completion tokens in a row's training, with its ratio to random's."""
    if row.tokens is None:
        return ""
    return f"{row.tokens:,.0f}" + (f" ({row.tokens_ratio:.2f} x)" if uneven(row) else "")


def uneven(row: Row) -> bool:
    """Whether a row's completion tokens differ from random's by at least half a percent."""
    return row.tokens_ratio is not None and abs(row.tokens_ratio - 1) >= 0.005


def saving_table(report: Report) -> Table:
    """Steps, compute and seconds of every row, and the saved share of the full set's compute; empty without a full
    set.
    """
    if report.full is None or not report.full.compute["all"]["samples"]:
        return []
    lines = [[report.study.arm, report.kept_word, "steps", "samples or tokens", "seconds", "compute saved %"]]
    for row in (*report.rows, *report.whole):
        spent, saved = row.compute["all"], compute_saved(report, row)
        numbers = [f"{row.steps:,}", f"{spent['samples']:,.0f}", f"{spent['seconds']:,.1f}"]
        lines.append([row.marked, size_of(report, row), *numbers, "" if saved is None else f"{100 * saved:.0f}"])
    return lines


def compute_saved(report: Report, row: Row) -> float | None:
    """Saved share of the full set's compute, in samples trained on; negative for a higher cost.

    None without a full set.
    """
    full = report.full.compute["all"]["samples"] if report.full else 0
    return 1 - row.compute["all"]["samples"] / full if full else None


def tuning_table(report: Report) -> Table:
    """Settings tuned on held-out training samples, with the deciding metric of every candidate."""
    lines = [
        [
            name,
            ", ".join(f"{setting} {value}" for setting, value in tuned["settings"].items()),
            ", ".join(f"{value}: {number(each, report.metric)}" for value, each in tuned["validation"].items()),
        ]
        for name, tuned in report.tuning.items()
    ]
    return [[report.study.arm, "chosen", f"validation {report.metric.title} by candidate"], *lines] if lines else []


def details(report: Report) -> list[tuple[str, Table]]:
    """The tables after the main one."""
    answer = report.recommendation
    tables = [(MARGINS, margin_table(answer, report.study, report.metric))] if answer and answer.claims else []
    saving = report.saving.table if report.saving else saving_table(report)
    tables += [(SAVING, saving)] if saving else []
    tables += [(TIME, report.time_to.table)] if report.time_to else []
    tables += class_tables(report)
    tables += [(PAIRED, paired_table(report)), ("Other measures", measures_table(report))]
    counted = any(row.compute["all"]["samples"] for row in (*report.rows, *report.whole))
    return [*tables, (COMPUTE, compute_table(report))] if counted else tables


def note(report: Report) -> str:
    """Explanation of the numbers."""
    study, every = report.study, (*report.rows, *report.whole)
    random, whole = title_of(study, study.baseline), [other_of(study, name) for name in study.references]
    seen = {other: None for row in every for other in row.against if other not in (random, *whole)}
    others = [*seen, *(other for other in whole if any(other in row.against for row in every))]
    twins, head = any(row.distilled for row in report.rows), report.metric.title
    said = [
        f"{head[0].upper()}{head[1:]} ({direction(report.metric)}): mean ± half-width of the "
        f"95% t-interval over {seeds_in_words(report)}. {report.note}".rstrip(),
        "Paired two-sided t-tests. p-values are corrected by Holm over one family per budget: all comparisons with "
        f"{random} in this table{', twins with a teacher included' if twins else ''}.",
    ]
    if others:
        said.append(f"Comparisons with {', with '.join(others)} are families of their own.")
    if report.compare_at:
        said.append(f"Compared at {report.compare_at}.")
    if any(len(row.compute) > 1 for row in every):
        said.append(
            f"Compute of a {study.arm} is its training and all that it depends on, as if it were alone; a sample that "
            "went only forward counts a third."
        )
    if any(row.steps_ratio is not None for row in every):
        said.append("†: not as many optimiser steps as its baseline, see Compute.")
    if any(map(uneven, report.rows)):
        said.append(
            f"Selections were not all trained on as many completion tokens as {random}, see Compute; budgets of tokens "
            "(keep: {tokens: …}) compare them at equal ones."
        )
    if any(row.name.endswith(KD) for row in every):
        said.append(f"+ KD: the same samples with a teacher; Paired comparisons set it beside {random} with it, too.")
    return " ".join(said)


def seeds_in_words(report: Report) -> str:
    """Number of seeds behind the tables, in words."""
    study = report.study
    if not study.looks:
        return f"{study.seeds} seeds"
    return f"the first {study.first_seeds} seeds, which all have (how many more it took stands under How much can go)"


def terminal_table(report: Mapping[str, Any], width: int = 80) -> Table:
    """The main table of a report.json for a terminal, within 80 columns if names are short.

    It includes the worst class if a line has room for it.
    """
    table: Table = [[cell for at, cell in enumerate(line) if at != RANDOM_COLUMN] for line in report["table"]]
    heads = [max(map(len, head.split())) for head in table[0]]
    widths = [max(head, *(len(line[at]) for line in table[1:])) for at, head in enumerate(heads)]
    if table[0][-1].startswith(WORST_HEAD) and sum(widths) + 2 * len(widths) - 2 > width:
        return [line[:-1] for line in table]
    return table
