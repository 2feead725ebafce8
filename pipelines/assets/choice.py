"""Assets of a study without training: its inputs, `subset` and `manifest` of each trial, and `report`."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from secateur.pipelines.assets.asset import ins_of, key_of, study_asset, trials_of
from secateur.pipelines.assets.audit import audit_asset
from secateur.pipelines.assets.choice_data import embeddings_asset, prepare_asset, previews_of, score_asset
from secateur.pipelines.assets.choice_target import target_assets
from secateur.pipelines.assets.own_inputs import brought_card
from secateur.pipelines.assets.recurring import DRIFT, compared, drift_checks, recurrence
from secateur.pipelines.assets.subsets import verifies, write_manifest
from secateur.pipelines.assets.written_report import page_link
from secateur.pipelines.data.fingerprints import fingerprint
from secateur.pipelines.data.scan import rows_in
from secateur.pipelines.data.stored_targets import strata_in
from secateur.pipelines.manifests.kept_rows import check_samples
from secateur.pipelines.manifests.origin import FileRows, Origin
from secateur.pipelines.manifests.provenance import Provenance, Spent, TargetCard
from secateur.pipelines.manifests.rows import Rows
from secateur.pipelines.pages.choice_report import Made, choice_page
from secateur.pipelines.runs.audit_told import audit_sentences, audit_told
from secateur.pipelines.runs.drift import scoring_of
from secateur.pipelines.runs.findings import findings_of
from secateur.pipelines.runs.own_choice import Brought, Chosen, chosen_of
from secateur.pipelines.runs.target_signals import StoredTarget
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.grid import RANDOM, Trial
from secateur.pipelines.studies.target import OF_SOURCES, OF_TARGET
from secateur.trainers.judging.outcome import Cost


def choice_definitions(study: Choice, base: Path) -> dg.Definitions:
    """The assets of one study; relative paths in it start at `base`."""
    assets = [
        prepare_asset(study, base),
        *(score_asset(study, name, base) for name in study.scores),
        *([embeddings_asset(study, base)] if study.embeddings else []),
        *target_assets(study, base),
        subset_asset(study),
        manifest_asset(study),
        report_asset(study),
        audit_asset(study, base, origin_of),
    ]
    return recurrence(study, base, assets, drift_asset(study)) if study.recurring else dg.Definitions(assets)


def inputs_of(study: Choice) -> dict[str, dg.AssetIn]:
    """Inputs of the subsets."""
    ordered = study.target_signals & OF_TARGET
    found = ins_of(study, "samples", "source", *(["embeddings"] if study.embeddings else []), *sorted(ordered))
    found |= ins_of(study, "target") if study.target else {}
    return found | {f"score_{name}": dg.AssetIn(key_of(study, "scores", name)) for name in study.scores}


def brought_by(study: Choice, loaded: Mapping[str, Any], store: Store) -> Brought:
    """Contents of the study's assets, as the inputs of selections."""
    held = rows_in(store.load(key_of(study, "rows")) / "train")
    known: dict[str, pl.Series] = {}

    def column(name: str) -> pl.Series:
        if name not in known:
            values = held.column(name)
            known[name] = values.cast(pl.Int64) if values.dtype == pl.Boolean else values
        return known[name]

    def own_sources() -> list[Any]:
        assert study.target
        return StoredTarget(loaded["target"]).own_sources(study.target)

    return Brought(
        strata=strata_in(loaded["samples"].select("stratum").collect()),
        column=column,
        scores={name: np.asarray(loaded[f"score_{name}"]) for name in study.scores},
        embeddings=loaded.get("embeddings"),
        group=study.columns.group,
        of_target={name: np.asarray(loaded[name]) for name in study.target_signals & OF_TARGET},
        own_sources=own_sources,
    )


