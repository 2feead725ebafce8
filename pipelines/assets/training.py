"""Assets of training and evaluation: `trained_model` and `evaluation` by selection and seed, then `report`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import dagster as dg
import numpy as np
from pydantic import Field, create_model

from secateur.pipelines.assets.asset import ins_of, key_of, study_asset, trials_of
from secateur.pipelines.assets.data import previews_of, training_files
from secateur.pipelines.assets.facts import facts_of_trial, tidy
from secateur.pipelines.assets.inputs import inputs_for, signals_in
from secateur.pipelines.assets.launch import launch
from secateur.pipelines.assets.launchpad import form
from secateur.pipelines.assets.resources import ProgressDisplay
from secateur.pipelines.assets.teacher import teacher_inputs
from secateur.pipelines.assets.written_report import page_link, with_link, written_report
from secateur.pipelines.data.check import shares_text
from secateur.pipelines.pages.budgets import budgets_of
from secateur.pipelines.pages.groups import Samples
from secateur.pipelines.pages.report import build_report
from secateur.pipelines.pages.suspects import LONGEST, Suspects, guess_by, suspects_of
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.by_class import RECALLS, by_class
from secateur.pipelines.runs.choosing import read_by
from secateur.pipelines.runs.costs import costs_of
from secateur.pipelines.runs.deciding import metrics_of, why
from secateur.pipelines.runs.kept_rows import Spent
from secateur.pipelines.runs.outcomes import outcomes_in
from secateur.pipelines.runs.proxy import folds_in
from secateur.pipelines.runs.training import Trials, trained_outcome
from secateur.pipelines.runs.yardstick import beside
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.column_budgets import ROWS
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.scores import card_of
from secateur.scorers.contract import naming
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.judging.evaluation import judged
from secateur.trainers.models import registry as models
from secateur.trainers.tasks.own import Split


def cheap_first(study: Study, trials: Iterable[Trial], samples: int) -> list[Trial]:
    """Order trials by the number of samples that they keep, the fewest first, and those at equal steps last: most of a
    curve is complete in the least time.
    """

    def cost(trial: Trial) -> tuple[bool, int, bool, int | float]:
        # For an amount of a column the row count is unknown here, but the full set has the most.
        tie = (False, 0) if study.budget_of == ROWS else (trial.plain.selection == "full", trial.keep)
        return trial.at_steps, study.rows_about(trial.keep, samples), *tie

    return sorted(trials, key=cost)


def trained_model_asset(study: Study) -> dg.AssetsDefinition:
    """A model per trial, trained on the trial's samples."""
    key = key_of(study, "trained_model")
    Config = form(TrainingConfig, study.training.model_dump())

    chosen_in_training = [selection for selection in study.selections.values() if selection.in_training]
    measured = ("test_inputs", "test_samples") if study.watched else ()

    @study_asset(
        study,
        "trained_model",
        ins=inputs_for(study, read_by(chosen_in_training), "inputs", "subset", *measured) | teacher_inputs(study),
        trials="all",
        description="A model trained on the kept samples; the seed sets its weights and its order of samples. "
        "A trial whose inputs are those of the model that is there is not trained again.",
        accelerated=True,
    )
    def trained_model(
        context: dg.AssetExecutionContext,
        config: Config,  # type: ignore[valid-type]
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        **loaded: Any,
    ) -> dg.MaterializeResult:
        training = TrainingConfig(**config.model_dump())  # type: ignore[attr-defined]
        data = data_of(loaded["inputs"], loaded["samples"], loaded["source"])
        test = data_of(loaded["test_inputs"], loaded["test_samples"], loaded["source"], "test") if measured else None
        metrics_of(study, loaded["source"])  # raises for a metric that cannot be measured
        spread = partial(launch, context, processes=study.compute.processes)
        trials = Trials(
            study, data, training, loaded["source"], signals_in(loaded), loaded, secateur_store, spread, test
        )
        for trial in secateur_progress.track(context, cheap_first(study, trials_of(context), len(data)), "training"):
            outcome, when = trials.train(trial, np.array(loaded["subset"][trial]))
            numbers = outcome.model_dump(include={"kept", "of", "steps", "epochs", "samples_seen", "seconds"})
            context.add_asset_metadata(
                facts_of_trial(trial)
                | tidy(numbers)
                | {
                    "path": dg.MetadataValue.path(secateur_store.place(key, trial).resolve()),
                    "compare_at": outcome.compare_at,
                    "trained": when,
                },
                asset_key=key,
                partition_key=str(trial),
            )
        # With launched trials, Dagster Pipes requires an explicit key.
        return dg.MaterializeResult(asset_key=key)

    return trained_model


