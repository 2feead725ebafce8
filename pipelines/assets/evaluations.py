"""Assets that evaluate architectures: `evaluations`, and `subset_agreement` where they train on part of the data."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from secateur.pipelines.assets.asset import study_asset
from secateur.pipelines.assets.resources import ProgressDisplay
from secateur.pipelines.runs.architectures import run, searchers, space_of
from secateur.pipelines.runs.evaluations import evaluator, training_data
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.architectures import Search
from secateur.selectors.searches.random_search import RandomSearch
from secateur.trainers.judging.architectures import agreement


def evaluations_asset(search: Search, base: Path) -> dg.AssetsDefinition:
    """Everything that the searches evaluated."""

    @study_asset(
        search,
        "evaluations",
        ins=("architectures",),
        description="What the guided search, the same without pruning, regularised evolution and random search "
        "evaluated, in order, over seeds. A network is evaluated once, however many searches ask for it.",
        accelerated=True,
    )
    def evaluations(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        architectures: Any,
    ) -> dg.MaterializeResult:
        started, table = time.perf_counter(), architectures.collect()
        space, there = space_of(search, table), table["key"].n_unique()
        told = secateur_progress.start(context, "networks evaluated")
        data, keep = training_data(search, base, secateur_store)
        answer = evaluator(
            search, space, table, secateur_store, data, keep=keep, progress=lambda done: told(done, there)
        )
        frames = []
        for name, begin in searchers(search, space).items():
            for seed in range(search.seeds):
                history = run(search, name, begin(seed), answer)
                columns = {"evaluation": np.arange(len(history.rows)), "row": history.rows, "accuracy": history.fitness}
                frames.append(
                    pl.DataFrame(columns).select(pl.lit(name).alias("search"), pl.lit(seed).alias("seed"), "*")
                )
        value = pl.concat(frames)
        return dg.MaterializeResult(
            value=value,
            metadata={
                "dagster/row_count": len(value),
                "networks evaluated": table["key"].gather(value["row"].unique()).n_unique(),
                "seconds": time.perf_counter() - started,
                "trained on": "every sample" if keep is None else f"{int(keep.sum())} of {len(keep)} samples",
            },
        )

    return evaluations


def subset_agreement_asset(search: Search, base: Path) -> dg.AssetsDefinition:
    """Whether networks trained on the subset rank as networks trained on everything."""

    @study_asset(
        search,
        "subset_agreement",
        ins=("architectures",),
        description="Rank correlation of validation accuracies after training on the subset and on every sample, over "
        "random architectures.",
        accelerated=True,
    )
    def subset_agreement(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        architectures: Any,
    ) -> dg.MaterializeResult:
        table = architectures.collect()
        space = space_of(search, table)
        assert search.space.models
        assert search.space.models.subset
        rows = RandomSearch(space, seed=0).ask(search.space.models.subset.compare)
        data, keep = training_data(search, base, secateur_store)
        assert keep is not None
        told = secateur_progress.start(context, "networks compared")
        part, full = (
            evaluator(
                search, space, table, secateur_store, data, keep=mask, progress=lambda done: told(done, len(rows))
            )
            for mask in (keep, None)
        )
        agreed = dataclasses.asdict(agreement(part, full, rows)) | {"kept": int(keep.sum()), "of": len(keep)}
        return dg.MaterializeResult(value=agreed, metadata=agreed)

    return subset_agreement
