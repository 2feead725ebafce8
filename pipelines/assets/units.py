"""Assets of a study of units: `prepared` by seed, `pruned` by arm, budget and seed with a manifest, and `report`."""

import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import dagster as dg

from secateur.pipelines.assets.launchpad import form
from secateur.pipelines.assets.resources import ACCELERATOR, IO_MANAGER, ProgressDisplay
from secateur.pipelines.assets.subsets import partitions_of, trials_of
from secateur.pipelines.manifests.masks import LISTED, UnitManifest
from secateur.pipelines.manifests.provenance import Provenance
from secateur.pipelines.pages.unit_report import build_unit_report, page_of_units
from secateur.pipelines.storage.ledger import Ledger, digest_of, machine_parts
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.units import PruningStudy
from secateur.selectors.contract import resolve_keep
from secateur.trainers.experiments.contract import Outcome


def unit_assets(study: PruningStudy) -> list[dg.AssetsDefinition]:
    """The assets of one study."""
    return [prepared_asset(study), pruned_asset(study), report_asset(study)]


def key_of(study: PruningStudy, name: str) -> dg.AssetKey:
    return dg.AssetKey([study.name, name])


def prepared_asset(study: PruningStudy) -> dg.AssetsDefinition:
    """What all arms of a seed share, with the settings that they go by."""
    key, declared = key_of(study, "prepared"), study.declared
    Config = form(declared.settings, study.settings)

    @dg.asset(
        io_manager_key=IO_MANAGER,
        key=key,
        partitions_def=dg.StaticPartitionsDefinition([str(seed) for seed in range(study.seeds)]),
        backfill_policy=dg.BackfillPolicy.single_run(),
        description=f"What all arms of a seed start from. {declared.claim} ({declared.paper})",
        group_name=study.name,
        pool=ACCELERATOR,
    )
    def prepared(
        context: dg.AssetExecutionContext,
        config: Config,  # type: ignore[valid-type]
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
    ) -> None:
        settings = declared.settings(**config.model_dump()).model_dump(mode="json")  # type: ignore[attr-defined]

        def prepare(trial: Trial) -> None:
            told, started = secateur_progress.start(context, f"preparing seed {trial.seed}"), time.perf_counter()
            with secateur_store.folder(key, trial) as folder:
                declared(**settings).prepare(trial.seed, folder, told)
            record = {"settings": settings, "seconds": time.perf_counter() - started}
            secateur_store.save(key_of(study, "prepared_record"), record, trial)

        for trial in trials_of(context):
            parts = {"experiment": study.experiment, "version": declared.version, "settings": settings}
            made_of = digest_of(**parts, seed=trial.seed, **machine_parts())
            beside = key_of(study, "prepared_record")
            Ledger(secateur_store).once(key, trial, made_of, partial(prepare, trial), beside=[beside])
            record = secateur_store.load(beside, trial)
            context.add_asset_metadata(
                {
                    "path": dg.MetadataValue.path(secateur_store.place(key, trial).resolve()),
                    "seconds": record["seconds"],
                },
                asset_key=key,
                partition_key=str(trial),
            )

    return prepared


def pruned_asset(study: PruningStudy) -> dg.AssetsDefinition:
    """What each arm came to, and a manifest of what it kept."""
    key = key_of(study, "pruned")

    @dg.asset(
        io_manager_key=IO_MANAGER,
        key=key,
        deps=[
            dg.AssetDep(key_of(study, "prepared"), partition_mapping=dg.MultiToSingleDimensionPartitionMapping("seed"))
        ],
        partitions_def=partitions_of(study),
        backfill_policy=dg.BackfillPolicy.single_run(),
        description=f"What each arm came to: {study.declared.metric} and other measures, and a manifest of the "
        f"{study.declared.unit}s that it kept. A trial whose inputs are those of the outcome that is there is not run "
        "again.",
        check_specs=[dg.AssetCheckSpec("budget_held", asset=key)],
        group_name=study.name,
        pool=ACCELERATOR,
    )
    def pruned(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
    ) -> dg.MaterializeResult:
        over, trials = [], trials_of(context)
        all_trials = secateur_progress.start(context, "arms")
        for number, trial in enumerate(trials):
            record = run_trial(study, trial, secateur_store, context, secateur_progress)
            kept, of = record["kept"], record["of"]
            if kept is not None and trial.name in study.arm_names and kept > resolve_keep(float(trial.keep), of):
                over.append(f"{trial} keeps {kept} of {of}")
            told = {"path": dg.MetadataValue.path(secateur_store.place(key_of(study, "manifest"), trial).resolve())}
            context.add_asset_metadata(
                {
                    **record["metrics"],
                    **({**told, "kept": kept, "of": of} if kept is not None else {}),
                    "seconds": record["seconds"],
                },
                asset_key=key,
                partition_key=str(trial),
            )
            all_trials(number + 1, len(trials))
        return dg.MaterializeResult(
            asset_key=key,
            check_results=[
                dg.AssetCheckResult(
                    passed=not over,
                    check_name="budget_held",
                    severity=dg.AssetCheckSeverity.WARN,
                    description="; ".join(over) or "no arm keeps more than its budget, counted in its mask",
                )
            ],
        )

    return pruned