def subset_asset(study: Choice) -> dg.AssetsDefinition:
    """The keep mask of each trial."""
    key = key_of(study, "subset")

    @study_asset(
        study, "subset", ins=inputs_of(study), trials="all",
        description="Which samples stay: a keep mask, true where a sample is kept. A group stays or goes whole, and "
        "kept rows never come to more than the budget. NAME+random is as much at random.",
    )  # fmt: skip
    def subset(context: dg.AssetExecutionContext, secateur_store: dg.ResourceParam[Store], **loaded: Any) -> None:
        brought = brought_by(study, loaded, secateur_store)
        # Select all before writing the first: a budget that cannot be met leaves no partial output.
        for trial, chosen in list(chosen_of(study, trials_of(context), brought)):
            secateur_store.save(key, chosen.keep, trial)
            secateur_store.save(key_of(study, "subset_settings"), dict(chosen.settings), trial)
            secateur_store.save(key_of(study, "subset_spent"), spent_as_told(chosen), trial)
            secateur_store.save(key_of(study, "subset_cost"), vars(Cost(seconds=chosen.seconds)), trial)
            context.add_asset_metadata(facts_of(chosen), asset_key=key, partition_key=str(trial))

    return subset


def spent_as_told(chosen: Chosen) -> dict[str, Any]:
    """Cost of the kept rows, and whether it is the plain number of rows, which a manifest omits."""
    return {"plain": chosen.plain, **asdict(chosen.spent)}


def facts_of(chosen: Chosen) -> dict[str, Any]:
    """Metadata of a subset for the UI."""
    spent = chosen.spent
    told = {
        f"{spent.unit} kept": spent.total,
        f"{spent.unit} allowed": spent.limit,
        f"{spent.unit} in all": spent.whole,
    }
    more = {"groups kept": spent.groups} if spent.groups is not None else {}
    return {"kept": int(chosen.keep.sum()), "of": len(chosen.keep), **told, **more, "seconds": chosen.seconds}


def manifest_asset(study: Choice) -> dg.AssetsDefinition:
    """The exported selection of each trial."""
    key = key_of(study, "manifest")

    @study_asset(
        study, "manifest", ins=inputs_of(study) | ins_of(study, "subset"), trials="all",
        description="A folder with the kept rows, their data, scores and settings, and checksums.",
        check_specs=[dg.AssetCheckSpec("verifies", asset=key)],
    )  # fmt: skip
    def manifest(
        context: dg.AssetExecutionContext, secateur_store: dg.ResourceParam[Store], subset: Any, **loaded: Any
    ) -> dg.MaterializeResult:
        brought, source = brought_by(study, loaded, secateur_store), loaded["source"]
        table, origin = with_group(study, loaded["samples"].collect(), brought), origin_of(study, source)
        faults: list[str] = []
        check_samples(table, np.zeros(len(table), np.bool_))
        known = fingerprint(table["content_hash"])
        for trial in trials_of(context):
            settings = secateur_store.load(key_of(study, "subset_settings"), trial)
            spent = secateur_store.load(key_of(study, "subset_spent"), trial)
            kept = int(np.sum(subset[trial]))
            provenance = provenance_of(study, trial, source, settings, spent, kept, target_card(study, trial, loaded))
            rows = Rows.chosen(
                with_costs(table, study, trial, brought), np.asarray(subset[trial]),
                scores={card.name: brought.scores[card.name] for card in provenance.scores},
                label_names=source["strata"], origin=origin, known=known,
            )  # fmt: skip
            written = write_manifest(secateur_store, key, trial, rows, provenance, faults)
            facts = {"path": dg.MetadataValue.path(written.path.resolve()), "kept": provenance.budget}
            context.add_asset_metadata(facts, asset_key=key, partition_key=str(trial))
        return dg.MaterializeResult(check_results=[verifies(faults)])

    return manifest


def report_asset(study: Choice) -> dg.AssetsDefinition:
    """The report: the selected rows beside random ones."""
    key = key_of(study, "report")

    @study_asset(
        study, "report", ins=inputs_of(study) | ins_of(study, "subset"), deps=[key_of(study, "manifest")],
        description="The chosen rows, beside as many at random. Nothing was trained, so nothing says that a "
        "selection is better than random.",
        metadata=page_link(study),
    )  # fmt: skip
    def report(secateur_store: dg.ResourceParam[Store], subset: Any, **loaded: Any) -> dg.MaterializeResult:
        trials = [trial for trial in study.trials if trial in subset]
        spent = {trial: secateur_store.load(key_of(study, "subset_spent"), trial) for trial in trials}
        made = Made(
            study, {trial: np.asarray(subset[trial]) for trial in trials}, spent,
            brought_by(study, loaded, secateur_store), loaded["samples"].collect(), loaded["source"]["files"],
        )  # fmt: skip
        audited = audit_sentences(audit_told(secateur_store, study))
        page = choice_page(made, findings_of(secateur_store, study), previews_of(study, secateur_store), audited)
        with secateur_store.folder(key) as folder:
            page.write(folder)
        path = dg.MetadataValue.path((secateur_store.place(key) / "report.html").resolve())
        return dg.MaterializeResult(metadata={"path": path, "report": dg.MetadataValue.md(page.markdown())})

    return report


