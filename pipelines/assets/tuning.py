"""The asset `tuning`: missing settings of selections, tuned on held-out training samples, one after the other."""

from functools import partial
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from secateur.pipelines.assets.asset import key_of, study_asset
from secateur.pipelines.assets.inputs import besides_of, inputs_for, signals_in
from secateur.pipelines.assets.resources import ProgressDisplay
from secateur.pipelines.data.codes import codes_of
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.choosing import choose_at, read_by, signals_read
from secateur.pipelines.runs.deciding import metrics_of
from secateur.pipelines.runs.units_of_rows import columns_in, costs_of_rows, spent_of
from secateur.pipelines.storage.ledger import Ledger, data_parts, digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import selection_key
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.selection import Selection
from secateur.scorers.contract import naming
from secateur.trainers.contract import Data
from secateur.trainers.judging.tuning import tune
from secateur.trainers.tasks.contract import Metric


def tuning_asset(study: Study) -> dg.AssetsDefinition:
    """Tune missing settings; reuse earlier results for equal inputs."""
    open_ones = {name: selection for name, selection in study.selections.items() if selection.untuned}

    @study_asset(
        study,
        "tuning",
        ins=inputs_for(study, read_by(open_ones.values()), "inputs", *besides_of(study)),
        description="Settings that the study leaves open, each chosen by its mean of the deciding metric on a "
        "validation split of the training samples, never on test samples.",
        accelerated=True,
    )
    def tuning(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        **loaded: Any,
    ) -> dg.MaterializeResult:
        data, signals = data_of(loaded["inputs"], loaded["samples"], loaded["source"]), signals_in(loaded)
        table = columns_in(study, loaded)
        metric = metrics_of(study, loaded["source"])[0]

        def tune_at(place: tuple[str, ...], selection: Selection, keep: int | float) -> None:
            told = secateur_progress.start(context, f"tuning {place[-1]}")
            with naming(f"tuning {place[-1]}"):
                best = tuned(study, selection, data, signals, table, keep, metric, told)
            secateur_store.save(place, best)

        chosen: dict[str, dict[str, Any]] = {}
        costs: dict[str, dict[str, Any]] = {}
        for name, selection in open_ones.items():
            parts = made_of(study, selection, signals, table, loaded["source"])
            for keep in study.keep:
                if limit_of(study, table, len(data), keep) == 1:
                    continue
                key = selection_key(name, keep)
                place = (study.name, ".tuning", key)
                work = partial(tune_at, place, selection, keep)
                best = Ledger(secateur_store).once(place, None, digest_of(keep=keep, **parts), work)
                chosen[key], costs[key] = best["chosen"], best["cost"]
        secateur_store.save(key_of(study, "tuning_cost"), costs)
        return dg.MaterializeResult(value=chosen, metadata={"chosen": dg.MetadataValue.json(chosen)})

    return tuning


def limit_of(study: Study, table: pl.DataFrame, count: int, keep: int | float) -> float:
    """A budget as a share of all rows' cost."""
    spent = spent_of(study, table, np.ones(count, np.bool_), keep)
    return spent.limit / spent.whole


def made_of(
    study: Study, selection: Selection, signals: dict[str, np.ndarray], table: pl.DataFrame, source: dict[str, Any]
) -> dict[str, Any]:
    """Inputs that determine a selection's best settings, beside the budget."""
    return {
        "selection": selection.model_dump(mode="json"),
        "version": selection.static.version,
        "training": study.training.model_dump(mode="json", exclude={"loading", "workers"}),
        "validation": study.validation.model_dump(mode="json"),
        "metric": metrics_of(study, source)[0].name,
        **{f"signal {name}": signals[name] for name in sorted(signals_read(selection))},
        "budget_of": study.budget_of,
        **{f"column {name}": codes_of(table[name])[0] for name in ([] if study.by_rows(selection) else table.columns)},
        **data_parts(study, source, study.training),
    }


def tuned(
    study: Study,
    selection: Selection,
    data: Data,
    signals: dict[str, np.ndarray],
    table: pl.DataFrame,
    keep: int | float,
    metric: Metric,
    told: Any,
) -> dict[str, Any]:
    """The selected setting at one budget, and the cost of tuning."""
    (setting,) = selection.untuned
    costs, share = costs_of_rows(study, table), limit_of(study, table, len(data), keep)

    def chooser(rows: np.ndarray, budget: int, candidate: float, seed: int) -> Any:
        settings = selection.settings | {setting: candidate}
        limit = budget if costs is None else share * costs[rows].sum()
        return choose_at(study, selection, signals, table, limit=limit, seed=seed, settings=settings, rows=rows)

    best = tune(
        data,
        study.training,
        chooser,
        selection.static.tunable[setting],
        keep=keep if costs is None else share,
        fraction=study.validation.fraction,
        seeds=study.validation.seeds,
        metric=metric,
        progress=told,
    )
    means = {str(value): mean for value, mean in best.results.items()}
    return {
        "chosen": {"settings": {setting: best.value}, "validation": means},
        "cost": vars(best.cost),
    }
