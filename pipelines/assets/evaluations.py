"""Assets that evaluate architectures: `evaluations` by search, budget and seed, `report`, and `subset_agreement` if
networks train on a subset.
"""

import dataclasses
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from secateur.pipelines.assets.asset import key_of, study_asset, trials_of
from secateur.pipelines.assets.facts import facts_of_trial, tidy
from secateur.pipelines.assets.resources import ProgressDisplay
from secateur.pipelines.assets.written_report import page_link, with_link, written_report
from secateur.pipelines.pages.names import title_of
from secateur.pipelines.pages.plots import best_so_far
from secateur.pipelines.pages.report import build_report
from secateur.pipelines.runs.architectures import accuracies_of, run, searchers, space_of
from secateur.pipelines.runs.evaluations import evaluator, training_data
from secateur.pipelines.runs.outcomes import outcomes_in
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.architectures import Search
from secateur.pipelines.studies.grid import Trial
from secateur.scorers.architectures.rank_metrics import rank_metrics
from secateur.selectors.searches.random_search import RandomSearch
from secateur.trainers.judging.outcome import Outcome

NOTE = "It is the best accuracy that a search has seen by then, on the samples that guide it."


def evaluations_asset(search: Search, base: Path) -> dg.AssetsDefinition:
    """The best accuracy of each search within each budget, and all its evaluations."""
    key = key_of(search, "evaluations")

    @study_asset(
        search,
        "evaluations",
        ins=("architectures",),
        trials="all",
        description="Results of the guided search, the same search without pruning, regularised evolution and random "
        "search, with all evaluations in order. All searches share one evaluation of a network.",
        accelerated=True,
    )
    def evaluations(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        architectures: Any,
    ) -> None:
        table = architectures.collect()
        space, there = space_of(search, table), table["key"].n_unique()
        told = secateur_progress.start(context, "networks evaluated")
        data, keep = training_data(search, base, secateur_store)
        answer = evaluator(
            search, space, table, secateur_store, data, keep=keep, progress=lambda done: told(done, there)
        )
        trained_on = "every sample" if keep is None else f"{int(keep.sum())} of {len(keep)} samples"
        begin = searchers(search, space)
        share = 100.0 if search.space.scale == "percent" else 1.0
        ordered = sorted(trials_of(context), key=lambda trial: (trial.name, trial.seed))
        for (name, seed), group in groupby(ordered, key=lambda trial: (trial.name, trial.seed)):
            spent = {trial: int(trial.keep) for trial in group}
            # A search with a smaller budget is the beginning of the same search.
            history = run(
                search, name, begin[name](seed), lambda rows: accuracies_of(answer(rows)), max(spent.values())
            )
            for trial, budget in spent.items():
                rows, accuracies = history.rows[:budget], history.fitness[:budget]
                outcome = Outcome(
                    metrics={"accuracy": float(accuracies.max()) / share},
                    kept=budget,
                    of=search.search.budget,
                    seconds=sum(each.seconds for each in answer(rows)),
                    facts={"rows": rows.tolist(), "accuracies": accuracies.tolist()},
                )
                secateur_store.save(key, outcome.model_dump(mode="json"), trial)
                facts = {
                    "evaluated": len(rows),
                    "seconds": outcome.seconds,
                    **outcome.metrics,
                    "trained on": trained_on,
                }
                facts = facts_of_trial(trial) | tidy(facts)
                context.add_asset_metadata(facts, asset_key=key, partition_key=str(trial))

    return evaluations


def report_asset(search: Search) -> dg.AssetsDefinition:
    """Every search compared with random search after as many evaluations."""
    key = key_of(search, "report")

    @study_asset(
        search,
        "report",
        ins=("evaluations",),
        description=with_link(
            search,
            "The guided search, the same without pruning and regularised evolution beside random search after "
            "as many evaluations, over seeds, with intervals and a verdict.",
        ),
        metadata=page_link(search),
    )
    def report(secateur_store: dg.ResourceParam[Store], evaluations: Any) -> dg.MaterializeResult:
        outcomes = outcomes_in(search, evaluations)
        pictures = {"best so far": best_so_far(curves_of(search, outcomes))}
        return written_report(secateur_store, key, build_report(search, outcomes, NOTE), pictures)

    return report


def curves_of(search: Search, outcomes: Mapping[Trial, Outcome]) -> dict[str, np.ndarray]:
    """Best accuracy so far, `[seeds, budget]` by title of a search; a search that ended early keeps its last value."""
    curves: dict[str, list[np.ndarray]] = {}
    for trial, outcome in outcomes.items():
        if trial.keep == search.search.budget:
            best = np.maximum.accumulate(outcome.facts["accuracies"])
            run_of_seed = np.pad(best, (0, search.search.budget - len(best)), mode="edge")
            curves.setdefault(title_of(search, trial.name), []).append(run_of_seed)
    return {title: np.stack(runs) for title, runs in curves.items()}


def subset_agreement_asset(search: Search, base: Path) -> dg.AssetsDefinition:
    """Rank agreement of networks trained on the subset with networks trained on all samples."""

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
        order = rank_metrics(accuracies_of(full(rows)), accuracies_of(part(rows)))
        agreed = dataclasses.asdict(order) | {"kept": int(keep.sum()), "of": len(keep)}
        return dg.MaterializeResult(value=agreed, metadata=tidy(agreed))

    return subset_agreement
