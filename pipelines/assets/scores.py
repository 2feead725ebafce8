"""Assets of scores: one proxy run for all observers, one asset per scorer of signals and per user's score."""

import inspect
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from secateur.pipelines.assets.asset import ins_of, key_of, out_of, study_asset
from secateur.pipelines.assets.data import previews_of, strata_of, training_files
from secateur.pipelines.assets.facts import tidy
from secateur.pipelines.assets.inputs import inputs_for, signals_in
from secateur.pipelines.assets.launchpad import form, forms, refuse_out_of_range
from secateur.pipelines.assets.own_inputs import output_values, own_values, rows_now, study_targets
from secateur.pipelines.assets.resources import ACCELERATOR, ProgressDisplay, version_of
from secateur.pipelines.assets.sentences import told_in_a_sentence
from secateur.pipelines.pages.extremes import extremes
from secateur.pipelines.pages.plots import score_histogram
from secateur.pipelines.pages.previews import Previews
from secateur.pipelines.pages.score import score_by_class
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.proxy import ProxyRuns, identity_of, with_searched_network
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.output_scores import OutputScore
from secateur.pipelines.studies.own_scores import OwnCard
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.scores import Score
from secateur.scorers.contract import Card, Scorer, Scores
from secateur.scorers.registry import direction_of
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.outcome import Cost
from secateur.trainers.passes.folds import Folds, folds_of, groups_of
from secateur.trainers.processes import device_of_choice


def describe(card: Card) -> str:
    """Description of a score in the UI."""
    return f"{card.summary}\n\nHigh means: {direction_of(card)}.\n\nView: {card.view}.\n\nSource: {card.paper}."


def score_metadata(
    values: Scores,
    card: Card | OwnCard,
    inputs: np.ndarray,
    samples: pl.LazyFrame,
    source: Mapping[str, Any],
    previews: Previews | None,
) -> dict[str, Any]:
    """Numbers, histogram and extreme samples of a score for the UI."""
    wide = values.astype(np.float64)
    ends = extremes(values, inputs, samples, source["task"], training_files(source), previews)
    return {
        "dagster/row_count": len(values),
        **tidy({name: float(getattr(wide, name)()) for name in ("mean", "std", "min", "max")}),
        "distinct values": pl.Series(values).n_unique(),
        "high means": card.high_means,
        "histogram": dg.MetadataValue.md(score_histogram(values, card)),
        "by stratum": dg.MetadataValue.md(score_by_class(values, strata_of(samples), source["strata"], card)),
        "highest and lowest": dg.MetadataValue.md(ends),
    }


def score_outs(study: Study, scores: Mapping[str, Score], *, is_required: bool = True) -> dict[str, dg.AssetOut]:
    """Outputs of a step with several scores, by the score's name."""
    return {
        name: out_of(
            study,
            "scores",
            name,
            description=describe(score.declared.card),
            code_version=score.declared.card.version,
            is_required=is_required,
        )
        for name, score in scores.items()
    }


def observers_of(study: Study) -> dict[str, Score]:
    return {name: score for name, score in study.computed.items() if inspect.isclass(score.declared)}


def divided(study: Study, data: Data, samples: pl.LazyFrame, store: Store) -> Folds | None:
    """Assign a fold to each sample and store the folds; None, and no stored folds, for a study without folds."""
    place = key_of(study, "proxy_folds")
    if study.proxy is None or study.proxy.folds is None:
        store.remove(place)
        return None
    hashes = samples.select("content_hash").collect()["content_hash"].to_numpy() if study.task.own else None
    folds = folds_of(groups_of(data) if hashes is None else hashes, strata_of(samples), study.proxy.folds)
    store.save(place, folds)
    return folds


