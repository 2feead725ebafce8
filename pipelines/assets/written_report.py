"""Writing of reports, for the report assets of every kind of study."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from secateur.pipelines.assets.facts import rounded, told_of
from secateur.pipelines.pages.groups import Grouped, Samples, grouped, table_of_findings
from secateur.pipelines.pages.of_target import of_target
from secateur.pipelines.pages.page import page_of
from secateur.pipelines.pages.report import Report
from secateur.pipelines.pages.served import FINDINGS, REPORT, link_to
from secateur.pipelines.pages.suspects import Suspects
from secateur.pipelines.runs.audit_told import audit_lines, audit_sentences, audit_told
from secateur.pipelines.runs.findings import findings_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.judging.comparison import Verdict

UNKNOWN = "no answer: it takes a full set to compare with, and several seeds"


def page_link(study: AnyStudy) -> dict[str, dg.MetadataValue]:
    """Links to a report's files for its definition; empty outside of our UI."""
    links = {"page": link_to(study.name), FINDINGS: link_to(study.name, FINDINGS)}
    return {name: dg.MetadataValue.url(link) for name, link in links.items() if link}


def with_link(study: AnyStudy, text: str) -> str:
    """The description of a report at the top of its page in the UI, with links to its files if our UI runs."""
    links = f"[Open the page]({link_to(study.name)}), or [the rows of its findings]({link_to(study.name, FINDINGS)})."
    return f"{links}\n\n{text}" if link_to(study.name) else text


def written_report(
    store: Store,
    key: dg.AssetKey,
    report: Report,
    pictures: Mapping[str, bytes] | None = None,
    suspects: Suspects | None = None,
    splits: Mapping[str, Samples] | None = None,
    *,
    embedded: bool = True,
) -> dg.MaterializeResult:
    """Write the page, the text, the JSON and the rows of findings of a report; returns its metadata for the UI.

    `splits` are the samples of the findings, by split, which the page shows if `embedded`.
    """
    study, splits = report.study, splits or {}
    if suspects and not embedded:
        suspects = suspects.without_samples()
    name = report.metric.name
    decides = [row.metrics[name] for row in (*report.rows, *report.whole) if name in row.metrics]
    # With several seeds that differ, the mean does not describe any one of them.
    values = [one.mean for one in decides] if not any(one.half_width for one in decides) else []
    findings = findings_of(store, study, report.by_class, report.beside, values)
    known = (study.name, "data_groups")
    groups = grouped(store.load(known).collect(), splits, embedded=embedded) if splits and store.find(known) else None
    lines = table_of_findings(findings, groups or Grouped(), suspects, splits, audit_lines(store, study))
    audited = audit_sentences(audit_told(store, study))
    page = page_of(report, pictures, findings, suspects, groups, lines, audited)
    with store.folder(key) as folder:
        page.write(folder)
    place = store.place(key).resolve()
    return dg.MaterializeResult(
        metadata={
            "how much can go": page.recommendation or UNKNOWN,
            "verdict": page.verdict,
            **({"value of the target": " ".join(told.sentences)} if (told := of_target(report)) else {}),
            **told_of([*findings, *([suspects.finding()] if suspects else [])]),
            **numbers_of(report),
            "path": dg.MetadataValue.path(place / REPORT),
            "rows of findings": dg.MetadataValue.path(place / FINDINGS),
            "report": dg.MetadataValue.md(page.markdown()),
        }
    )


def numbers_of(report: Report) -> dict[str, Any]:
    """The verdict's counts and the full set's metric."""
    steps, full = report.at_steps, report.full
    verdicts = [compared.verdict for _, compared in report.against(report.study.baseline)]
    longer = [compared.verdict for _, compared in steps.against(report.study.baseline)] if steps else []
    return {
        "better than random": verdicts.count(Verdict.BETTER),
        "worse than random": verdicts.count(Verdict.WORSE),
        **({"better than random at equal steps": longer.count(Verdict.BETTER)} if steps else {}),
        **({"worse than random at equal steps": longer.count(Verdict.WORSE)} if steps else {}),
        **({"compared at": report.compare_at} if report.compare_at else {}),
        **({f"{full.title} {report.metric.name}": rounded(full.metrics[report.metric.name].mean)} if full else {}),
    }
