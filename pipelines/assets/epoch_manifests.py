"""The asset `epoch_manifest`: the samples of each epoch of a training, for selections in training."""

from typing import Any

import dagster as dg

from secateur.pipelines.assets.asset import ins_of, key_of, study_asset, trials_of
from secateur.pipelines.assets.facts import facts_of_trial, tidy
from secateur.pipelines.assets.origin import origin_of
from secateur.pipelines.assets.subsets import (
    facts_of_manifest,
    provenance_of,
    scores_read,
    verifies,
    write_manifest,
)
from secateur.pipelines.manifests.epochs import Epochs
from secateur.pipelines.runs.choosing import read_by
from secateur.pipelines.storage.epoch_table import EPOCHS
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.signals import EPOCH_MANIFEST
from secateur.trainers.models import registry as models


def epoch_manifest_asset(study: Study) -> dg.AssetsDefinition:
    """The samples of each epoch, for trials that select in training."""
    key = key_of(study, EPOCH_MANIFEST)
    chosen = [selection for selection in study.selections.values() if selection.in_training]
    read = sorted(read_by(chosen) & set(study.scores))

    @study_asset(
        study,
        EPOCH_MANIFEST,
        ins=ins_of(study, "subset", "samples", "source", "trained_model")
        | {f"score_{name}": dg.AssetIn(key_of(study, "scores", name)) for name in read},
        trials="all",
        description="Of selections in training: a folder that says which samples each epoch showed, in which order and "
        "with what weights of their losses, by which sampler and settings, with checksums.",
        check_specs=[dg.AssetCheckSpec("verifies", asset=key)],
    )
    def epoch_manifest(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        subset: Any,
        samples: Any,
        source: Any,
        trained_model: Any,
        **loaded: Any,
    ) -> dg.MaterializeResult:
        origin, faults, table = origin_of(study, source), list[str](), samples.collect()
        for trial in trials_of(context):
            if note := study.why_no_manifest(trial, EPOCH_MANIFEST):
                told: dict[str, Any] = facts_of_trial(trial) | {"no manifest": note}
                context.add_asset_metadata(told, asset_key=key, partition_key=str(trial))
                continue
            folder = trained_model[trial]
            epochs = Epochs.recorded(
                table,
                folder / EPOCHS,
                batch_size=models.config_in(folder).batch_size,
                scores=scores_read(study, trial, loaded),
                label_names=source["strata"],
                origin=origin,
            )
            settings = secateur_store.load(key_of(study, "subset_settings"), trial)
            made = provenance_of(study, trial.plain, source, settings, table.height)
            made = made.model_copy(update={"selection": trial.name, "budget": max(epochs.sizes)})
            written = write_manifest(secateur_store, key, trial, epochs, made, faults)
            told = facts_of_trial(trial) | facts_of_manifest(written) | facts_of_epochs(epochs)
            context.add_asset_metadata(told, asset_key=key, partition_key=str(trial))
        return dg.MaterializeResult(check_results=[verifies(faults)])

    return epoch_manifest


def facts_of_epochs(epochs: Epochs) -> dict[str, Any]:
    """Metadata of epochs for the UI, beyond that of any manifest."""
    shown = sum(epochs.sizes)
    numbers = {
        "epochs": len(epochs.sizes),
        "least samples of an epoch": min(epochs.sizes),
        "most samples of an epoch": max(epochs.sizes),
        "bytes per row and epoch": epochs.file.path.stat().st_size / shown,
        "weighted": epochs.file.weighted,
    }
    return tidy(numbers)
