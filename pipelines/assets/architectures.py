"""Assets of a search: `architectures`, `evaluations`, `predictor`, `pruned_search_space`, `best_architecture`,
`report`, `trained_model`, and `subset_agreement` where networks are compared on a part of the samples.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from secateur.pipelines.assets.resources import ACCELERATOR, IO_MANAGER, ProgressDisplay
from secateur.pipelines.assets.search_report import report_asset
from secateur.pipelines.manifests.choices import PAPER, write_pruned_space
from secateur.pipelines.pages.plots import contributions, inline, predicted_against_true
from secateur.pipelines.runs.architectures import (
    architectures_of,
    data_for,
    evaluator,
    fitted,
    guided_history,
    replay,
    run,
    searchers,
    space_of,
)
from secateur.pipelines.runs.choosing import choose
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.architectures import ProxySubset, Search
from secateur.scorers.architectures.accuracy_predictor import cross_validate
from secateur.scorers.contract import Observer
from secateur.scorers.registry import scorers
from secateur.selectors.contract import resolve_keep
from secateur.selectors.searches.random_search import RandomSearch
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.architectures import agreement, space_of_configs
from secateur.trainers.loop.train import train
from secateur.trainers.models import registry as models
from secateur.trainers.processes import device_of_choice
from secateur.trainers.tasks.classification import evaluate


def search_assets(search: Search, base: Path) -> list[dg.AssetsDefinition]:
    """The assets of one search; relative paths in it start at `base`."""
    found = [
        architectures_asset(search, base),
        evaluations_asset(search, base),
        predictor_asset(search),
        pruned_search_space_asset(search),
        best_architecture_asset(search),
        report_asset(search),
    ]
    if search.space.models:
        found.append(trained_model_asset(search, base))
        if search.space.models.subset:
            found.append(subset_agreement_asset(search, base))
    return found


def asset_key(search: Search, name: str) -> dg.AssetKey:
    return dg.AssetKey([search.name, name])


def ins(search: Search, *names: str) -> dict[str, dg.AssetIn]:
    return {name: dg.AssetIn(asset_key(search, name)) for name in names}


def architectures_asset(search: Search, base: Path) -> dg.AssetsDefinition:
    """The space, row by row."""

    @dg.asset(
        io_manager_key=IO_MANAGER,
        key=asset_key(search, "architectures"),
        description="Every architecture of the space: row, key (equal for the same network), choice at each position.",
        group_name=search.name,
    )
    def architectures() -> dg.MaterializeResult:
        table = architectures_of(search, base)
        space = space_of(search, table)
        return dg.MaterializeResult(
            value=table,
            metadata={
                "dagster/row_count": len(table),
                "different networks": table["key"].n_unique(),
                "features": len(space.features),
                "choices": dg.MetadataValue.json(space.kept(space.allowed)),
            },
        )

    return architectures


def evaluations_asset(search: Search, base: Path) -> dg.AssetsDefinition:
    """Everything that the searches evaluated."""

    @dg.asset(
        io_manager_key=IO_MANAGER,
        key=asset_key(search, "evaluations"),
        ins=ins(search, "architectures"),
        description="What the guided search, the same without pruning, regularised evolution and random search "
        "evaluated, in order, over seeds. A network is evaluated once, however many searches ask for it.",
        group_name=search.name,
        pool=ACCELERATOR,
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
        answer = evaluator(search, space, table, data, keep=keep, progress=lambda done: told(done, there))
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


def training_data(search: Search, base: Path, store: Store) -> tuple[Data | None, np.ndarray | None]:
    """Training samples of a space of models, and which of them the search trains on; None means all."""
    space = search.space.models
    if space is None:
        return None, None
    data, _ = data_for(space, base, store.root / ".cache")
    return data, subset_mask(search, data, space.subset) if space.subset else None


def subset_mask(search: Search, data: Data, subset: ProxySubset) -> np.ndarray:
    """Keep mask over the training samples; scores come from one run of the search's own config, unchanged."""
    signals: dict[str, np.ndarray] = {"labels": data.labels}
    if subset.observed:
        assert search.space.models
        watchers: dict[str, Observer] = {
            name: scorers()[name](len(data), device_of_choice())  # type: ignore[misc, call-arg, arg-type]
            for name in subset.observed
        }
        train(data, search.space.models.training, seed=0, observers=list(watchers.values()))
        signals |= {name: watcher.scores() for name, watcher in watchers.items()}
    budget = resolve_keep(subset.keep, len(data))
    return choose(subset.selection, signals, budget=budget, seed=0, settings=subset.settings)


