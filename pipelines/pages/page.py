"""The report as people read it: tables, pictures, Markdown and a page."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from secateur.pipelines.pages.plots import Curve, accuracy_curves, differences, inline
from secateur.pipelines.pages.report import TITLES, Report, Row
from secateur.pipelines.studies.samples import BASELINES
from secateur.trainers.judging.comparison import Comparison, number_text, signed_text

PAGE = Path(__file__).with_name("report.html.jinja")
Table = list[list[str]]
"""Lines of text, the header first."""


def main_table(report: Report) -> Table:
    """Accuracy of every selection beside random."""
    lines = [["selection", "kept", "accuracy %", "random %", "against random"]]
    for row in report.rows:
        verdict = row.against_random.brief if row.against_random else "the baseline"
        lines.append([row.title, row.size, str(row.accuracy), str(row.random), verdict])
    for row in report.whole:
        verdict = f"{row.against_full.brief}, full set" if row.against_full else "nothing pruned"
        lines.append([row.title, row.size, str(row.accuracy), "", verdict])
    return lines


def statistics_table(report: Report) -> Table:
    """Paired differences with their intervals, corrected p-values and effect sizes."""
    lines = [["selection", "kept", "against", "difference, points", "corrected p", "Cohen's d", "verdict"]]
    for row in (*report.rows, *report.whole):
        for against, found in (
            ("random", row.against_random),
            ("without a teacher", row.against_plain),
            ("random + KD", row.against_taught_random),
            ("full set", row.against_full),
        ):
            if found:
                lines.append([row.title, row.size, against, *statistics(found), found.verdict])
    return lines


def statistics(found: Comparison) -> list[str]:
    """Difference, corrected p-value and effect size as text; none where there is none."""
    spread = "" if found.half_width is None else f" ± {number_text(found.half_width, found.percent)}"
    p_value = "none" if found.p_value is None else f"{found.p_value:.2g}"
    effect = "none" if found.effect_size is None else f"{found.effect_size:+.1f}"
    return [f"{signed_text(found.difference, found.percent)}{spread}", p_value, effect]


def metrics_table(report: Report) -> Table:
    """What else a trained model is judged by."""
    lines = [["selection", "kept", "accuracy %", "worst class %", "calibration error %", "loss, nats"]]
    for row in (*report.rows, *report.whole):
        spread = "" if row.loss.half_width is None else f" ± {row.loss.half_width:.3f}"
        lines.append(
            [
                row.title,
                row.size,
                str(row.accuracy),
                str(row.worst_class),
                str(row.calibration_error),
                f"{row.loss.mean:.3f}{spread}",
            ]
        )
    return lines


def compute_table(report: Report) -> Table:
    """What each selection cost, by part."""
    every = (*report.rows, *report.whole)
    parts = list(dict.fromkeys(part for row in every for part in row.compute if part != "all"))
    lines = [["selection", "kept", "steps", *parts, "all, samples", "all, seconds", "compute saved %"]]
    for row in every:
        spent = [row.compute.get(part) for part in parts]
        told = [f"{each['samples']:,.0f} / {each['seconds']:.1f} s" if each else "" for each in spent]
        steps = f"{row.steps:,}" + ("" if row.steps_ratio is None else f" ({row.steps_ratio:.2g} x) †")
        whole = row.compute["all"]
        saved = compute_saved(report, row)
        totals = [f"{whole['samples']:,.0f}", f"{whole['seconds']:.1f}", "" if saved is None else f"{100 * saved:.0f}"]
        lines.append([row.title, row.size, steps, *told, *totals])
    return lines


def compute_saved(report: Report, row: Row) -> float | None:
    """Share of the full set's compute, in samples trained on, that a row does without; negative where it costs more.

    None without a full set to compare with.
    """
    full = report.full.compute["all"]["samples"] if report.full else 0
    return 1 - row.compute["all"]["samples"] / full if full else None


def curves_of(report: Report, place: Callable[[Row], float], *, chosen: bool = False) -> list[Curve]:
    """One curve per selection and twin, by the place of each of its rows.

    With `chosen`, where nothing was chosen because all samples stay is left to the baselines: it costs what they do.
    """
    found = []
    every = [*report.rows, *(row for row in report.whole if row.plain_name != "full")]
    if chosen:
        every = [r for r in every if r.in_training or r.plain_name in BASELINES or r.kept < report.samples]
    for name in dict.fromkeys(row.name for row in every):
        rows = sorted((row for row in every if row.name == name), key=lambda row: row.kept)
        found.append(
            Curve(
                TITLES.get(rows[0].plain_name, rows[0].plain_name),
                [place(row) for row in rows],
                [row.accuracy for row in rows],
                distilled=rows[0].distilled,
                baseline=rows[0].plain_name in BASELINES,
                marked=[row.steps_ratio is not None for row in rows],
            )
        )
    return found


def plots_of(report: Report) -> dict[str, bytes]:
    """SVG pictures by name."""
    full = report.full
    across = {"full set": full.accuracy} if full else {}
    every = (*report.rows, *report.whole)
    mark = "hollow: unequal optimiser steps" if any(row.steps_ratio is not None for row in every) else ""
    judged = [row for row in report.rows if row.against_random and row.name != BASELINES[0]]
    found = {
        "accuracy": accuracy_curves(
            curves_of(report, lambda row: row.kept),
            across,
            xlabel=f"samples kept (compared at {report.compare_at})",
            ticks=[row.kept for row in report.rows],
            mark=mark,
        )
    }
    for unit, label in (
        ("samples", "compute: samples trained on, or as much work in scoring, proxy and teacher"),
        ("seconds", "compute: seconds, with scoring, proxy and teacher"),
    ):
        found[f"accuracy_by_{unit}"] = accuracy_curves(
            curves_of(report, lambda row, unit=unit: row.compute["all"][unit], chosen=True),  # type: ignore[misc]
            across,
            xlabel=label,
            full_at=full.compute["all"][unit] if full else None,
            mark=mark,
        )
    found["difference"] = differences(
        [(f"{row.title}, {row.size}", row.against_random) for row in judged if row.against_random]
    )
    return found


@dataclass(frozen=True)
class Page:
    """A report of anything, ready to be written: its words, tables and SVG pictures by name."""

    title: str
    description: str
    verdict: str
    table: Table
    note: str
    details: Sequence[tuple[str, Table]]
    plots: Mapping[str, bytes]
    content: Mapping[str, Any]
    """JSON-able numbers behind all of it."""
    tuning: Mapping[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """Verdict, tables and pictures, whole in one text."""
        pictures = [inline(svg, name) for name, svg in self.plots.items()]
        parts = [f"**{self.verdict}**", text_table(self.table), self.note, *pictures]
        for title, table in self.details:
            parts += [f"### {title}", text_table(table)]
        return "\n\n".join(parts)

    def write(self, folder: Path) -> None:
        """Fill a folder with report.html, its pictures, report.md and report.json."""
        for name, svg in self.plots.items():
            (folder / f"{name}.svg").write_bytes(svg)
        page = jinja2.Environment(autoescape=True).from_string(PAGE.read_text(encoding="utf-8"))
        (folder / "report.html").write_text(page.render(page=self), encoding="utf-8")
        (folder / "report.md").write_text(self.markdown() + "\n", encoding="utf-8")
        content = {
            **self.content,
            "verdict": self.verdict,
            "table": self.table,
            **{title.lower(): table for title, table in self.details},
        }
        (folder / "report.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def page_of(report: Report) -> Page:
    """The report of a study of samples."""
    return Page(
        title=report.study,
        description=report.description,
        verdict=report.verdict,
        table=main_table(report),
        note=note(report),
        details=details(report),
        plots=plots_of(report),
        content=dataclasses.asdict(report),
        tuning=report.tuning,
    )


def text_table(table: Table) -> str:
    """A table in Markdown."""
    header, *lines = ([trial.replace("|", "\\|") for trial in line] for line in table)
    listed = [" | ".join(line) for line in (header, ["---"] * len(header), *lines)]
    return "\n".join(f"| {line} |" for line in listed)


def details(report: Report) -> list[tuple[str, Table]]:
    """The tables behind the main one."""
    return [
        ("Paired comparisons", statistics_table(report)),
        ("Other measures on the test split", metrics_table(report)),
        ("Compute", compute_table(report)),
    ]


def note(report: Report) -> str:
    """How to read the numbers."""
    text = (
        f"Accuracy on {report.test_samples:,} test samples after the last epoch: mean ± half-width of the 95% "
        f"t-interval over {report.seeds} seeds. Paired two-sided t-tests; p-values are Holm-corrected within a budget. "
        f"Compared at {report.compare_at}. Compute of a selection is its training and all that it depends on, as if it "
        "were alone; a sample that went only forward counts a third."
    )
    if any(row.steps_ratio is not None for row in (*report.rows, *report.whole)):
        text += " †: not as many optimiser steps as its baseline, see Compute."
    if any(row.distilled for row in report.rows):
        text += " + KD: the same samples with a teacher; the second verdict sets it beside random with that teacher."
    return text