def proxy_asset(study: Study) -> dg.AssetsDefinition:
    """Train the proxy once on all samples, with every observer of the study."""
    assert study.proxy
    observed = observers_of(study)
    sections = {name: form(score.declared.settings, score.settings) for name, score in observed.items()}
    config_form = form(TrainingConfig, study.proxy.training.model_dump())
    Config = forms(f"{study.name}_proxy", {"proxy": config_form, **{f"score_{k}": v for k, v in sections.items()}})
    proxy_key = key_of(study, "proxy")
    searched = study.proxy_from
    ins = ins_of(study, "inputs", "samples", "source")
    ins |= {"best_architecture": dg.AssetIn(dg.AssetKey([searched, "best_architecture"]))} if searched else {}

    @dg.multi_asset(
        name=f"{study.name}__proxy_training",
        ins=ins,
        outs={
            "proxy": out_of(
                study, "proxy", dagster_type=dg.Nothing, description="The proxy model, trained on all samples."
            )
        }
        | score_outs(study, observed),
        internal_asset_deps={
            "proxy": {each.key for each in ins.values()},
            **{name: {proxy_key} for name in observed},
        },
        group_name=study.name,
        pool=ACCELERATOR,
    )
    @told_in_a_sentence
    def proxy(
        context: dg.AssetExecutionContext,
        config: Config,  # type: ignore[valid-type]
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        inputs: Any,
        samples: Any,
        source: Any,
        **loaded: Any,
    ) -> Iterator[Any]:
        refuse_out_of_range(context)
        data, device = data_of(inputs, samples, source), device_of_choice()
        training = TrainingConfig(**config.proxy.model_dump())  # type: ignore[attr-defined]
        if loaded:
            training = with_searched_network(training, loaded["best_architecture"])
        settings = {name: getattr(config, f"score_{name}").model_dump() for name in observed}
        folds = divided(study, data, samples, secateur_store)
        runs = ProxyRuns(study, data, training, source, observed, settings, device, secateur_store, folds)
        spent = runs.train(partial(secateur_progress.start, context))
        secateur_store.save(key_of(study, "proxy_cost"), vars(spent))
        path = dg.MetadataValue.path(secateur_store.place(proxy_key).resolve())
        weights = dg.DataVersion(identity_of(study, sorted(secateur_store.place(proxy_key).glob("seed-*"))))
        told = {"path": path, "runs": study.proxy_runs, **tidy(vars(spent))}
        yield dg.Output(None, "proxy", metadata=told, data_version=weights)
        shown = previews_of(study, secateur_store)
        for name, score in observed.items():
            values = runs.scores(name)
            metadata = score_metadata(values, score.declared.card, inputs, samples, source, shown)
            yield dg.Output(values, name, metadata=metadata, data_version=version_of(values))

    return proxy


def score_asset(study: Study, name: str) -> dg.AssetsDefinition:
    """One number per sample from the scorer's signals."""
    scorer = study.computed[name].declared
    assert isinstance(scorer, Scorer)
    Config = form(scorer.settings, study.computed[name].settings)

    @study_asset(
        study,
        "scores",
        name,
        ins=inputs_for(study, scorer.signals, "inputs"),
        description=describe(scorer.card),
        code_version=scorer.card.version,
    )
    def score(
        config: Config,  # type: ignore[valid-type]
        secateur_store: dg.ResourceParam[Store],
        **loaded: Any,
    ) -> dg.MaterializeResult:
        signals, started = signals_in(loaded), time.perf_counter()
        signals |= {one: np.asarray(signals[one], np.float32) for one in study.own_scores.keys() & signals.keys()}
        values = scorer(*(signals[name] for name in scorer.signals), **config.model_dump())  # type: ignore[attr-defined]
        secateur_store.save(key_of(study, "scores_cost", name), vars(Cost(seconds=time.perf_counter() - started)))
        return dg.MaterializeResult(
            value=values,
            data_version=version_of(values),
            metadata=score_metadata(
                values,
                scorer.card,
                loaded["inputs"],
                loaded["samples"],
                loaded["source"],
                previews_of(study, secateur_store),
            ),
        )

    return score


def own_score_asset(study: Study, name: str, base: Path) -> dg.AssetsDefinition:
    """A score of the user: a column of the data, or numbers of a file, matched with the training rows."""
    card = study.own_scores[name].card(name)

    @study_asset(
        study, "scores", name, ins=("inputs", "samples", "source"),
        description=f"{card.summary}\n\nHigh means: {card.high_means}.",
    )  # fmt: skip
    def own_score(
        secateur_store: dg.ResourceParam[Store], inputs: Any, samples: Any, source: Any
    ) -> dg.MaterializeResult:
        rows = rows_now(study, source, samples, base, secateur_store)
        if isinstance(study.own_scores[name], OutputScore):
            targets = study_targets(study, source, samples.collect())
            cache = secateur_store.root / ".cache"
            values = output_values(study, name, base, cache, rows, targets, source)
        else:
            values = own_values(study, name, base, rows)
        previews = previews_of(study, secateur_store)
        told = score_metadata(values.astype(np.float32), card, inputs, samples, source, previews)
        return dg.MaterializeResult(value=values, data_version=version_of(values), metadata=told)

    return own_score