def predictor_asset(search: Search) -> dg.AssetsDefinition:
    """The predictor after the last evaluation of the guided search."""
    key = asset_key(search, "predictor")

    @dg.asset(
        io_manager_key=IO_MANAGER,
        key=key,
        ins=ins(search, "architectures", "evaluations"),
        description=f"Boosted trees that predict accuracy from an architecture's choices ({PAPER}).",
        group_name=search.name,
    )
    def predictor(
        secateur_store: dg.ResourceParam[Store], architectures: Any, evaluations: Any
    ) -> dg.MaterializeResult:
        table = architectures.collect()
        space, history = space_of(search, table), guided_history(evaluations)
        model, choices = fitted(search, space, history), space.choices_of(history.rows)
        metrics, predicted = cross_validate(
            space, choices, history.fitness, space.keys_of(history.rows), search.search.predictor
        )
        true, note = history.fitness, "each predicted by trees that never saw it"
        if "accuracy" in table.columns:
            unseen = np.setdiff1d(np.arange(len(space)), history.rows)
            true, predicted = table["accuracy"].to_numpy()[unseen], model.predict(space.choices_of(unseen))
            note = "architectures that were not evaluated"
        taught = search.search.predictor.trained_on(history.fitness)
        means = model.first_order(choices[taught])
        pictures = {
            "predicted": predicted_against_true(true, predicted, note),
            "contributions": contributions(space.features, means, replay(search, space, history).alive),
        }
        with secateur_store.folder(key) as folder:
            model.booster.save_model(folder / "trees.txt")
            content = {"mean": model.mean, "deviation": model.deviation, "features": list(space.features)}
            (folder / "predictor.json").write_text(json.dumps(content | dataclasses.asdict(metrics), indent=2) + "\n")
            for name, svg in pictures.items():
                (folder / f"{name}.svg").write_bytes(svg)
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(secateur_store.place(key).resolve()),
                "evaluated": len(history.rows),
                "failed, and left out": int(np.sum(~taught)),
                "cross-validated": dg.MetadataValue.json(dataclasses.asdict(metrics)),
                **{name: dg.MetadataValue.md(inline(svg, name)) for name, svg in pictures.items()},
            }
        )

    return predictor


def pruned_search_space_asset(search: Search) -> dg.AssetsDefinition:
    """Which choices are left, as a manifest."""
    key = asset_key(search, "pruned_search_space")

    @dg.asset(
        io_manager_key=IO_MANAGER,
        key=key,
        ins=ins(search, "architectures", "evaluations", "predictor"),
        description="A manifest of the choices that are left after the guided search, as of a subset's samples: the "
        "units are choices, their classes positions.",
        check_specs=[dg.AssetCheckSpec("no_position_is_empty", asset=key)],
        group_name=search.name,
    )
    def pruned_search_space(
        secateur_store: dg.ResourceParam[Store], architectures: Any, evaluations: Any, predictor: Any
    ) -> dg.MaterializeResult:
        table = architectures.collect()
        space, history = space_of(search, table), guided_history(evaluations)
        taught = search.search.predictor.trained_on(history.fitness)
        means = fitted(search, space, history).first_order(space.choices_of(history.rows[taught]))
        alive = replay(search, space, history).alive
        written = write_pruned_space(search, space, alive, means, secateur_store.place(key))
        empty = [name for name, left in space.kept(alive).items() if not left]
        assert space.listed is not None
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(written.path.resolve()),
                "choices left": int(alive.sum()),
                "of": len(alive),
                "architectures left": int(space.are_alive(space.listed, alive).sum()),
                "kept": dg.MetadataValue.json(space.kept(alive)),
            },
            check_results=[
                dg.AssetCheckResult(
                    passed=not empty,
                    check_name="no_position_is_empty",
                    description=f"nothing is left at {', '.join(empty)}" if empty else "every position has a choice",
                )
            ],
        )

    return pruned_search_space


