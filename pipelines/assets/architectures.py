"""Assets of a search: `architectures`, `evaluations`, `predictor`, `pruned_search_space`, `best_architecture`,
`report`, `trained_model`, and `subset_agreement` if the search trains its networks on a subset.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from secateur.pipelines.assets.asset import key_of, study_asset
from secateur.pipelines.assets.evaluations import evaluations_asset, report_asset, subset_agreement_asset
from secateur.pipelines.assets.facts import rounded, tidy
from secateur.pipelines.manifests.pruned_space import PAPER, write_pruned_space
from secateur.pipelines.pages.plots import contributions, inline, predicted_against_true
from secateur.pipelines.runs.architectures import architectures_of, fitted, guided_history, replay, space_of
from secateur.pipelines.runs.evaluations import data_for, parts_of
from secateur.pipelines.runs.training import outcome_of, save_trained, trained_outcome
from secateur.pipelines.storage.ledger import Ledger, digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.architectures import Search
from secateur.scorers.architectures.accuracy_predictor import cross_validate
from secateur.scorers.contract import naming
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.judging.architectures import space_of_configs
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.train import train


def search_definitions(search: Search, base: Path) -> dg.Definitions:
    """The assets of one search; relative paths in it start at `base`."""
    assets = [
        architectures_asset(search, base),
        evaluations_asset(search, base),
        predictor_asset(search),
        pruned_search_space_asset(search),
        best_architecture_asset(search),
        report_asset(search),
    ]
    if search.space.models:
        assets.append(trained_model_asset(search, base))
        if search.space.models.subset:
            assets.append(subset_agreement_asset(search, base))
    return dg.Definitions(assets)


def architectures_asset(search: Search, base: Path) -> dg.AssetsDefinition:
    """The space, row by row."""

    @study_asset(
        search,
        "architectures",
        description="Every architecture of the space: row, key (equal for the same network), choice at each position.",
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


def predictor_asset(search: Search) -> dg.AssetsDefinition:
    """The predictor after the last evaluation of the guided search."""
    key = key_of(search, "predictor")

    @study_asset(
        search,
        "predictor",
        ins=("architectures", "evaluations"),
        description=f"Boosted trees that predict accuracy from an architecture's choices ({PAPER}).",
    )
    def predictor(
        secateur_store: dg.ResourceParam[Store], architectures: Any, evaluations: Any
    ) -> dg.MaterializeResult:
        table = architectures.collect()
        space, history = space_of(search, table), guided_history(search, evaluations)
        model, choices = fitted(search, space, history), space.choices_of(history.rows)
        metrics, predicted = cross_validate(
            space, choices, history.fitness, space.keys_of(history.rows), search.search.predictor
        )
        true, note = history.fitness, "each predicted by trees that never saw it"
        keys = space.keys_of(np.arange(len(space)))
        unseen = np.flatnonzero(~np.isin(keys, space.keys_of(history.rows)))
        if "accuracy" in table.columns and len(unseen):
            true, predicted = table["accuracy"].to_numpy()[unseen], model.predict(space.choices_of(unseen))
            note = "architectures that were not evaluated"
        taught = search.search.predictor.trained_on(history.fitness)
        means = model.first_order(choices[taught])
        pictures = {
            "predicted": predicted_against_true(true, predicted, note),
            "contributions": contributions(space.features, means, replay(search, space, history).alive),
        }
        with secateur_store.folder(key) as folder:
            # LightGBM's own `save_model` ignores a full disk.
            (folder / "trees.txt").write_text(model.booster.model_to_string(), encoding="utf-8", newline="\n")
            content = {"mean": model.mean, "deviation": model.deviation, "features": list(space.features)}
            (folder / "predictor.json").write_text(json.dumps(content | dataclasses.asdict(metrics), indent=2) + "\n")
            for name, svg in pictures.items():
                (folder / f"{name}.svg").write_bytes(svg)
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(secateur_store.place(key).resolve()),
                "evaluated": len(history.rows),
                "failed, and left out": int(np.sum(~taught)),
                "cross-validated": dg.MetadataValue.json(tidy(dataclasses.asdict(metrics))),
                **{name: dg.MetadataValue.md(inline(svg, name)) for name, svg in pictures.items()},
            }
        )

    return predictor


def pruned_search_space_asset(search: Search) -> dg.AssetsDefinition:
    """A manifest of the remaining choices."""
    key = key_of(search, "pruned_search_space")

    @study_asset(
        search,
        "pruned_search_space",
        ins=("architectures", "evaluations", "predictor"),
        description="A manifest of the choices that are left after the guided search, as of a subset's samples: the "
        "units are choices, their classes positions.",
        check_specs=[dg.AssetCheckSpec("no_position_is_empty", asset=key)],
    )
    def pruned_search_space(
        secateur_store: dg.ResourceParam[Store], architectures: Any, evaluations: Any, predictor: Any
    ) -> dg.MaterializeResult:
        table = architectures.collect()
        space, history = space_of(search, table), guided_history(search, evaluations)
        taught = search.search.predictor.trained_on(history.fitness)
        means = fitted(search, space, history).first_order(space.choices_of(history.rows[taught]))
        alive = replay(search, space, history).alive
        with secateur_store.recorded(key) as place:
            written = write_pruned_space(search, space, alive, means, place)
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
    """The result of the guided search."""

    @study_asset(
        search,
        "best_architecture",
        ins=("architectures", "evaluations", "pruned_search_space"),
        description="The best architecture that the guided search evaluated.",
    )
    def best_architecture(architectures: Any, evaluations: Any, pruned_search_space: Any) -> dg.MaterializeResult:
        table = architectures.collect()
        space, history = space_of(search, table), guided_history(search, evaluations)
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
            value=best,
            metadata={"accuracy": rounded(best["accuracy"]), "choices": dg.MetadataValue.json(best["choices"])},
        )

    return best_architecture


def trained_model_asset(search: Search, base: Path) -> dg.AssetsDefinition:
    """The best architecture, trained on all training samples and evaluated once on the test split."""
    key = key_of(search, "trained_model")

    @study_asset(
        search,
        "trained_model",
        ins=("architectures", "best_architecture"),
        description="The best architecture trained on all training samples; the test split is looked at here only.",
        accelerated=True,
    )
    def trained_model(
        secateur_store: dg.ResourceParam[Store], architectures: Any, best_architecture: Any
    ) -> dg.MaterializeResult:
        assert search.space.models
        data, test = data_for(search.space.models, base, secateur_store.root / ".cache")
        config = TrainingConfig(**best_architecture["config"])

        def work() -> None:
            with naming("the best architecture"):
                trained = train(data, config, seed=0)
                metrics = dict(evaluate(trained.model, test))
            outcome = outcome_of(trained).model_copy(update={"metrics": metrics})
            with secateur_store.folder(key) as folder:
                save_trained(folder, trained, outcome, config, data)

        tested = {"test_inputs": test.inputs, "test_targets": test.targets}
        made_of = digest_of(config=config.model_dump(mode="json"), **parts_of(data, config), **tested)
        folder = Ledger(secateur_store).once(key, None, made_of, work)
        outcome = trained_outcome(folder)
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(folder.resolve()),
                **tidy({f"test {name}": number for name, number in outcome.metrics.items()}),
                **tidy(outcome.model_dump(include={"steps", "seconds"})),
            }
        )

    return trained_model
