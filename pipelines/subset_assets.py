"""Assets that choose: `tuning`, then `subset` and `manifest` with one partition per selection and seed."""

from typing import Any

import dagster as dg
import numpy as np

from secateur.pipelines.cells import Cell, selection_key
from secateur.pipelines.choosing import choose, read_by, signals_read
from secateur.pipelines.data_assets import data_of
from secateur.pipelines.launchpad import form, forms
from secateur.pipelines.manifest import Manifest
from secateur.pipelines.plots import class_balance
from secateur.pipelines.progress import Progress
from secateur.pipelines.provenance import Provenance, ScoreCard
from secateur.pipelines.selection import Selection
from secateur.pipelines.signals import inputs_for, signals_in
from secateur.pipelines.store import Store
from secateur.pipelines.study import Study
from secateur.selectors.contract import resolve_keep
from secateur.trainers.tuning import tune


def partitions_of(study: Study) -> dg.MultiPartitionsDefinition:
    """Selections times seeds; samples never are partitions."""
    return dg.MultiPartitionsDefinition(
        {
            "selection": dg.StaticPartitionsDefinition(study.selection_keys),
            "seed": dg.StaticPartitionsDefinition([str(seed) for seed in range(study.seeds)]),
        }
    )


def cells_of(context: dg.AssetExecutionContext) -> list[Cell]:
    return [Cell.parse(str(key)) for key in context.partition_keys]


def tuning_asset(study: Study) -> dg.AssetsDefinition:
    """Settings that the study leaves open, chosen on held-out training samples."""
    open_ones = {name: selection for name, selection in study.selections.items() if selection.untuned}

    @dg.asset(
        key=dg.AssetKey([study.name, "tuning"]),
        ins=inputs_for(study, read_by(open_ones.values()), "inputs"),
        description="Settings that the study leaves open, each chosen by mean accuracy on a validation split "
        "of the training samples, never on test samples.",
        group_name=study.name,
    )
    def tuning(
        context: dg.AssetExecutionContext, progress: dg.ResourceParam[Progress], **loaded: Any
    ) -> dg.MaterializeResult:
        data, signals = data_of(loaded["inputs"], loaded["samples"], loaded["source"]), signals_in(loaded)
        chosen: dict[str, dict[str, Any]] = {}
        for name, selection in open_ones.items():
            (setting,) = selection.untuned
            for keep in study.keep:
                key = selection_key(name, keep)

                def chooser(
                    rows: np.ndarray,
                    budget: int,
                    candidate: float,
                    seed: int,
                    selection: Selection = selection,
                    setting: str = setting,
                ) -> Any:
                    settings = selection.settings | {setting: candidate}
                    return choose(selection, signals, budget=budget, seed=seed, settings=settings, rows=rows)

                tuned = tune(
                    data,
                    study.training,
                    chooser,
                    selection.declared.tunable[setting],
                    keep=keep,
                    fraction=study.validation.fraction,
                    seeds=study.validation.seeds,
                    progress=progress.start(context, f"tuning {key}"),
                )
                chosen[key] = {
                    "settings": {setting: tuned.value},
                    "validation_accuracy": {str(value): accuracy for value, accuracy in tuned.accuracies.items()},
                }
        return dg.MaterializeResult(value=chosen, metadata={"chosen": dg.MetadataValue.json(chosen)})

    return tuning


