"""The asset `report` of a search: the guided search and evolution beside random search at the same evaluations."""

from typing import Any

import dagster as dg

from secateur.pipelines.assets.asset import key_of, study_asset
from secateur.pipelines.assets.written_report import written_report
from secateur.pipelines.pages.plots import best_so_far
from secateur.pipelines.pages.report import build_report, title_of
from secateur.pipelines.runs.search_outcomes import curves_of, outcomes_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.architectures import Search

NOTE = "It is the best accuracy that a search has seen by then, on the samples that guide it."


def report_asset(search: Search) -> dg.AssetsDefinition:
    """Every search beside random search after as many evaluations."""
    key = key_of(search, "report")

    @study_asset(
        search,
        "report",
        ins=("evaluations",),
        description="The guided search, the same without pruning and regularised evolution beside random search after "
        "as many evaluations, over seeds, with intervals and a verdict.",
    )
    def report(secateur_store: dg.ResourceParam[Store], evaluations: Any) -> dg.MaterializeResult:
        frame = evaluations.collect()
        pictures = {
            "best so far": best_so_far(
                {title_of(search, name): best for name, best in curves_of(search, frame).items()}
            )
        }
        built = build_report(search, outcomes_of(search, frame), NOTE)
        return written_report(secateur_store, key, built, pictures)

    return report
