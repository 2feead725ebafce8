"""The asset `report` of a search: the guided search and evolution beside random search at the same evaluations."""

from typing import Any

import dagster as dg

from secateur.pipelines.assets.resources import IO_MANAGER
from secateur.pipelines.assets.written_report import written_report
from secateur.pipelines.pages.plots import best_so_far
from secateur.pipelines.pages.report import build_report, plan_of
from secateur.pipelines.runs.search_outcomes import curves_of, outcomes_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.architectures import Search

NOTE = "It is the best accuracy that a search has seen by then, on the samples that guide it."


def report_asset(search: Search) -> dg.AssetsDefinition:
    """Every search beside random search after as many evaluations."""
    key = dg.AssetKey([search.name, "report"])

    @dg.asset(
        io_manager_key=IO_MANAGER,
        key=key,
        ins={"evaluations": dg.AssetIn(dg.AssetKey([search.name, "evaluations"]))},
        description="The guided search, the same without pruning and regularised evolution beside random search after "
        "as many evaluations, over seeds, with intervals and a verdict.",
        group_name=search.name,
    )
    def report(secateur_store: dg.ResourceParam[Store], evaluations: Any) -> dg.MaterializeResult:
        frame = evaluations.collect()
        pictures = {"best so far": best_so_far(curves_of(search, frame))}
        built = build_report(plan_of(search, NOTE), outcomes_of(search, frame))
        return written_report(secateur_store, key, built, pictures)

    return report
