"""Assets of selections: `subset` and `manifest`, with one partition per selection and seed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from secateur.pipelines.assets.asset import ins_of, key_of, shown, study_asset, trials_of
from secateur.pipelines.assets.data import previews_of, training_files
from secateur.pipelines.assets.facts import facts_of_trial, tidy
from secateur.pipelines.assets.inputs import besides_of, inputs_for, signals_in
from secateur.pipelines.assets.launchpad import form, forms
from secateur.pipelines.assets.listed_rows import Masks, listed_rows
from secateur.pipelines.assets.origin import origin_of
from secateur.pipelines.assets.own_inputs import brought_card
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.payload import Payload
from secateur.pipelines.manifests.provenance import Provenance, ScoreCard, Spent, TargetCard
from secateur.pipelines.manifests.rows import Rows
from secateur.pipelines.pages.subset import Whole, others_at, subset_page
from secateur.pipelines.runs.choosing import Subset, held_settings, read_by, signals_read, subset_of
from secateur.pipelines.runs.kept_rows import ROWS
from secateur.pipelines.runs.target_signals import StoredTarget
from secateur.pipelines.runs.units_of_rows import columns_in, costs_of_rows
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial, tuned_as
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.selection import Selection
from secateur.selectors.contract import resolve_keep
from secateur.trainers.judging.outcome import Cost


def form_of(selection: Selection) -> type[dg.Config]:
    """The launchpad's section of a selection."""
    if selection.in_training:
        given = ("keep",) if selection.budget == "study" else ()
        return form(selection.declared.settings, held_settings(selection), given=given)
    return form(selection.declared.settings, selection.settings, selection.untuned)


def subset_asset(study: Study, base: Path) -> dg.AssetsDefinition:
    """The keep mask of each trial; paths of manifests that the study names start at `base`."""
    sections = {
        name: form_of(selection)
        for name, selection in study.selections.items()
        if selection.declared.settings.model_fields
    }
    Config = forms(f"{study.name}_subset", sections)
    key = key_of(study, "subset")
    read = read_by(study.selections.values()) | (study.signals & {"embeddings"})

    @study_asset(
        study,
        "subset",
        ins=inputs_for(study, read, "tuning", "inputs", *besides_of(study)),
        trials="all",
        description="Which samples stay: a keep mask, true where a sample is kept, exactly as many as the budget, or "
        "as fit it, of whole groups and of a column. "
        "A selection that is made in training has every sample as a candidate here, and its budget in each epoch.",
        check_specs=[dg.AssetCheckSpec("budget_exact", asset=key, blocking=True)],
    )
    def subset(
        context: dg.AssetExecutionContext,
        config: Config,  # type: ignore[valid-type]
        secateur_store: dg.ResourceParam[Store],
        **loaded: Any,
    ) -> dg.MaterializeResult:
        signals, table = signals_in(loaded), columns_in(study, loaded)
        faults: dict[str, bool] = {}
        settings = {name: getattr(config, name).model_dump() for name in sections}
        listed = listed_rows(study, base, hashes_of(loaded)) if study.manifests else {}
        for trial, chosen in choices(study, trials_of(context), signals, table, settings, loaded["tuning"], listed):
            secateur_store.save(key, chosen.keep, trial)
            secateur_store.save(key_of(study, "subset_settings"), chosen.settings, trial)
            secateur_store.save(key_of(study, "subset_cost"), vars(Cost(seconds=chosen.seconds)), trial)
            secateur_store.save(key_of(study, "subset_spent"), vars(chosen.spent) if chosen.spent else {}, trial)
            if chosen.fault:
                faults[f"{trial}: {chosen.fault}"] = not chosen.in_training
            told = facts_of_trial(trial) | tidy(facts_of(chosen))
            context.add_asset_metadata(told, asset_key=key, partition_key=str(trial))
        # After all selections, because each page compares a subset with the others.
        for trial in trials_of(context):
            context.add_asset_metadata(
                shown_of(study, trial, signals, loaded, secateur_store), asset_key=key, partition_key=str(trial)
            )
        result = dg.AssetCheckResult(
            passed=not faults,
            check_name="budget_exact",
            severity=dg.AssetCheckSeverity.ERROR if any(faults.values()) else dg.AssetCheckSeverity.WARN,
            description="; ".join(faults) or "every subset, or epoch, has its exact budget",
        )
        return dg.MaterializeResult(check_results=[result])

    return subset