def drift_asset(study: Choice) -> dg.AssetsDefinition:
    """Compares the current scores and selections with the last ones."""
    key, recurring = key_of(study, "drift"), study.recurring
    assert recurring

    @study_asset(study, "drift", ins=inputs_of(study), description=DRIFT, check_specs=drift_checks(key))
    def drift(secateur_store: dg.ResourceParam[Store], **loaded: Any) -> dg.MaterializeResult:
        brought = brought_by(study, loaded, secateur_store)
        trials = [Trial(key, 0) for key in study.selection_keys if not Trial(key, 0).name.endswith(RANDOM)]
        kept = {trial.selection: chosen.keep for trial, chosen in chosen_of(study, trials, brought)}
        hashes = loaded["samples"].select("content_hash").collect()["content_hash"]
        return compared(secateur_store, key, scoring_of(hashes, dict(brought.scores), kept), recurring.drift)

    return drift


def with_group(study: Choice, table: pl.DataFrame, brought: Brought) -> pl.DataFrame:
    """The table of samples, with the group column as texts if the study has one."""
    if study.columns.group is None:
        return table
    return table.with_columns(brought.column(study.columns.group).cast(pl.String).alias("group"))


def with_costs(table: pl.DataFrame, study: Choice, trial: Trial, brought: Brought) -> pl.DataFrame:
    """The table of samples, with each row's cost if the budget is of a column."""
    costs = brought.costs(study.budget_of(trial))
    return table if costs is None else table.with_columns(pl.Series("cost", costs.astype(np.float64)))


def origin_of(study: Choice, source: Mapping[str, Any]) -> Origin:
    """Files of a manifest's rows, and how to read them."""
    return Origin(
        files=tuple(FileRows(name=name, rows=rows) for name, rows in source["training_files"]),
        types=source["types"],
        separator=getattr(study.source, "separator", ","),
        charset=getattr(study.source, "charset", "utf-8"),
        label_names=tuple(source["label_names"]),
        policies=study.data.model_dump(mode="json"),
        dropped=source["dropped"],
    )


def provenance_of(
    study: Choice,
    trial: Trial,
    source: Mapping[str, Any],
    settings: dict[str, Any],
    spent: dict[str, Any],
    kept: int,
    target: TargetCard | None,
) -> Provenance:
    """A manifest's record of its selection."""
    random, selection = trial.name.endswith(RANDOM), study.selection_of(trial)
    quotas: dict[str, Any] = {"by": selection.by, "share": selection.share} if selection.by else {}
    read = [] if random else selection.scores_read(study.scores)
    told = {name: value for name, value in spent.items() if name != "plain"}
    return Provenance(
        dataset=study.name,
        revision=source["revision"],
        columns=study.columns.model_dump(mode="json", exclude_none=True),
        selection=trial.name,
        selector="uniform_random" if random else selection.selector,
        selector_version="1" if random else selection.chosen.version,
        settings=settings if random else settings | quotas,
        keep=study.budget_of(trial),
        budget=kept,
        seed=trial.seed,
        spent=None if spent["plain"] else Spent(**told),
        scores=tuple(brought_card(name, study.scores[name]) for name in read),
        target=target,
    )


def target_card(study: Choice, trial: Trial, loaded: Mapping[str, Any]) -> TargetCard | None:
    """A manifest's record of the target that its rows follow; None if they follow none."""
    read = set() if trial.name.endswith(RANDOM) else set(study.selection_of(trial).reads)
    if not read & (OF_TARGET | (OF_SOURCES - {"sources"})):
        return None
    return TargetCard.of(StoredTarget(loaded["target"]).facts)
