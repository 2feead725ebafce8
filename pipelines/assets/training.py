"""Assets that train and judge: `trained_model` and `evaluation` by selection and seed, then `report`."""

from functools import partial
from typing import Any

import dagster as dg
import numpy as np

from secateur.pipelines.assets.asset import key_of, study_asset, trials_of
from secateur.pipelines.assets.data import data_of
from secateur.pipelines.assets.inputs import inputs_for, signals_in
from secateur.pipelines.assets.launch import launch
from secateur.pipelines.assets.launchpad import form
from secateur.pipelines.assets.resources import ProgressDisplay
from secateur.pipelines.assets.teacher import teacher_inputs
from secateur.pipelines.assets.written_report import written_report
from secateur.pipelines.pages.report import build_report
from secateur.pipelines.runs.choosing import read_by
from secateur.pipelines.runs.costs import costs_of
from secateur.pipelines.runs.outcomes import outcomes_in
from secateur.pipelines.runs.training import Trials, trained_outcome
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.models import registry as models


def trained_model_asset(study: Study) -> dg.AssetsDefinition:
    """A model per trial, trained on what the trial keeps."""
    key = key_of(study, "trained_model")
    Config = form(TrainingConfig, study.training.model_dump())

    chosen_in_training = [selection for selection in study.selections.values() if selection.in_training]

    @study_asset(
        study,
        "trained_model",
        ins=inputs_for(study, read_by(chosen_in_training), "inputs", "subset") | teacher_inputs(study),
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
        spread = partial(launch, context, processes=study.compute.processes)
        trials = Trials(study, data, training, loaded["source"], signals_in(loaded), loaded, secateur_store, spread)
        for trial in secateur_progress.track(context, trials_of(context), "training"):
            outcome, when = trials.train(trial, np.array(loaded["subset"][trial]))
            numbers = outcome.model_dump(include={"kept", "of", "steps", "epochs", "samples_seen", "seconds"})
            context.add_asset_metadata(
                {
                    "path": dg.MetadataValue.path(secateur_store.place(key, trial).resolve()),
                    **numbers,
                    "compare_at": outcome.compare_at,
                    "trained": when,
                },
                asset_key=key,
                partition_key=str(trial),
            )
        # Dagster Pipes wants it said, where trials are launched.
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
            metrics = dict(evaluate(models.load(trained_model[trial]), test))
            trained = trained_outcome(trained_model[trial])
            costs = costs_of(study, trial, secateur_store, trained)
            judged = trained.model_copy(update={"metrics": metrics, "compute": costs})
            secateur_store.save(key, judged.model_dump(mode="json"), trial)
            numbers = {**metrics, "samples of compute": judged.work}
            numbers |= {f"seconds of {part}": cost.seconds for part, cost in costs.items()}
            context.add_asset_metadata(numbers, asset_key=key, partition_key=str(trial))

    return evaluation


def report_asset(study: Study) -> dg.AssetsDefinition:
    """Every selection beside random at the same budget."""
    key = key_of(study, "report")

    @study_asset(
        study,
        "report",
        ins=("evaluation", "source", "tuning"),
        description="Every selection beside random and stratified random at the same budget and an equal number of "
        "optimiser steps or epochs, over seeds, with intervals, what it cost and a verdict.",
    )
    def report(
        secateur_store: dg.ResourceParam[Store], evaluation: Any, source: Any, tuning: Any
    ) -> dg.MaterializeResult:
        note = f"Measured on {source['test_samples']:,} test samples after the last epoch."
        report = build_report(study, outcomes_in(study, evaluation), note, tuning=tuning)
        return written_report(secateur_store, key, report)

    return report