def hashes_of(loaded: Mapping[str, Any]) -> pl.Series:
    """Content hashes of the training samples."""
    hashes: pl.Series = loaded["samples"].select("content_hash").collect()["content_hash"]
    return hashes


def choices(
    study: Study,
    trials: Iterable[Trial],
    signals: Mapping[str, np.ndarray],
    table: pl.DataFrame,
    settings: Mapping[str, dict[str, Any]],
    tuning: Mapping[str, Any],
    listed: Masks,
) -> Iterator[tuple[Trial, Subset]]:
    """The subset of each trial; a twin follows its plain trial directly and shares its samples."""

    def shared(trial: Trial) -> tuple[Trial, bool]:
        selection = study.selections.get(trial.plain.name)
        # The plan of epochs depends on the length of the training.
        return trial.plain, trial.at_steps and selection is not None and selection.in_training

    for (plain, _), alike in groupby(sorted(trials, key=lambda trial: (shared(trial), trial)), key=shared):
        twins = list(alike)
        tuned = tuning.get(tuned_as(plain.selection, study.between), {}).get("settings", {})
        chosen = subset_of(study, twins[0], signals, table, settings.get(plain.name, {}), tuned, listed)
        yield from ((trial, chosen) for trial in twins)


def facts_of(chosen: Subset) -> dict[str, Any]:
    """Metadata of a subset for the UI, beside its page."""
    return {
        "kept": int(chosen.keep.sum()),
        "of": len(chosen.keep),
        "in training": chosen.in_training is not None,
        "settings": dg.MetadataValue.json(chosen.settings),
        "seconds": chosen.seconds,
        **(chosen.in_training or {}),
        **({name: value for name, value in vars(chosen.spent).items() if value is not None} if chosen.spent else {}),
    }


def shown_of(
    study: Study, trial: Trial, signals: Mapping[str, np.ndarray], loaded: Mapping[str, Any], store: Store
) -> dict[str, Any]:
    """The page of a stored subset; empty for `full` and for selections in training."""
    if trial != trial.plain:
        return {"samples of": trial.plain.selection}
    selection = study.selections.get(trial.name)
    keep = np.asarray(store.load(key_of(study, "subset"), trial))
    if selection is None or selection.in_training or keep.all():
        return {}
    whole = Whole(
        signals["strata"],
        loaded["source"]["strata"],
        loaded["inputs"],
        loaded["samples"],
        loaded["source"]["task"],
        signals.get("embeddings"),
        training_files(loaded["source"]),
        previews_of(study, store),
    )
    score = (selection.score, signals[selection.score]) if selection.score else None
    about = int(keep.sum()) if selection.listed else study.rows_about(trial.keep, len(keep))
    others = others_at(study, store, about, trial.seed, len(keep), but=trial)
    return shown(subset_page(whole, keep, seed=trial.seed, others=others, score=score))


def manifest_asset(study: Study) -> dg.AssetsDefinition:
    """The exported selection of each trial."""
    key = key_of(study, "manifest")
    exported = [selection for selection in study.selections.values() if not selection.in_training]
    used = sorted(read_by(exported) & set(study.scores))

    @study_asset(
        study,
        "manifest",
        ins=ins_of(study, "subset", "samples", "source", *besides_of(study))
        | {f"score_{name}": dg.AssetIn(key_of(study, "scores", name)) for name in used}
        | (ins_of(study, "target") if study.target else {}),
        trials="all",
        description="A folder with the kept rows, their data, scores and settings, and checksums.",
        check_specs=[dg.AssetCheckSpec("verifies", asset=key)],
    )
    def manifest(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        subset: Any,
        samples: Any,
        source: Any,
        **loaded: Any,
    ) -> dg.MaterializeResult:
        origin, faults = origin_of(study, source), list[str]()
        table = with_units(study, samples.collect(), columns_in(study, {**loaded, "samples": samples}))
        # The store has verified the samples on loading; another check per trial would take as long.
        known = secateur_store.fingerprint(study.name, "samples") or None
        for trial in trials_of(context):
            if note := study.why_no_manifest(trial):
                told = facts_of_trial(trial) | {"no manifest": note}
                context.add_asset_metadata(told, asset_key=key, partition_key=str(trial))
                continue
            settings = secateur_store.load(key_of(study, "subset_settings"), trial)
            held = scores_read(study, trial, loaded)
            mask, key_spent = np.asarray(subset[trial]), key_of(study, "subset_spent")
            come = secateur_store.load(key_spent, trial) if secateur_store.holds(key_spent, trial) else {}
            spent = Spent(**come) if come else None
            own = table if spent else table.drop("cost", "group", strict=False)
            rows = Rows.chosen(own, mask, scores=held, label_names=source["strata"], origin=origin, known=known)
            card = card_of(loaded["target"]) if study.read_of_target(trial.name) - {"sources"} else None
            as_listed = trial.name in study.selections and study.selections[trial.name].listed
            count = int(mask.sum()) if spent or as_listed else len(table)
            provenance = provenance_of(study, trial, source, settings, count, card, spent)
            written = write_manifest(secateur_store, key, trial, rows, provenance, faults)
            told = facts_of_trial(trial) | facts_of_manifest(written)
            context.add_asset_metadata(told, asset_key=key, partition_key=str(trial))
        return dg.MaterializeResult(check_results=[verifies(faults)])

    return manifest


