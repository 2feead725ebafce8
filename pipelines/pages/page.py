"""The readable report: pictures, Markdown and a page."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel

from secateur.pipelines.files.shown_text import in_markdown
from secateur.pipelines.pages.alerts import Alert, alerts_of
from secateur.pipelines.pages.content import ReportContent
from secateur.pipelines.pages.equal_steps import AT_EPOCHS, AT_STEPS, sentences_of, steps_table
from secateur.pipelines.pages.groups import HEAD, Grouped
from secateur.pipelines.pages.inlined import POLICY, inlined, library
from secateur.pipelines.pages.names import title_of
from secateur.pipelines.pages.of_target import of_target
from secateur.pipelines.pages.parts import Part, predicted_text
from secateur.pipelines.pages.plots import Curve, curves, differences
from secateur.pipelines.pages.report import Report
from secateur.pipelines.pages.rows import Row
from secateur.pipelines.pages.suspects import Suspects
from secateur.pipelines.pages.tables import (
    BY_CLASS,
    COMPUTE,
    MARGINS,
    PAIRED,
    SAVING,
    TIME,
    details,
    main_table,
    note,
    paired_table,
    size_of,
    tuning_table,
)
from secateur.pipelines.pages.templates import templates
from secateur.pipelines.pages.words import as_text, direction
from secateur.pipelines.runs.audit_told import LINK
from secateur.pipelines.studies.grid import KD, selection_key
from secateur.pipelines.studies.samples import Study

TUNED = "Settings that held-out training samples chose"
CURVE = "curve"
COSTS = "Cost of each row, by part"
AUDIT_PAGE = (LINK, "Pairs side by side, labels to look at, and questions to mark: the page of the audit")
LISTED = ("The gravest first. findings.csv, beside this report, has their rows with targets and scores.",)


@dataclass(frozen=True)
class Page:
    """A report of any kind, ready for writing."""

    title: str
    description: str
    verdict: str
    parts: Sequence[Part]
    content: BaseModel
    """The numbers of the report."""
    recommendation: str = ""
    """The recommended budget, in a sentence or two; empty without an answer."""
    alerts: Sequence[Alert] = ()
    """Warnings about the answer, followed by those about other selections."""
    texts: int = 0
    """Number of samples with texts in its tables."""
    lines: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=HEAD))
    """Rows of the findings, in the format of `table_of_findings`."""

    @property
    def plots(self) -> dict[str, bytes]:
        """Every picture by its name."""
        return {name: svg for part in self.parts for name, svg in part.pictures.items()}

    @property
    def samples(self) -> int:
        """Number of samples embedded in the page."""
        shown = sum((part.suspects.embedded if part.suspects else 0) + part.groups.embedded for part in self.parts)
        return self.texts + shown

    def markdown(self, *, inside: bool = True) -> str:
        """The whole report as Markdown without HTML and without samples; pictures are inline, or files."""
        parts = [] if inside else [f"# {in_markdown(self.title)}", in_markdown(self.description)]
        parts += [f"**{as_text(text)}**" for text in (self.recommendation, self.verdict) if text]
        parts += [f"{lead} {in_markdown(text)}." for lead, text in self.alerts]
        return "\n\n".join([*filter(None, parts), *(part.markdown(inside=inside) for part in self.parts)])

    def html(self) -> str:
        """The page, which needs no other file and sends no request."""
        environment = templates(inlined=inlined, predicted=predicted_text)
        return environment.get_template("report.html.jinja").render(page=self, policy=POLICY, library=library())

    def write(self, folder: Path) -> None:
        """Fill a folder with report.html, pictures as files, report.md, report.json and findings.csv."""
        for name, svg in self.plots.items():
            (folder / f"{name}.svg").write_bytes(svg)
        (folder / "report.html").write_text(self.html(), encoding="utf-8")
        (folder / "report.md").write_text(self.markdown(inside=False) + "\n", encoding="utf-8")
        (folder / "report.json").write_text(self.content.model_dump_json(indent=2) + "\n", encoding="utf-8")
        self.lines.write_csv(folder / "findings.csv", include_bom=True)  # Excel guesses the charset without the mark


def page_of(
    report: Report,
    pictures: Mapping[str, bytes] | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
    suspects: Suspects | None = None,
    groups: Grouped | None = None,
    lines: pl.DataFrame | None = None,
    audited: Sequence[str] = (),
) -> Page:
    """The report of a study, with its `pictures` after the common ones; `findings` come from `runs/findings.py`,
    `groups` are those of their equal rows, `lines` all their rows as a table, `audited` sentences of the audit.
    """
    groups = groups or Grouped()
    return Page(
        title=report.study.name,
        description=report.study.description,
        verdict=verdict_of(report),
        parts=[part for part in parts_of(report, pictures or {}, findings, suspects, groups, audited) if part],
        content=content_of(report, findings, suspects, groups),
        recommendation=report.recommendation.sentence if report.recommendation else "",
        alerts=alerts_of(report, findings),
        lines=pl.DataFrame(schema=HEAD) if lines is None else lines,
    )


def verdict_of(report: Report) -> str:
    """The selections that beat random, at each length of the study."""
    if report.at_steps is None:
        return report.verdict
    longer = report.at_steps.verdict
    return f"{report.verdict} At equal steps: {longer[0].lower()}{longer[1:]}"


def parts_of(
    report: Report,
    own: Mapping[str, bytes],
    findings: Sequence[Mapping[str, Any]],
    suspects: Suspects | None,
    groups: Grouped,
    audited: Sequence[str],
) -> Iterator[Part]:
    """All parts, including empty ones."""
    study, metric, tables = report.study, report.metric.name, dict(details(report))
    pictures = plots_of(report)
    curve = {metric: pictures.pop(metric)}
    difference = {name: pictures.pop(name) for name in ("difference",) if name in pictures}
    other = {name: tables.pop(name, []) for name in (MARGINS, SAVING, TIME, PAIRED, COMPUTE)}
    classes = {name: tables.pop(name) for name in [*tables] if name.startswith(BY_CLASS)}
    random, steps = title_of(study, study.baseline), report.at_steps
    beside = f"every {study.arm} beside {random}"
    yield Part(
        CURVE,
        "How much can go" if report.recommendation else f"{report.metric.title} by budget",
        pictures=curve,
        narrow={metric: plots_of(report, narrow=True)[metric]},
        tables=[("Every budget that was tested, from the largest down", other[MARGINS])],
    )
    saved = [("Cost of each training beside one on everything", other[SAVING]), (TIME, other[TIME])]
    sentences = [" ".join(part.sentences) for part in (report.saving, report.time_to) if part]
    yield Part("saving", SAVING, sentences, tables=saved)
    if told := of_target(report):
        tables_of = [("Selections for the target beside random ones", told.table)]
        yield Part("target", "Value of the target", told.sentences, tables=tables_of)
    yield from budgets_part(report)
    yield from data_parts(findings, groups, audited)
    yield Part("yardstick", "How good the models are", report.beside.sentences if report.beside else ())
    yield Part("suspects", "Samples to look at", suspects=suspects)
    yield Part("classes", "Effect by class", tables=list(classes.items()))
    yield Part(
        "table",
        f"{AT_EPOCHS}, {beside}" if steps else f"E{beside[1:]}",
        [note(report).partition(". ")[0] + "."],
        pictures=difference,
        tables=[(f"{report.metric.title} of every {study.arm} at every budget", main_table(report))],
    )
    differing = [("Differences by seed, with intervals", other[PAIRED])]
    if steps:
        yield Part(
            "equal-steps",
            AT_STEPS,
            [*sentences_of(report), steps.verdict],
            pictures={f"{metric}_at_equal_steps": plots_of(steps, first=True)[metric]},
            narrow={f"{metric}_at_equal_steps": plots_of(steps, narrow=True)[metric]},
            tables=[(f"{report.metric.title} at equal steps, and at equal epochs", steps_table(report))],
        )
        differing.append(("Differences by seed at equal steps, with intervals", paired_table(steps)))
    yield Part("paired", "Paired comparisons", tables=differing, folded=True)
    for name, table in tables.items():
        yield Part(name.lower().replace(" ", "-"), name, tables=[(f"{name} of every row", table)], folded=True)
    yield Part("tuning", "Chosen settings", tables=[(TUNED, tuning_table(report))], folded=True)
    yield Part("compute", COMPUTE, pictures=pictures, tables=[(COSTS, other[COMPUTE])], folded=True)
    yield Part("pictures", "More pictures", pictures=own, folded=not report.is_search)
    yield Part("methods", "Methods", [note(report), *([note(steps)] if steps else [])], folded=True)


def data_parts(findings: Sequence[Mapping[str, Any]], groups: Grouped, audited: Sequence[str]) -> Iterator[Part]:
    """The parts of data findings and of the audit."""
    yield Part("findings", "Problems in the data", LISTED if findings else (), findings=findings, groups=groups)
    yield audit_part(audited)


def audit_part(sentences: Sequence[str]) -> Part:
    """The part of the study's audit, with a link to its page; empty without an audit."""
    return Part("audit", "Audit", sentences, link=AUDIT_PAGE if sentences else ("", ""))