def best_architecture_asset(search: Search) -> dg.AssetsDefinition:
    """What the guided search found."""
    key = asset_key(search, "best_architecture")

    @dg.asset(
        io_manager_key=IO_MANAGER,
        key=key,
        ins=ins(search, "architectures", "evaluations", "pruned_search_space"),
        description="The best architecture that the guided search evaluated.",
        group_name=search.name,
    )
    def best_architecture(architectures: Any, evaluations: Any, pruned_search_space: Any) -> dg.MaterializeResult:
        table = architectures.collect()
        space, history = space_of(search, table), guided_history(evaluations)
        best: dict[str, Any] = {
            "row": history.best_row,
            "choices": space.describe(history.best_row),
            "accuracy": float(history.fitness.max()),
            "evaluations": len(history.rows),
            "found_at": int(np.argmax(history.fitness)) + 1,
        }
        if search.space.models:
            configs = space_of_configs(search.space.models.training, search.space.models.positions)[1]
            best["config"] = configs[history.best_row].model_dump(mode="json")
        return dg.MaterializeResult(
            value=best, metadata={"accuracy": best["accuracy"], "choices": dg.MetadataValue.json(best["choices"])}
        )

    return best_architecture


def trained_model_asset(search: Search, base: Path) -> dg.AssetsDefinition:
    """The best architecture, trained on every training sample and tested once."""
    key = asset_key(search, "trained_model")

    @dg.asset(
        io_manager_key=IO_MANAGER,
        key=key,
        ins=ins(search, "architectures", "best_architecture"),
        description="The best architecture trained on all training samples; the test split is looked at here only.",
        group_name=search.name,
        pool=ACCELERATOR,
    )
    def trained_model(
        secateur_store: dg.ResourceParam[Store], architectures: Any, best_architecture: Any
    ) -> dg.MaterializeResult:
        assert search.space.models
        data, test = data_for(search.space.models, base, secateur_store.root / ".cache")
        config = TrainingConfig(**best_architecture["config"])
        trained = train(data, config, seed=0)
        metrics = evaluate(trained.model, test)
        with secateur_store.folder(key) as folder:
            models.save(trained.model.cpu(), folder, config, data.inputs.shape[1:], data.classes)
            (folder / "metrics.json").write_text(json.dumps(dataclasses.asdict(metrics), indent=2) + "\n")
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(secateur_store.place(key).resolve()),
                "test accuracy": metrics.accuracy,
                "steps": trained.steps,
                "seconds": trained.seconds,
            }
        )

    return trained_model


def subset_agreement_asset(search: Search, base: Path) -> dg.AssetsDefinition:
    """Whether networks trained on the subset rank as networks trained on everything."""

    @dg.asset(
        io_manager_key=IO_MANAGER,
        key=asset_key(search, "subset_agreement"),
        ins=ins(search, "architectures"),
        description="Rank correlation of validation accuracies after training on the subset and on every sample, over "
        "random architectures.",
        group_name=search.name,
        pool=ACCELERATOR,
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
            evaluator(search, space, table, data, keep=mask, progress=lambda done: told(done, len(rows)))
            for mask in (keep, None)
        )
        found = dataclasses.asdict(agreement(part, full, rows)) | {"kept": int(keep.sum()), "of": len(keep)}
        return dg.MaterializeResult(value=found, metadata=found)

    return subset_agreement
