"""The report as people read it: pictures, Markdown and a page."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from secateur.pipelines.pages.plots import Curve, curves, differences, inline
from secateur.pipelines.pages.report import Report, Row, title_of
from secateur.pipelines.pages.tables import details, main_table, note, size_of
from secateur.pipelines.pages.words import Table, direction, number, text_table
from secateur.pipelines.studies.grid import KD

PAGE = Path(__file__).with_name("report.html.jinja")


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
    tuning: Table = field(default_factory=list)
    """Settings that held-out training samples chose; empty where nothing was tuned."""

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
        (folder / "report.json").write_text(json.dumps(self.content, indent=2) + "\n", encoding="utf-8")


def page_of(report: Report, pictures: Mapping[str, bytes] | None = None) -> Page:
    """The report of a study, pictures of its own behind the common ones."""
    study, table, tables = report.study, main_table(report), details(report)
    return Page(
        title=study.name,
        description=study.description,
        verdict=report.verdict,
        table=table,
        note=note(report),
        details=tables,
        plots={**plots_of(report), **(pictures or {})},
        content=content_of(report) | {"table": table} | {title.lower(): each for title, each in tables},
        tuning=tuning_table(report),
    )


def tuning_table(report: Report) -> Table:
    """Which settings held-out training samples chose, and the deciding metric of every candidate on them."""
    lines = [
        [
            name,
            ", ".join(f"{setting} {value}" for setting, value in tuned["settings"].items()),
            ", ".join(f"{value}: {number(each, report.metric)}" for value, each in tuned["validation"].items()),
        ]
        for name, tuned in report.tuning.items()
    ]
    return [[report.study.arm, "chosen", f"validation {report.metric.title} by candidate"], *lines] if lines else []


def content_of(report: Report) -> dict[str, Any]:
    """The report's numbers as JSON-able data: what was compared, every row, and a comparison's verdict by its name."""
    study = report.study
    return {
        "study": study.name,
        "description": study.description,
        "unit": study.unit,
        "arm": study.arm,
        "metrics": [dataclasses.asdict(metric) for metric in report.metrics],
        "baseline": study.baseline,
        "seeds": study.seeds,
        "compare_at": report.compare_at,
        "rows": [dataclasses.asdict(row) for row in report.rows],
        "whole": [dataclasses.asdict(row) for row in report.whole],
        "tuning": report.tuning,
        "verdict": report.verdict,
        "note": note(report),
    }


def plots_of(report: Report) -> dict[str, bytes]:
    """SVG pictures by name."""
    study, metric, full = report.study, report.metric, report.full
    across = {row.title: row.metrics[metric.name] for row in report.whole if row.name in study.references}
    every = (*report.rows, *report.whole)
    marks = any(row.steps_ratio is not None for row in every)
    common: dict[str, Any] = {
        "across": across,
        "metric": metric,
        "ylabel": f"{metric.title}, {direction(metric)}",
        "mark": "hollow: unequal optimiser steps" if marks else "",
    }
    kept = f"share of {study.unit}s kept" if study.by_share else f"{study.unit}s{'' if report.is_search else ' kept'}"
    drawn = {
        metric.name: curves(
            curves_of(report, lambda row: place_of(report, row)),
            xlabel=kept + (f" (compared at {report.compare_at})" if report.compare_at else ""),
            ticks=[place_of(report, row) for row in report.rows],
            **common,
        )
    }
    if any(len(row.compute) > 1 for row in every):
        for unit, label in (
            ("samples", "compute: samples trained on, or as much work in scoring, proxy and teacher"),
            ("seconds", "compute: seconds, with scoring, proxy and teacher"),
        ):
            drawn[f"{metric.name}_by_{unit}"] = curves(
                curves_of(report, lambda row, unit=unit: row.compute["all"][unit], chosen=True),  # type: ignore[misc]
                xlabel=label,
                full_at=full.compute["all"][unit] if full else None,
                **common,
            )
    random = title_of(study, study.baseline)
    judged = [(f"{row.marked}, {size_of(report, row)}", compared) for row, compared in report.against(study.baseline)]
    if judged:
        drawn["difference"] = differences(judged, metric, xlabel=f"{metric.title} minus that of {random}")
    return drawn


def place_of(report: Report, row: Row) -> float:
    """A row's place on the axis of budgets."""
    return (row.keep or 1.0) if report.study.by_share or row.kept is None else row.kept


def curves_of(report: Report, place: Callable[[Row], float], *, chosen: bool = False) -> list[Curve]:
    """One curve per arm and twin, by the place of each of its rows.

    With `chosen`, where nothing was chosen because all samples stay is left to the baselines: it costs what they do.
    """
    study, drawn = report.study, []
    baselines = (study.baseline, study.second_baseline)
    every = [*report.rows, *(row for row in report.whole if row.name.removesuffix(KD) not in study.references)]
    if chosen:
        every = [r for r in every if r.in_training or r.name.removesuffix(KD) in baselines or r.kept != r.of]
    for name in dict.fromkeys(row.name for row in every):
        rows = sorted((row for row in every if row.name == name), key=place)
        drawn.append(
            Curve(
                title_of(study, name.removesuffix(KD)),
                [place(row) for row in rows],
                [row.metrics[report.metric.name] for row in rows],
                distilled=name.endswith(KD),
                baseline=name.removesuffix(KD) in baselines,
                marked=[row.steps_ratio is not None for row in rows],
            )
        )
    return drawn