def budgets_part(report: Report) -> Iterator[Part]:
    """The part of totals, for studies with budgets of a column, groups or quotas; none for others."""
    if report.budgets and isinstance(report.study, Study):
        come = [("Size of each selection", report.budgets.table(report.study))]
        yield Part("budgets", "Budgets in rows", list(report.budgets.sentences), tables=come)


def content_of(
    report: Report,
    findings: Sequence[Mapping[str, Any]] = (),
    suspects: Suspects | None = None,
    groups: Grouped | None = None,
) -> ReportContent:
    """The report's numbers: the comparison, every row, and verdicts by name."""
    study = report.study
    listed = suspects and {
        "ordered_by": suspects.ordered_by, "of": suspects.of, "listed": [one.content() for one in suspects.listed]
    }  # fmt: skip
    known, of_the_target = groups or Grouped(), of_target(report)
    told = [*(dict(finding) | {"groups": [each.content() for each in known.of(finding)]} for finding in findings)]
    told += [suspects.finding()] if suspects else []
    return ReportContent.model_validate(
        {
            "study": study.name,
            "description": study.description,
            "unit": study.unit,
            "arm": study.arm,
            "metrics": report.metrics,
            "baseline": study.baseline,
            "seeds": study.seeds,
            "looks": list(study.looks),
            "compare_at": report.compare_at,
            "verdict": report.verdict,
            "recommendation": report.recommendation.content() if report.recommendation else None,
            "saving": report.saving.content() if report.saving else None,
            "at_equal_steps": steps_content(report),
            "time_to_accuracy": report.time_to.content() if report.time_to else None,
            "yardstick": report.beside,
            "budgets": report.budgets,
            "target": of_the_target.content() if of_the_target else None,
            "by_class": report.by_class,
            "findings": [{"importance": place} | finding for place, finding in enumerate(told)],
            "suspects": listed,
            "rows": report.rows,
            "whole": report.whole,
            "tuning": report.tuning,
            "note": note(report),
            "table": main_table(report),
            "tables": {title.lower(): table for title, table in details(report)},
        }
    )