def write_manifest(
    store: Store, key: dg.AssetKey, trial: Trial, rows: Payload, provenance: Provenance, faults: list[str]
) -> Manifest:
    """Write the manifest of a trial and verify it; appends an error to `faults`."""
    with store.recorded(key, trial) as place:
        written = Manifest.write(place, rows, provenance, overwrite=True, verify=False)
    try:
        Manifest.load(written.path, verify=True)
    except ValueError as error:
        faults.append(str(error))
    return written


def verifies(faults: Sequence[str]) -> dg.AssetCheckResult:
    """Check result: whether all manifests verified."""
    told = "; ".join(faults) or "every manifest verifies"
    return dg.AssetCheckResult(passed=not faults, check_name="verifies", description=told)


def scores_read(study: Study, trial: Trial, loaded: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Scores of all samples that a trial's selection reads, from an asset's loaded inputs."""
    selection = study.selections.get(trial.plain.name)
    read = signals_read(selection) & set(study.scores) if selection else set()
    return {name: np.asarray(loaded[f"score_{name}"]) for name in sorted(read)}


def facts_of_manifest(manifest: Manifest) -> dict[str, Any]:
    """Metadata of a manifest for the UI, beside its trial."""
    return {
        "path": dg.MetadataValue.path(manifest.path.resolve()),
        "kept": manifest.declaration.count,
        "bytes": sum(file.stat().st_size for file in manifest.path.iterdir()),
    }


def with_units(study: Study, samples: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """The table of samples, with each row's cost in a budget of a column, and its group as text."""
    costs = costs_of_rows(study, table)
    if costs is not None:
        samples = samples.with_columns(pl.Series("cost", costs))
    if study.group is None:
        return samples
    return samples.with_columns(table[study.group].cast(pl.String).alias("group"))


def provenance_of(
    study: Study,
    trial: Trial,
    source: dict[str, Any],
    settings: dict[str, Any],
    count: int,
    target: TargetCard | None = None,
    spent: Spent | None = None,
) -> Provenance:
    """A manifest's record of its selection; `count` is the number of all rows, or with `spent`, the cost of the
    kept rows, the number of kept ones."""
    selection = study.selections.get(trial.name)
    as_listed = selection is not None and selection.listed
    read = [name for name in sorted(signals_read(selection)) if name in study.scores] if selection else []
    quotas: dict[str, Any] = {"by": selection.by, "share": selection.share} if selection and selection.by else {}
    by_rows = study.budget_of == ROWS
    return Provenance(
        dataset=study.name,
        revision=source["revision"],
        columns=study.columns.model_dump(mode="json", exclude_none=True) if study.columns else {},
        selection=trial.name,
        selector="manifest" if selection and selection.manifest else selection.selector if selection else "full",
        selector_version=selection.declared.version if selection else "1",
        settings=settings | quotas,
        keep=count if as_listed else trial.keep if spent is None or by_rows else {study.budget_of: trial.keep},
        budget=count if spent or as_listed else resolve_keep(trial.keep, count),
        spent=spent,
        seed=trial.seed,
        scores=tuple(
            ScoreCard.of(score.declared.card, name=name, settings=score.settings)
            if (score := study.computed.get(name))
            else brought_card(name, study.own_scores[name])
            for name in read
        ),
        target=target,
    )


def card_of(folder: Path) -> TargetCard:
    """A manifest's record of the target in a folder."""
    return TargetCard.of(StoredTarget(folder).facts)
