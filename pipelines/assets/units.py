"""Assets of a study of units: `prepared` by seed, `pruned` by arm, budget and seed with a manifest, and `report`."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from secateur.pipelines.assets.asset import key_of, study_asset, trials_of
from secateur.pipelines.assets.facts import facts_of_trial, rounded, tidy
from secateur.pipelines.assets.launchpad import form
from secateur.pipelines.assets.resources import ProgressDisplay
from secateur.pipelines.assets.written_report import page_link, with_link, written_report
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.masks import Masks
from secateur.pipelines.manifests.provenance import Provenance
from secateur.pipelines.pages.report import build_report
from secateur.pipelines.runs.outcomes import outcomes_in
from secateur.pipelines.runs.resumption import snapshots_of
from secateur.pipelines.storage.ledger import Ledger, digest_of, machine_parts
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.named_inputs import contents_of
from secateur.pipelines.studies.units import PruningStudy
from secateur.scorers.contract import naming
from secateur.selectors.contract import resolve_keep
from secateur.trainers.experiments.contract import Experiment, Result
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.pruning.kept import Kept
from secateur.trainers.tasks.contract import deciding_first


def unit_definitions(study: PruningStudy, base: Path) -> dg.Definitions:
    """The assets of one study, which reads no files of its own."""
    return dg.Definitions([prepared_asset(study), pruned_asset(study), report_asset(study)])


def prepared_asset(study: PruningStudy) -> dg.AssetsDefinition:
    """The common start of all arms of a seed, with their settings."""
    key, declared = key_of(study, "prepared"), study.declared
    Config = form(declared.settings, study.settings)

    @study_asset(
        study,
        "prepared",
        trials="seeds",
        description=f"The common start of all arms of a seed. {declared.claim} ({declared.paper})",
        accelerated=True,
    )
    def prepared(
        context: dg.AssetExecutionContext,
        config: Config,  # type: ignore[valid-type]
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
    ) -> None:
        chosen = declared.settings(**config.model_dump())  # type: ignore[attr-defined]
        settings, named = chosen.model_dump(mode="json"), contents_of(chosen)

        def prepare(trial: Trial, made_of: str) -> None:
            experiment = declared(**settings)
            experiment.snapshots = snapshots_of(secateur_store, study.name, f"prepared/{trial}", made_of)
            told, started = secateur_progress.start(context, f"preparing {trial.title}", part=True), time.perf_counter()
            with secateur_store.folder(key, trial) as folder, naming(f"the part shared by all arms of {trial.title}"):
                experiment.prepare(trial.seed, folder, told)
            record = {"settings": settings, "named": named, "seconds": time.perf_counter() - started}
            secateur_store.save(key_of(study, "prepared_record"), record, trial)

        for trial in trials_of(context):
            parts = {"experiment": study.experiment, "version": declared.version, "settings": settings, "named": named}
            made_of = digest_of(**parts, seed=trial.seed, **machine_parts())
            beside = key_of(study, "prepared_record")
            Ledger(secateur_store).once(key, trial, made_of, partial(prepare, trial, made_of), beside=[beside])
            record = secateur_store.load(beside, trial)
            context.add_asset_metadata(
                {
                    "path": dg.MetadataValue.path(secateur_store.place(key, trial).resolve()),
                    "seconds": rounded(record["seconds"]),
                },
                asset_key=key,
                partition_key=str(trial),
            )

    return prepared


def pruned_asset(study: PruningStudy) -> dg.AssetsDefinition:
    """The outcome of each arm, and a manifest of its kept units."""
    key = key_of(study, "pruned")

    @study_asset(
        study,
        "pruned",
        deps=[
            dg.AssetDep(key_of(study, "prepared"), partition_mapping=dg.MultiToSingleDimensionPartitionMapping("seed"))
        ],
        trials="all",
        description=f"Outcome of each arm: {study.declared.metrics[0].name} and other measures, and a manifest of "
        f"the {study.declared.unit}s that it kept. A trial whose inputs are those of the outcome that is there is not "
        "run again.",
        check_specs=[dg.AssetCheckSpec("budget_held", asset=key)],
        accelerated=True,
    )
    def pruned(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
    ) -> dg.MaterializeResult:
        over, trials = [], trials_of(context)
        all_trials = secateur_progress.start(context, "arms")
        for number, trial in enumerate(trials):
            outcome = run_trial(study, trial, secateur_store, context, secateur_progress)
            kept, of, arm = outcome.kept, outcome.of, trial.name in study.arms
            if kept is not None and of is not None and arm and kept > resolve_keep(float(trial.keep), of):
                over.append(f"{trial} keeps {kept} of {of}")
            told = {"path": dg.MetadataValue.path(secateur_store.place(key_of(study, "manifest"), trial).resolve())}
            context.add_asset_metadata(
                facts_of_trial(trial)
                | tidy({**outcome.metrics, "seconds": outcome.seconds})
                | ({**told, "kept": kept, "of": of} if kept is not None else {}),
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
) -> Outcome:
    """Run an arm, or reuse its outcome for equal inputs; writes the outcome after its manifest."""
    key, seed, ledger = key_of(study, "pruned"), Trial("", trial.seed), Ledger(store)
    shared = ledger.entry(key_of(study, "prepared"), seed)
    prepared = store.find(key_of(study, "prepared"), seed)
    if prepared is None or shared is None:
        raise FileNotFoundError(
            f"{study.name}: nothing is prepared for seed {trial.seed}; materialise `prepared` first"
        )

    record = store.load(key_of(study, "prepared_record"), seed)
    settings, named = record["settings"], contents_of(study.declared.settings(**record["settings"]))
    before = record.get("named", {})
    if other := [key for key in named | before if named.get(key) != before.get(key)]:
        raise ValueError(
            f"{study.name}: what settings.{other[0]} names has changed since seed {trial.seed} was prepared; "
            "materialise `prepared` again"
        )
    experiment = study.declared(**settings)
    versions = experiment.versions(trial.name)

    def work() -> None:
        told, started = progress.start(context, trial.title, part=True), time.perf_counter()
        with naming(trial.title):
            result = experiment.run(trial.name, float(trial.keep), trial.seed, prepared, told)
        outcome = checked_outcome(experiment, trial, result, time.perf_counter() - started)
        if result.kept is not None:
            provenance = provenance_of(study, trial, result.kept, settings, versions, shared.made_of)
            with store.recorded(manifest, trial) as place:
                Manifest.write(place, Masks.of(result.kept), provenance, overwrite=True)
        store.save(key, outcome.model_dump(mode="json"), trial)

    manifest = key_of(study, "manifest")
    made_of = digest_of(prepared=shared.made_of, arm=trial.name, keep=trial.keep, versions=versions)
    return Outcome.read(ledger.once(key, trial, made_of, work, beside=[manifest]), f"outcome of {trial}")


def checked_outcome(experiment: Experiment, trial: Trial, result: Result, seconds: float) -> Outcome:
    """The outcome with the counts of its mask; raises ValueError if it lacks the deciding metric or has an undeclared
    one."""
    name, outcome = type(experiment).__name__, result.outcome
    declared = [metric.name for metric in experiment.metrics]
    if declared[0] not in outcome.metrics:
        raise ValueError(f"{name}: {trial} has {', '.join(outcome.metrics)}, but not {declared[0]}, which decides")
    if others := [metric for metric in outcome.metrics if metric not in declared]:
        raise ValueError(f"{name}: {trial} has {', '.join(others)}; add it to the experiment's `metrics`")
    kept = {} if result.kept is None else {"kept": result.kept.count, "of": result.kept.of}
    return outcome.model_copy(update={**kept, "seconds": round(seconds, 3)})


def provenance_of(
    study: PruningStudy, trial: Trial, kept: Kept, settings: dict[str, Any], versions: dict[str, str], prepared: str
) -> Provenance:
    """A manifest's record of its selection of units."""
    return Provenance(
        dataset=study.name,
        revision=prepared,
        selection=trial.selection,
        selector=f"{study.experiment}.{trial.name}",
        selector_version=", ".join(f"{name} {version}" for name, version in versions.items()),
        settings=settings,
        keep=float(trial.keep),
        budget=kept.count,
        seed=trial.seed,
    )


def report_asset(study: PruningStudy) -> dg.AssetsDefinition:
    """The report: every arm compared with random at the same budget."""
    key, declared = key_of(study, "report"), study.declared

    @study_asset(
        study,
        "report",
        ins=("pruned",),
        description=with_link(
            study,
            "Every arm beside random at the same budget, and beside the unpruned model, over seeds, with "
            "intervals and a verdict.",
        ),
        metadata=page_link(study),
    )
    def report(secateur_store: dg.ResourceParam[Store], pruned: Any) -> dg.MaterializeResult:
        outcomes = outcomes_in(study, pruned)
        seed = Trial("", next(iter(outcomes)).seed)
        experiment = declared(**secateur_store.load(key_of(study, "prepared_record"), seed)["settings"])
        pictures = experiment.pictures({(t.name, float(t.keep), t.seed): each for t, each in outcomes.items()})
        claim = f"The claim under test: {declared.claim} ({declared.paper})"
        metrics = deciding_first(experiment.metrics, study.metric)
        return written_report(secateur_store, key, build_report(study, outcomes, claim, metrics=metrics), pictures)

    return report