def steps_content(report: Report) -> dict[str, Any] | None:
    """The comparison at equal steps; None for a study without one."""
    steps = report.at_steps
    if steps is None:
        return None
    return {
        "verdict": steps.verdict,
        "sentences": sentences_of(report),
        "rows": steps.rows,
        "whole": steps.whole,
        "note": note(steps),
        "table": steps_table(report),
        "paired": paired_table(steps),
    }


def plots_of(report: Report, *, first: bool = False, narrow: bool = False) -> dict[str, bytes]:
    """SVG pictures by name; `first` draws only that of budgets, and `narrow` draws it for a narrow screen."""
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
            **advice_of(report),
            **common,
            narrow=narrow,
        )
    }
    if first or narrow:
        return drawn
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


def advice_of(report: Report) -> dict[str, Any]:
    """The end of the accepted loss, and curve and place of the recommendation, for the picture of budgets."""
    answer, full, name = report.recommendation, report.full, report.metric.name
    if answer is None or full is None:
        return {}
    sign = -1 if report.metric.higher_is_better else 1
    chosen = [row for row in report.rows if row.keep and selection_key(row.name, row.keep) == answer.selection]
    point = (chosen[0].title, place_of(report, chosen[0])) if chosen else None
    return {"limit": full.metrics[name].mean + sign * answer.margin, "advised": point}


def place_of(report: Report, row: Row) -> float:
    """A row's place on the axis of budgets."""
    return (row.keep or 1.0) if report.study.by_share or row.kept is None else row.kept


def curves_of(report: Report, place: Callable[[Row], float], *, chosen: bool = False) -> list[Curve]:
    """One curve per arm and twin, by the place of each of its rows.

    With `chosen`, only baselines keep rows with all samples: other arms select nothing there and cost the same.
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
