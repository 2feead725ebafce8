"""Assets that train and judge: `trained_model` and `evaluation` by selection and seed, then `report`."""

import dataclasses
from typing import Any

import dagster as dg
import numpy as np

from secateur.pipelines.data_assets import data_of
from secateur.pipelines.launchpad import form
from secateur.pipelines.progress import Progress
from secateur.pipelines.report import build_report, write_report
from secateur.pipelines.store import Store
from secateur.pipelines.study import Study
from secateur.pipelines.subset_assets import cells_of, partitions_of
from secateur.trainers import models
from secateur.trainers.contract import Recipe
from secateur.trainers.evaluation import evaluate
from secateur.trainers.loop import train


def trained_model_asset(study: Study) -> dg.AssetsDefinition:
    """A model per cell, trained on what the cell keeps."""
    key = dg.AssetKey([study.name, "trained_model"])
    Config = form(Recipe, study.training.model_dump())

    @dg.asset(
        key=key,
        ins={name: dg.AssetIn(dg.AssetKey([study.name, name])) for name in ("inputs", "samples", "source", "subset")},
        partitions_def=partitions_of(study),
        backfill_policy=dg.BackfillPolicy.single_run(),
        description="A model trained on the kept samples; the seed sets its weights and its order of samples.",
        group_name=study.name,
    )
    def trained_model(
        context: dg.AssetExecutionContext,
        config: Config,  # type: ignore[valid-type]
        store: dg.ResourceParam[Store],
        progress: dg.ResourceParam[Progress],
        inputs: Any,
        samples: Any,
        source: Any,
        subset: Any,
    ) -> None:
        data, recipe = data_of(inputs, samples, source), Recipe(**config.model_dump())  # type: ignore[attr-defined]
        for cell in progress.track(context, cells_of(context), "training"):
            keep = np.array(subset[cell])
            trained = train(data, recipe, seed=cell.seed, keep=keep)
            cost = {
                "kept": int(keep.sum()),
                "steps": trained.steps,
                "epochs": trained.epochs,
                "samples_seen": trained.samples_seen,
                "seconds": round(trained.seconds, 3),
            }
            with store.folder(key, cell) as folder:
                models.save(trained.model.cpu(), folder, recipe, data.inputs.shape[1:], data.classes)
            store.save(dg.AssetKey([study.name, "training_cost"]), cost, cell)
            context.add_asset_metadata(
                {"path": dg.MetadataValue.path(store.place(key, cell).resolve()), **cost},
                asset_key=key,
                partition_key=str(cell),
            )

    return trained_model


def evaluation_asset(study: Study) -> dg.AssetsDefinition:
    """Test metrics of each cell's model."""
    key = dg.AssetKey([study.name, "evaluation"])

    @dg.asset(
        key=key,
        ins={
            name: dg.AssetIn(dg.AssetKey([study.name, name]))
            for name in ("test_inputs", "test_samples", "source", "subset")
        }
        | {"trained_model": dg.AssetIn(dg.AssetKey([study.name, "trained_model"]))},
        partitions_def=partitions_of(study),
        backfill_policy=dg.BackfillPolicy.single_run(),
        description="Accuracy, per-class accuracy, calibration and loss on the test split, after the last epoch.",
        group_name=study.name,
    )
    def evaluation(
        context: dg.AssetExecutionContext,
        store: dg.ResourceParam[Store],
        test_inputs: Any,
        test_samples: Any,
        source: Any,
        subset: Any,
        trained_model: Any,
    ) -> None:
        test = data_of(test_inputs, test_samples, source)
        for cell in cells_of(context):
            metrics = dataclasses.asdict(evaluate(models.load(trained_model[cell]), test))
            cost = store.load(dg.AssetKey([study.name, "training_cost"]), cell)
            store.save(key, {**cost, **metrics}, cell)
            numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
            context.add_asset_metadata(numbers, asset_key=key, partition_key=str(cell))

    return evaluation


def report_asset(study: Study) -> dg.AssetsDefinition:
    """Every selection beside random at the same budget."""
    key = dg.AssetKey([study.name, "report"])

    @dg.asset(
        key=key,
        ins={name: dg.AssetIn(dg.AssetKey([study.name, name])) for name in ("evaluation", "source", "tuning")},
        description="Every selection beside random and stratified random at the same budget and the same number of "
        "optimiser steps, over seeds, with intervals and a verdict.",
        group_name=study.name,
    )
    def report(store: dg.ResourceParam[Store], evaluation: Any, source: Any, tuning: Any) -> dg.MaterializeResult:
        built = build_report(study, source, evaluation, tuning)
        with store.folder(key) as folder:
            write_report(built, folder)
        better = sum(
            row.against_random is not None and row.against_random.verdict.startswith("better") for row in built.rows
        )
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path((store.place(key) / "report.html").resolve()),
                "report": dg.MetadataValue.md(built.markdown()),
                "selections better than random": better,
                **({"full accuracy": built.full.mean} if built.full else {}),
            }
        )

    return report
