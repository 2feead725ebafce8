"""The comparison at equal steps in a study of both lengths: its table, and the joint conclusion.

At equal epochs a smaller subset trains for fewer steps: either its samples or the shorter training may cause a loss. At
equal steps its training is as long as the full one, and only the samples can cause a loss.
"""

from collections.abc import Iterator, Sequence

from secateur.pipelines.pages.names import other_of, title_of
from secateur.pipelines.pages.report import SHORTER, Report
from secateur.pipelines.pages.rows import Row
from secateur.pipelines.pages.tables import size_of
from secateur.pipelines.pages.words import Table, brief, mean_of, signed
from secateur.trainers.judging.comparison import Comparison, Verdict

AT_EPOCHS = "At equal epochs: savings"
AT_STEPS = "At equal steps: value of the samples"
IN_TERMINAL = 5
"""Columns of the table that fit into a terminal."""


def steps_table(report: Report) -> Table:
    """Every selection at equal steps against random and the full data, with its result at equal epochs; empty for a
    study of one length."""
    steps = report.at_steps
    if steps is None:
        return []
    study, metric, whole = report.study, report.metric, whole_of(report)
    random = title_of(study, study.baseline)
    others = [f"against {title_of(study, name)}" for name in (study.baseline, study.references[0])]
    lines = [[study.arm, report.kept_word, metric.title, *others, "at equal epochs", "longer training"]]
    shorter = {(row.name, row.keep): row for row in (*report.rows, *report.whole)}
    for row in (*steps.rows, *steps.whole):
        beside, other, gain = (row.against.get(name) for name in (random, whole, SHORTER))
        baseline = "the baseline" if row.name == study.baseline else ""
        nothing = "nothing pruned" if row.name in study.references else ""
        lines.append(
            [
                row.marked,
                size_of(report, row),
                mean_of(row.metrics[metric.name], metric),
                brief(beside, metric) if beside else baseline,
                brief(other, metric, with_p=False) if other else nothing,
                mean_of(shorter[row.name, row.keep].metrics[metric.name], metric),
                brief(gain, metric) if gain else "",
            ]
        )
    return lines


def whole_of(report: Report) -> str:
    """Title of the full data in comparisons."""
    return other_of(report.study, report.study.references[0])


def sentences_of(report: Report) -> list[str]:
    """Meaning of the two comparisons, and their disagreements; empty for a study of one length."""
    steps = report.at_steps
    if steps is None:
        return []
    whole = whole_of(report)
    length = f" ({steps.full.steps:,})" if steps.full else ""
    said = [
        f"Here every {report.study.arm} is trained for as many optimiser steps as {whole}{length}, so that the samples "
        "alone differ. At equal epochs a smaller subset also trains for less: that saves time, and a loss there "
        "alone comes from the shorter training."
    ]
    if report.study.first_seeds < 2:
        return said
    told = [*beside_everything(report, whole), *beside_random(report)]
    return said + (
        told or ["Both comparisons agree on the selections that lose to everything and on those that beat random."]
    )


def pairs_of(report: Report, other: str) -> Iterator[tuple[Row, Comparison, Comparison, Comparison | None]]:
    """Rows at equal steps that both lengths compare with `other`: the comparison at equal epochs, the one at equal
    steps, and the gain of the longer training."""
    assert report.at_steps
    shorter = {(row.name, row.keep): row for row in (*report.rows, *report.whole)}
    for row in (*report.at_steps.rows, *report.at_steps.whole):
        before = shorter[row.name, row.keep].against.get(other)
        if before and other in row.against:
            yield row, before, row.against[other], row.against.get(SHORTER)


def beside_everything(report: Report, whole: str) -> Iterator[str]:
    """Sentences on selections that lose to the full data at one length alone, with the cause, and at both."""
    metric = report.metric
    found: dict[tuple[bool, bool, Verdict], list[str]] = {}
    lost: list[Row] = []
    for row, epochs, steps, gain in pairs_of(report, whole):
        worse = epochs.verdict is Verdict.WORSE, steps.verdict is Verdict.WORSE
        numbers = f"{signed(epochs.difference, metric)}, at equal steps {signed(steps.difference, metric)}"
        length = gain.verdict if gain else Verdict.NO_BETTER
        found.setdefault((*worse, length), []).append(f"{name_of(report, row)} ({numbers})")
        lost += [row] if all(worse) else []

    def named(at_epochs: bool, at_steps: bool, *lengths: Verdict) -> str:
        return "; ".join(text for length in lengths for text in found.get((at_epochs, at_steps, length), []))

    if rows := named(True, False, Verdict.BETTER):
        yield (
            f"Worse than {whole} at equal epochs and not shown to be at equal steps: {rows}. Trained as long, these "
            "samples show no loss: the shorter training is the cause."
        )
    if rows := named(True, False, Verdict.NO_BETTER, Verdict.WORSE):
        yield (
            f"Worse than {whole} at equal epochs alone, but not shown to gain by the longer training: {rows}. More "
            "seeds would tell whether the samples or the shorter training cost it."
        )
    if rows := named(False, True, Verdict.WORSE):
        yield f"Worse than {whole} at equal steps alone: {rows}. The longer training on so few samples does harm."
    if rows := named(False, True, Verdict.NO_BETTER, Verdict.BETTER):
        yield f"Worse than {whole} at equal steps, which is not shown at equal epochs: {rows}."
    if lost:
        yield (
            f"Worse than {whole} at both: {'; '.join(by_name(report, lost))}. Their samples are not as good, at "
            "either length."
        )


def by_name(report: Report, rows: Sequence[Row]) -> list[str]:
    """Rows in a sentence, grouped by selection."""
    every: dict[str, list[Row]] = {}
    for row in rows:
        every.setdefault(row.name, []).append(row)
    return [
        ", ".join([name_of(report, first), *(report.place(row) for row in others)]) for first, *others in every.values()
    ]


def beside_random(report: Report) -> Iterator[str]:
    """Sentences on selections that beat random at one length alone."""
    alone: dict[str, list[Row]] = {}
    for row, epochs, steps, _ in pairs_of(report, title_of(report.study, report.study.baseline)):
        better = epochs.verdict is Verdict.BETTER, steps.verdict is Verdict.BETTER
        if better[0] != better[1]:
            alone.setdefault("epochs" if better[0] else "steps", []).append(row)
    for length, rows in alone.items():
        yield f"Better than random at equal {length} alone: {'; '.join(by_name(report, rows))}."


def name_of(report: Report, row: Row) -> str:
    """A row in a sentence."""
    return row.title if row.keep is None else f"{row.title} at {report.place(row)}"


def in_terminal(table: Sequence[Sequence[str]]) -> Table:
    """The columns of `steps_table` that fit into a terminal."""
    return [list(line[:IN_TERMINAL]) for line in table]