def subset_asset(study: Study) -> dg.AssetsDefinition:
    """The keep mask of each cell."""
    sections = {
        name: form(selection.declared.settings, selection.settings, selection.untuned)
        for name, selection in study.selections.items()
        if selection.declared.settings.model_fields
    }
    Config = forms(f"{study.name}_subset", sections)
    key = dg.AssetKey([study.name, "subset"])

    @dg.asset(
        key=key,
        ins=inputs_for(study, read_by(study.selections.values()), "tuning"),
        partitions_def=partitions_of(study),
        backfill_policy=dg.BackfillPolicy.single_run(),
        description="Which samples stay: a keep mask, true where a sample is kept, exactly as many as the budget.",
        check_specs=[dg.AssetCheckSpec("budget_exact", asset=key, blocking=True)],
        group_name=study.name,
    )
    def subset(
        context: dg.AssetExecutionContext,
        config: Config,  # type: ignore[valid-type]
        store: dg.ResourceParam[Store],
        **loaded: Any,
    ) -> dg.MaterializeResult:
        tuning, source, signals = loaded["tuning"], loaded["source"], signals_in(loaded)
        labels, wrong = signals["labels"], []
        for cell in cells_of(context):
            budget = resolve_keep(cell.keep, len(labels))
            settings: dict[str, Any] = {}
            keep = np.ones(len(labels), dtype=bool)
            if cell.selection != "full":
                given = getattr(config, cell.name).model_dump() if cell.name in sections else {}
                picked = tuning.get(cell.selection, {}).get("settings", {})
                settings = {name: picked.get(name) if value is None else value for name, value in given.items()}
                keep = choose(study.selections[cell.name], signals, budget=budget, seed=cell.seed, settings=settings)
            store.save(key, keep, cell)
            store.save(dg.AssetKey([study.name, "subset_settings"]), settings, cell)
            wrong += [str(cell)] if keep.sum() != budget else []
            context.add_asset_metadata(
                {
                    "kept": int(keep.sum()),
                    "of": len(labels),
                    "settings": dg.MetadataValue.json(settings),
                    "class balance": dg.MetadataValue.md(class_balance(labels, keep, source["label_names"])),
                },
                asset_key=key,
                partition_key=str(cell),
            )
        return dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(
                    passed=not wrong,
                    check_name="budget_exact",
                    description=f"off the budget: {', '.join(wrong)}" if wrong else "every subset has its exact budget",
                )
            ]
        )

    return subset


def manifest_asset(study: Study) -> dg.AssetsDefinition:
    """The exported selection of each cell."""
    key = dg.AssetKey([study.name, "manifest"])
    read = {name: signals_read(selection) & set(study.scores) for name, selection in study.selections.items()}
    used = sorted(set().union(*read.values()))

    @dg.asset(
        key=key,
        ins={name: dg.AssetIn(dg.AssetKey([study.name, name])) for name in ("subset", "samples", "source")}
        | {f"score_{name}": dg.AssetIn(dg.AssetKey([study.name, "scores", name])) for name in used},
        partitions_def=partitions_of(study),
        backfill_policy=dg.BackfillPolicy.single_run(),
        description="A folder that says what was kept, of which data, by which scores and settings, with checksums.",
        check_specs=[dg.AssetCheckSpec("verifies", asset=key)],
        group_name=study.name,
    )
    def manifest(
        context: dg.AssetExecutionContext,
        store: dg.ResourceParam[Store],
        subset: Any,
        samples: Any,
        source: Any,
        **scores: Any,
    ) -> dg.MaterializeResult:
        table, faults = samples.collect(), []
        for cell in cells_of(context):
            settings = store.load(dg.AssetKey([study.name, "subset_settings"]), cell)
            written = Manifest.write(
                store.place(key, cell),
                table,
                np.asarray(subset[cell]),
                provenance_of(study, cell, source, settings, len(table)),
                scores={name: np.asarray(scores[f"score_{name}"]) for name in sorted(read.get(cell.name, ()))},
                label_names=source["label_names"],
                overwrite=True,
            )
            try:
                Manifest.load(written.path, verify=True)
            except ValueError as error:
                faults.append(str(error))
            context.add_asset_metadata(
                {"path": dg.MetadataValue.path(written.path.resolve()), "kept": int(np.sum(subset[cell]))},
                asset_key=key,
                partition_key=str(cell),
            )
        return dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(
                    passed=not faults, check_name="verifies", description="; ".join(faults) or "every manifest verifies"
                )
            ]
        )

    return manifest


def provenance_of(study: Study, cell: Cell, source: dict[str, Any], settings: dict[str, Any], count: int) -> Provenance:
    """All that a manifest says of how its rows were chosen."""
    selection = study.selections.get(cell.name)
    read = [name for name in sorted(signals_read(selection)) if name in study.scores] if selection else []
    return Provenance(
        dataset=study.name,
        revision=source["revision"],
        columns=study.columns.model_dump(exclude_none=True),
        selection=cell.name,
        selector=selection.selector if selection else "full",
        selector_version=selection.declared.version if selection else "1",
        settings=settings,
        keep=cell.keep,
        budget=resolve_keep(cell.keep, count),
        seed=cell.seed,
        scores=tuple(
            ScoreCard.of(study.scores[name].declared.card, name=name, settings=study.scores[name].settings)
            for name in read
        ),
    )
