"""Assets that score: one proxy run tells every observer, one asset per scorer of signals."""

import inspect
from collections.abc import Iterator
from typing import Any

import dagster as dg
import numpy as np

from secateur.pipelines.data_assets import data_of, labels_of
from secateur.pipelines.launchpad import form, forms
from secateur.pipelines.plots import score_histogram
from secateur.pipelines.progress import Progress
from secateur.pipelines.store import Store
from secateur.pipelines.study import Score, Study
from secateur.scorers.contract import Card, Observer, Scorer, Scores
from secateur.trainers import models
from secateur.trainers.contract import Recipe
from secateur.trainers.loop import device_of_choice, train


def describe(card: Card) -> str:
    """What the UI says of a score."""
    return f"{card.summary}\n\nHigh means: {card.high_means}.\n\nView: {card.view}.\n\nSource: {card.paper}."


def score_metadata(values: Scores, card: Card) -> dict[str, Any]:
    """Numbers and the histogram that the UI shows of a score."""
    wide = values.astype(np.float64)
    return {
        "dagster/row_count": len(values),
        "mean": float(wide.mean()),
        "std": float(wide.std()),
        "min": float(wide.min()),
        "max": float(wide.max()),
        "distinct values": len(np.unique(values)),
        "high means": card.high_means,
        "histogram": dg.MetadataValue.md(score_histogram(values, card)),
    }


def observers_of(study: Study) -> dict[str, Score]:
    return {name: score for name, score in study.scores.items() if inspect.isclass(score.declared)}


def proxy_asset(study: Study) -> dg.AssetsDefinition:
    """Train the proxy once on all samples; every observer of the study watches that run."""
    observed = observers_of(study)
    sections = {name: form(score.declared.settings, score.settings) for name, score in observed.items()}
    recipe_form = form(Recipe, study.proxy.model_dump())
    Config = forms(f"{study.name}_proxy", {"recipe": recipe_form, **{f"score_{k}": v for k, v in sections.items()}})
    proxy_key = dg.AssetKey([study.name, "proxy"])

    @dg.multi_asset(
        name=f"{study.name}__proxy_training",
        ins={name: dg.AssetIn(dg.AssetKey([study.name, name])) for name in ("inputs", "samples", "source")},
        outs={
            "proxy": dg.AssetOut(
                key=proxy_key, dagster_type=dg.Nothing, description="The proxy model, trained on all samples."
            )
        }
        | {
            name: dg.AssetOut(
                key=dg.AssetKey([study.name, "scores", name]),
                description=describe(score.declared.card),
                code_version=score.declared.card.version,
            )
            for name, score in observed.items()
        },
        internal_asset_deps={
            "proxy": {dg.AssetKey([study.name, name]) for name in ("inputs", "samples", "source")},
            **{name: {proxy_key} for name in observed},
        },
        group_name=study.name,
    )
    def proxy(
        context: dg.AssetExecutionContext,
        config: Config,  # type: ignore[valid-type]
        store: dg.ResourceParam[Store],
        progress: dg.ResourceParam[Progress],
        inputs: Any,
        samples: Any,
        source: Any,
    ) -> Iterator[Any]:
        data, device = data_of(inputs, samples, source), device_of_choice()
        recipe = Recipe(**config.recipe.model_dump())  # type: ignore[attr-defined]
        watchers: dict[str, Observer] = {
            name: score.declared(len(data), device, **getattr(config, f"score_{name}").model_dump())  # type: ignore[call-arg, arg-type]
            for name, score in observed.items()
        }
        told = progress.start(context, "proxy training")
        trained = train(
            data, recipe, seed=study.proxy_seed, observers=list(watchers.values()), device=device, progress=told
        )
        with store.folder(proxy_key) as folder:
            models.save(trained.model.cpu(), folder, recipe, data.inputs.shape[1:], data.classes)
        yield dg.Output(
            None,
            "proxy",
            metadata={
                "path": dg.MetadataValue.path(store.place(proxy_key).resolve()),
                "seconds": trained.seconds,
                "steps": trained.steps,
                "epochs": trained.epochs,
            },
        )
        for name, watcher in watchers.items():
            values = watcher.scores()
            yield dg.Output(values, name, metadata=score_metadata(values, watcher.card))

    return proxy


def score_asset(study: Study, name: str) -> dg.AssetsDefinition:
    """One number per sample from the signals that the scorer names."""
    scorer = study.scores[name].declared
    assert isinstance(scorer, Scorer)
    Config = form(scorer.settings, study.scores[name].settings)

    @dg.asset(
        key=dg.AssetKey([study.name, "scores", name]),
        ins={
            signal: dg.AssetIn(dg.AssetKey([study.name, "samples" if signal == "labels" else signal]))
            for signal in scorer.signals
        },
        description=describe(scorer.card),
        code_version=scorer.card.version,
        group_name=study.name,
    )
    def score(config: Config, **signals: Any) -> dg.MaterializeResult:  # type: ignore[valid-type]
        arrays = [labels_of(signals[name]) if name == "labels" else signals[name] for name in scorer.signals]
        values = scorer(*arrays, **config.model_dump())  # type: ignore[attr-defined]
        return dg.MaterializeResult(value=values, metadata=score_metadata(values, scorer.card))

    return score