def run_trial(
    study: PruningStudy, trial: Trial, store: Store, context: dg.AssetExecutionContext, progress: ProgressDisplay
) -> dict[str, Any]:
    """Run an arm, or find that it was run before of the same; the record of its outcome, written after its manifest."""
    key, seed, ledger = key_of(study, "pruned"), Trial("", trial.seed), Ledger(store)
    shared = ledger.entry(key_of(study, "prepared"), seed)
    prepared = store.find(key_of(study, "prepared"), seed)
    if prepared is None or shared is None:
        raise FileNotFoundError(
            f"{study.name}: nothing is prepared for seed {trial.seed}; materialise `prepared` first"
        )

    def work() -> None:
        told, started = progress.start(context, f"{trial.selection}, seed {trial.seed}"), time.perf_counter()
        settings = store.load(key_of(study, "prepared_record"), seed)["settings"]
        outcome = study.declared(**settings).run(trial.name, float(trial.keep), trial.seed, prepared, told)
        metrics = checked_metrics(study, trial, outcome)
        if outcome.kept is not None:
            provenance = provenance_of(study, trial, outcome, settings, shared.made_of)
            manifest = store.place(key_of(study, "manifest"), trial)
            UnitManifest.write(manifest, outcome.kept, provenance, overwrite=True)
        record = {
            "metrics": metrics,
            "kept": None if outcome.kept is None else outcome.kept.count,
            "of": None if outcome.kept is None else outcome.kept.of,
            "samples": int(outcome.samples),
            "seconds": round(time.perf_counter() - started, 3),
            "facts": dict(outcome.facts),
        }
        store.save(key, record, trial)

    made_of = digest_of(prepared=shared.made_of, arm=trial.name, keep=trial.keep)
    record: dict[str, Any] = ledger.once(key, trial, made_of, work, beside=[key_of(study, "manifest")])
    return record


def checked_metrics(study: PruningStudy, trial: Trial, outcome: Outcome) -> dict[str, float]:
    """Metrics as plain numbers; raises ValueError for one that is NaN or infinite, and where the compared one lacks."""
    metrics = {name: float(value) for name, value in outcome.metrics.items()}
    if study.declared.metric not in metrics:
        raise ValueError(f"{study.experiment}: {trial} told {', '.join(metrics)}, but not {study.declared.metric}")
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        raise ValueError(f"{study.experiment}: {trial} came to a {bad[0]} of {metrics[bad[0]]}, which is no result")
    return metrics


def provenance_of(
    study: PruningStudy, trial: Trial, outcome: Outcome, settings: dict[str, Any], prepared: str
) -> Provenance:
    """All that a manifest says of how its units were chosen."""
    assert outcome.kept is not None
    return Provenance(
        dataset=study.name,
        revision=prepared,
        selection=trial.selection,
        selector=f"{study.experiment}.{trial.name}",
        selector_version=study.declared.version,
        settings=settings,
        keep=float(trial.keep),
        budget=outcome.kept.count,
        seed=trial.seed,
    )


def report_asset(study: PruningStudy) -> dg.AssetsDefinition:
    """Every arm beside random at the same budget."""
    key, declared = key_of(study, "report"), study.declared

    @dg.asset(
        io_manager_key=IO_MANAGER,
        key=key,
        ins={"pruned": dg.AssetIn(key_of(study, "pruned"))},
        description="Every arm beside random at the same budget, and beside what is not pruned, over seeds, with "
        "intervals and a verdict.",
        group_name=study.name,
    )
    def report(secateur_store: dg.ResourceParam[Store], pruned: Any) -> dg.MaterializeResult:
        known = {trial: pruned[trial] for trial in study.trials if trial in pruned}
        outcomes = {
            (trial.name, float(trial.keep), trial.seed): outcome_of(study, trial, record, secateur_store)
            for trial, record in known.items()
        }
        settings = secateur_store.load(key_of(study, "prepared_record"), Trial("", next(iter(known)).seed))["settings"]
        built = build_unit_report(study, known)
        page = page_of_units(built, declared(**settings).pictures(outcomes))
        with secateur_store.folder(key) as folder:
            page.write(folder)
        judged = [row.against_random for row in built.rows if row.against_random]
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path((secateur_store.place(key) / "report.html").resolve()),
                "report": dg.MetadataValue.md(page.markdown()),
                "arms better than random": sum(found.verdict.startswith("better") for found in judged),
                "arms worse than random": sum(found.verdict.startswith("worse") for found in judged),
            }
        )

    return report


def outcome_of(study: PruningStudy, trial: Trial, record: Mapping[str, Any], store: Store) -> Outcome:
    """An outcome as the experiment gave it; masks are read back where units are few, for pictures of them."""
    kept = None
    if record["kept"] is not None and study.declared.unit in LISTED:
        kept = UnitManifest.load(store.place(key_of(study, "manifest"), trial), verify=False).kept
    return Outcome(record["metrics"], kept, record["samples"], record["facts"])
