"""What the report assets of every kind do with their report."""

from collections.abc import Mapping

import dagster as dg

from secateur.pipelines.pages.page import page_of
from secateur.pipelines.pages.report import Report
from secateur.pipelines.pages.served import link_to
from secateur.pipelines.pages.suspects import Suspects
from secateur.pipelines.runs.findings import findings_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.judging.comparison import Verdict


def page_link(study: AnyStudy) -> dict[str, dg.MetadataValue]:
    """What the definition of a report says of where a browser finds it; nothing where no UI of ours runs."""
    link = link_to(study.name)
    return {"page": dg.MetadataValue.url(link)} if link else {}


def written_report(
    store: Store,
    key: dg.AssetKey,
    report: Report,
    pictures: Mapping[str, bytes] | None = None,
    suspects: Suspects | None = None,
) -> dg.MaterializeResult:
    """Write the page, the text and the JSON of a report, findings at their top; what the UI shows of it."""
    study = report.study
    page = page_of(report, pictures, findings_of(store, study, report.by_class), suspects)
    with store.folder(key) as folder:
        page.write(folder)
    verdicts = [compared.verdict for _, compared in report.against(study.baseline)]
    full, steps = report.full, report.at_steps
    longer = [compared.verdict for _, compared in steps.against(study.baseline)] if steps else []
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path((store.place(key) / "report.html").resolve()),
            "report": dg.MetadataValue.md(page.markdown()),
            "better than random": verdicts.count(Verdict.BETTER),
            "worse than random": verdicts.count(Verdict.WORSE),
            **({"better than random at equal steps": longer.count(Verdict.BETTER)} if steps else {}),
            **({"worse than random at equal steps": longer.count(Verdict.WORSE)} if steps else {}),
            **({"compared at": report.compare_at} if report.compare_at else {}),
            **({f"{full.title} {report.metric.name}": full.metrics[report.metric.name].mean} if full else {}),
        }
    )
