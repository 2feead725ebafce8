"""The report: every selection beside random at the same budget, with a plain verdict."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from secateur.pipelines.cells import Cell, selection_key
from secateur.pipelines.plots import Curve, budget_curve, differences, inline
from secateur.pipelines.study import BASELINES, Study
from secateur.trainers.comparison import Comparison, Summary, compare, summarise

TITLES = {"uniform_random": "random", "stratified_random": "stratified random"}


@dataclass(frozen=True)
class Row:
    """One selection at one budget."""

    name: str
    keep: float
    kept: int
    steps: int
    accuracy: Summary
    random: Summary
    stratified: Summary
    against_random: Comparison | None
    against_stratified: Comparison | None

    @property
    def title(self) -> str:
        return TITLES.get(self.name, self.name)


@dataclass(frozen=True)
class Report:
    """What a study found."""

    study: str
    description: str
    samples: int
    test_samples: int
    seeds: int
    rows: tuple[Row, ...]
    full: Summary | None
    full_steps: int | None
    tuning: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """One sentence over all selections."""
        judged = [row for row in self.rows if row.against_random and row.name not in BASELINES]
        better = [
            f"{row.title} at {row.kept:,} kept"
            for row in judged
            if row.against_random and row.against_random.verdict.startswith("better")
        ]
        if not judged:
            return "Only baselines were run."
        if self.seeds < 2:
            return "One seed says nothing about any selection; ask for more seeds."
        if not better:
            return f"No selection did better than random at the same budget, over {self.seeds} seeds."
        return (
            f"Better than random at the same budget, over {self.seeds} seeds: {', '.join(better)}; the others were not."
        )

    def cells(self) -> list[list[str]]:
        """The table as text: header first."""
        lines = [["selection", "kept", "accuracy %", "random %", "against random"]]
        for row in self.rows:
            verdict = row.against_random.brief if row.against_random else "the baseline"
            lines.append([row.title, f"{row.kept:,}", str(row.accuracy), str(row.random), verdict])
        if self.full:
            lines.append(["full set", f"{self.samples:,}", str(self.full), "", "nothing pruned"])
        return lines

    def plots(self) -> dict[str, bytes]:
        """SVG pictures by name."""
        names = dict.fromkeys(row.name for row in self.rows)
        curves = []
        for name in names:
            rows = sorted((row for row in self.rows if row.name == name), key=lambda row: row.kept)
            curves.append(Curve(TITLES.get(name, name), [r.kept for r in rows], [r.accuracy for r in rows]))
        judged = [row for row in self.rows if row.against_random and row.name != "uniform_random"]
        return {
            "accuracy": budget_curve(curves, self.full),
            "difference": differences(
                [
                    (f"{row.title}, {row.kept:,}", c.difference, c.half_width, c.verdict)
                    for row in judged
                    if (c := row.against_random)
                ]
            ),
        }

    def markdown(self) -> str:
        """Verdict, table and pictures, whole in one text."""
        header, *lines = ([cell.replace("|", "\\|") for cell in line] for line in self.cells())
        table = [" | ".join(line) for line in (header, ["---"] * len(header), *lines)]
        pictures = [inline(svg, name) for name, svg in self.plots().items()]
        return "\n\n".join([f"**{self.verdict}**", "\n".join(f"| {line} |" for line in table), *pictures])


def build_report(
    study: Study, source: Mapping[str, Any], evaluations: Mapping[Cell, Mapping[str, Any]], tuning: Mapping[str, Any]
) -> Report:
    """Gather the cells that were evaluated.

    Comparisons are paired by seed, so they use the seeds that both sides have; raises ValueError where cells of one
    budget were trained for unequal numbers of steps, because they would not be comparable.
    """
    results: dict[str, dict[int, Mapping[str, Any]]] = {}
    for cell, metrics in evaluations.items():
        results.setdefault(cell.selection, {})[cell.seed] = metrics
    rows: list[Row] = []
    for keep in study.keep:
        family = {name: results.get(selection_key(name, keep), {}) for name in study.selections}
        rows += rows_at(keep, {name: cells for name, cells in family.items() if cells})
    full = results.get("full", {})
    return Report(
        study=study.name,
        description=study.description,
        samples=source["samples"],
        test_samples=source["test_samples"],
        seeds=study.seeds,
        rows=tuple(rows),
        full=summarise([metrics["accuracy"] for _, metrics in sorted(full.items())]) if full else None,
        full_steps=next((metrics["steps"] for metrics in full.values()), None),
        tuning=tuning,
    )


def rows_at(keep: float, family: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> list[Row]:
    """The rows of one budget, baselines first."""
    missing = [name for name in BASELINES if name not in family]
    if missing:
        raise ValueError(f"keep {keep}: {' and '.join(missing)} not evaluated; every report needs its baselines")
    steps = {metrics["steps"] for cells in family.values() for metrics in cells.values()}
    if len(steps) > 1:
        raise ValueError(f"keep {keep}: cells were trained for {sorted(steps)} steps; train them again alike")
    seeds = sorted(set.intersection(*(set(cells) for cells in family.values())))
    if not seeds:
        raise ValueError(f"keep {keep}: no seed was evaluated for every selection")
    accuracy = {name: [cells[seed]["accuracy"] for seed in seeds] for name, cells in family.items()}
    others = {name: values for name, values in accuracy.items() if name != "uniform_random"}
    strata = {name: values for name, values in accuracy.items() if name not in BASELINES}
    random = compare(others, accuracy["uniform_random"])
    stratified = compare(strata, accuracy["stratified_random"], against="stratified random")
    ordered = [*BASELINES, *(name for name in family if name not in BASELINES)]
    return [
        Row(
            name=name,
            keep=keep,
            kept=next(iter(family[name].values()))["kept"],
            steps=steps.copy().pop(),
            accuracy=summarise(accuracy[name]),
            random=summarise(accuracy["uniform_random"]),
            stratified=summarise(accuracy["stratified_random"]),
            against_random=random.get(name),
            against_stratified=stratified.get(name),
        )
        for name in ordered
    ]


PAGE = Path(__file__).with_name("report.html.jinja")


def write_report(report: Report, folder: Path) -> None:
    """Fill a folder with report.html, its pictures, report.md and report.json."""
    plots = report.plots()
    for name, svg in plots.items():
        (folder / f"{name}.svg").write_bytes(svg)
    budgets = sorted({(row.kept, row.steps) for row in report.rows})
    page = jinja2.Environment(autoescape=True).from_string(PAGE.read_text(encoding="utf-8"))
    html = page.render(report=report, table=report.cells(), plots=plots, budgets=budgets)
    (folder / "report.html").write_text(html, encoding="utf-8")
    (folder / "report.md").write_text(report.markdown() + "\n", encoding="utf-8")
    content = {**dataclasses.asdict(report), "verdict": report.verdict, "table": report.cells()}
    (folder / "report.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