def evaluation_asset(study: Study) -> dg.AssetsDefinition:
    """Test metrics of each trial's model."""
    key = key_of(study, "evaluation")

    @study_asset(
        study,
        "evaluation",
        ins=("test_inputs", "test_samples", "source", "subset", "trained_model"),
        trials="all",
        description="Every metric of the task on the test split, after the last epoch.",
        accelerated=True,
    )
    def evaluation(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        test_inputs: Any,
        test_samples: Any,
        source: Any,
        subset: Any,
        trained_model: Any,
    ) -> None:
        test = data_of(test_inputs, test_samples, source, "test")
        for trial in trials_of(context):
            with naming(trial.title):
                found = judged(models.load(trained_model[trial]), test)
            trained = trained_outcome(trained_model[trial])
            costs, metrics = costs_of(study, trial, secateur_store, trained), dict(found.metrics)
            facts = trained.facts | ({RECALLS: [*found.recalls]} if found.recalls else {})
            outcome = trained.model_copy(update={"metrics": metrics, "compute": costs, "facts": facts})
            secateur_store.save(key, outcome.model_dump(mode="json"), trial)
            numbers = {**metrics, "samples of compute": outcome.work}
            numbers |= {f"seconds of {part}": cost.seconds for part, cost in costs.items()}
            told = facts_of_trial(trial) | tidy(numbers)
            context.add_asset_metadata(told, asset_key=key, partition_key=str(trial))

    return evaluation


def suspects_in(study: Study, store: Store, loaded: Mapping[str, Any]) -> Suspects | None:
    """The samples of a study to inspect, with its proxies' guesses; None without scores.

    Inputs, samples and proxies are already upstream of the scores: direct edges would only clutter the graph.
    """
    if not study.scores:
        return None
    source = loaded["source"]
    inputs, samples = (store.load((study.name, name)) for name in ("inputs", "samples"))
    data, folds = data_of(inputs, samples, source), folds_in(study, store)
    place = store.place((study.name, "proxy"))
    proxies = [models.load(place / name) for name in study.proxies]
    found = suspects_of(
        {name: (card_of(name, score), loaded[f"score_{name}"]) for name, score in study.scores.items()},
        inputs,
        samples,
        source["task"],
        training_files(source),
        previews_of(study, store, LONGEST),
        guess_by(proxies, data, folds),
    )
    return found and replace(found, held_out=folds is not None)


def splits_in(study: Study, store: Store, loaded: Mapping[str, Any]) -> dict[str, Samples]:
    """The samples of a study by split, for pages of findings; they are upstream of the scores and the evaluations."""
    source, splits = loaded["source"], dict[str, Samples]()
    prefixes: dict[Split, str] = {"train": "", "test": "test_"}
    scores = {name: loaded[f"score_{name}"] for name in study.scores}
    for split, prefix in prefixes.items():
        splits[split] = Samples(
            split,
            store.load((study.name, f"{prefix}samples")),
            store.load((study.name, f"{prefix}inputs")),
            source["files"],
            source["task"],
            previews_of(study, store, LONGEST, split),
            scores if split == "train" else {},
        )
    return splits


def spent_in(study: Study, store: Store, trials: Iterable[Trial]) -> dict[Trial, Spent]:
    """Costs of the subsets by plain trial, only of trials with another budget than a plain row count."""
    key, found = key_of(study, "subset_spent"), dict[Trial, Spent]()
    for trial in dict.fromkeys(trial.plain for trial in trials):
        if store.holds(key, trial) and (told := store.load(key, trial)):
            found[trial] = Spent(**told)
    return found


def report_asset(study: Study) -> dg.AssetsDefinition:
    """The report: every selection compared with random at the same budget."""
    key = key_of(study, "report")
    told = Field(study.report_samples, description="whether the page shows pictures or texts of samples")
    Shown = create_model(f"{study.name}_report", __base__=dg.Config, samples=(bool, told))
    scored = {f"score_{name}": dg.AssetIn(key_of(study, "scores", name)) for name in study.scores}

    @study_asset(
        study,
        "report",
        ins=ins_of(study, "evaluation", "source", "tuning", "yardstick") | scored,
        description=with_link(
            study,
            "Every selection beside random and stratified random at the same budget and an equal number of "
            "optimiser steps or epochs, over seeds, with intervals, what it cost and a verdict.",
        ),
        metadata=page_link(study),
        accelerated=True,  # the proxies guess labels of some samples
    )
    def report(
        config: Shown,  # type: ignore[valid-type]
        secateur_store: dg.ResourceParam[Store],
        **loaded: Any,
    ) -> dg.MaterializeResult:
        source = loaded["source"]
        note = f"Measured on {source['test_samples']:,} test samples after the last epoch. {why(study, source)}"
        note += shares_text(source["encoding"])
        outcomes = outcomes_in(study, loaded["evaluation"])
        metrics, effects = metrics_of(study, source), by_class(study, outcomes, source)
        known = beside(study, loaded["yardstick"], metrics[0], outcomes)
        told: dict[str, Any] = {"metrics": metrics, "tuning": loaded["tuning"], "by_class": effects, "beside": known}
        told["budgets"] = budgets_of(study, spent_in(study, secateur_store, outcomes))
        report = build_report(study, outcomes, note, **told)
        suspects, splits = suspects_in(study, secateur_store, loaded), splits_in(study, secateur_store, loaded)
        embedded: bool = config.samples  # type: ignore[attr-defined]
        return written_report(secateur_store, key, report, suspects=suspects, splits=splits, embedded=embedded)

    return report
