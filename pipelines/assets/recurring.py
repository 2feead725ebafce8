"""Recurring rescoring of a study: a schedule, a sensor of its source, automation of stale assets, and a drift check.

An asset is stale when the content of one of its inputs, or the version of its scorer, has changed since it was made. An
asset remade with equal content makes no other asset stale.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from secateur.pipelines.assets.asset import key_of, study_asset
from secateur.pipelines.assets.facts import tidy
from secateur.pipelines.assets.inputs import besides_of, inputs_for, signals_in
from secateur.pipelines.data.sources import SourceError, stamp_of
from secateur.pipelines.files.contents import remembered
from secateur.pipelines.runs.choosing import kept_at, read_by, signals_read
from secateur.pipelines.runs.drift import compare_scorings, numbers_of, scoring_of, table_of, turn_over
from secateur.pipelines.runs.proxy import contents_searched
from secateur.pipelines.runs.units_of_rows import columns_in
from secateur.pipelines.storage.ledger import digest_of
from secateur.pipelines.storage.records import StoredError
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.grid import selection_key
from secateur.pipelines.studies.named_inputs import contents_of
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.sections import Drift
from secateur.pipelines.studies.selection import Selection
from secateur.pipelines.studies.signals import CHOICE, DATA, SCORING, TRAINING
from secateur.pipelines.studies.study import CONTENTS, SOURCE
from secateur.selectors.contract import Selector

TRAVEL = {"scores": (), "manifest": CHOICE, "report": (*CHOICE, *TRAINING)}
"""Assets after the scores to which a change propagates, by the study's value of `refresh`."""

RESCORED = (*DATA, *SCORING, "drift", "audit")
"""Assets that a rescoring remakes."""
LEVELS = 6
"""Longest path from a score to the report: how far upstream a stale asset makes others wait."""


def stale() -> dg.AutomationCondition:
    """True for an asset behind its inputs or its own code version, once everything upstream is up to date.

    Without the wait, a manifest would combine new samples with the old subset.
    """
    when = dg.AutomationCondition
    changed = when.any_deps_match(when.data_version_changed()) | when.code_version_changed()
    behind = changed.since_last_handled()
    waiting = when.any_deps_match(behind)
    for _ in range(LEVELS - 1):
        waiting = when.any_deps_match(behind | waiting)
    return behind & ~waiting & ~when.any_deps_missing() & ~when.any_deps_in_progress() & ~when.in_progress()


def recurrence(
    study: Study | Choice, base: Path, assets: Iterable[dg.AssetsDefinition], drift: dg.AssetsDefinition
) -> dg.Definitions:
    """The study's assets and its drift, with conditions, and the job, schedule and sensors of rescoring."""
    assert study.recurring
    refreshed = {*SCORING, "drift", "audit", *TRAVEL[study.recurring.refresh]}

    def conditioned(spec: dg.AssetSpec) -> dg.AssetSpec:
        mine = spec.key.path[0] == study.name and spec.key.path[1] in refreshed
        return spec.replace_attributes(automation_condition=stale()) if mine else spec

    every: list[Any] = [*assets, drift]
    made = list(dg.map_asset_specs(conditioned, every))
    keys = [spec.key for definition in made for spec in definition.specs]
    job: Any = dg.define_asset_job(
        f"{study.name}_rescoring",
        selection=dg.AssetSelection.assets(*(key for key in keys if key.path[1] in RESCORED)),
        description=f"Read the source of {study.name} again, score it, and compare with the last scoring.",
    )
    schedules = []
    if study.recurring.cron:
        schedules.append(
            dg.ScheduleDefinition(
                name=f"{study.name}_schedule",
                job=job,
                cron_schedule=study.recurring.cron,
                execution_timezone=study.recurring.timezone,
                description=f"Scores {study.name} again at {study.recurring.cron} ({study.recurring.timezone}).",
            )
        )
    refresh = dg.AutomationConditionSensorDefinition(
        f"{study.name}_refresh",
        target=dg.AssetSelection.groups(study.name),
        description=f"Refreshes stale assets of {study.name}, as far as its {study.recurring.refresh}.",
    )
    watch = [source_sensor(study, base, job)] if study.recurring.watch_seconds else []
    return dg.Definitions(made, jobs=[job], schedules=schedules, sensors=[refresh, *watch])


def source_sensor(study: Study | Choice, base: Path, job: Any) -> dg.SensorDefinition:
    """Requests a rescoring when the content of an input of the study, or its commit on the hub, has changed."""
    assert study.recurring
    prepared = key_of(study, "source")

    @dg.sensor(
        name=f"{study.name}_source",
        job=job,
        minimum_interval_seconds=study.recurring.watch_seconds,
        description=f"Scores {study.name} again when its source, or a file or code that it names, changes.",
    )
    def source_changed(
        context: dg.SensorEvaluationContext, secateur_store: dg.ResourceParam[Store]
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            stamp = stamp_now(study, base, secateur_store)
        except (SourceError, StoredError, OSError) as error:
            return dg.SkipReason(f"the source of {study.name} cannot be looked at: {error}")
        last = Cursor.read(context.cursor)
        if stamp == last.stamp:
            return dg.SkipReason(f"the source of {study.name} is as it was")
        if context.cursor is None and context.instance.get_latest_materialization_event(prepared):
            told = f"watching the source of {study.name} from now on"
            return dg.SensorResult(skip_reason=told, cursor=Cursor(last.count, stamp).written)
        now = Cursor(last.count + 1, stamp)
        return dg.SensorResult([dg.RunRequest(run_key=f"{now.count}-{stamp}")], cursor=now.written)

    return source_changed


def stamp_now(study: Study | Choice, base: Path, store: Store) -> str:
    """Digest that changes exactly when an input of the study changes; cheap for files with a known digest.

    For a study whose task brings its samples it covers the task's code, but not the data that the code reads. Raises
    SourceError, StoredError or OSError for unreadable inputs, and imports no code of the user.
    """
    cache = store.root / ".cache"
    with remembered(cache / CONTENTS / study.name):
        found = contents_of(study, base) | contents_searched(study, store)
        found |= study.besides(base, cache)
        if study.source:
            found[SOURCE] = stamp_of(study.source, study.read_columns, base, cache)
    return digest_of(contents=found)


@dataclass(frozen=True)
class Cursor:
    """State of a source's sensor: the number of runs it has requested, and the stamp at its last check.

    The count makes every run key unique: data that return to an earlier state are scored again, although Dagster makes
    only one run per key.
    """

    count: int
    stamp: str = ""

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """Parse a written cursor; one of another form, or none, has no stamp and a new count.

        A new count starts at the current time in seconds, beyond the counts of a cursor that somebody has reset.
        """
        try:
            found = json.loads(text or "")
            return cls(int(found["count"]), str(found["stamp"]))
        except (ValueError, TypeError, KeyError):
            return cls(int(time.time()))

    @property
    def written(self) -> str:
        """The cursor as text for Dagster."""
        return json.dumps(asdict(self))


def static_selections(study: Study) -> dict[str, Selection]:
    """Selections that keep the same samples throughout a training, and read scores or other signals."""
    return {
        name: selection
        for name, selection in study.selections.items()
        if isinstance(selection.declared, Selector) and signals_read(selection) - {"strata", "memberships"}
    }


def drift_asset(study: Study) -> dg.AssetsDefinition:
    """Compares the current scoring with the last one."""
    key, recurring, chosen = key_of(study, "drift"), study.recurring, static_selections(study)
    assert recurring

    @study_asset(
        study,
        "drift",
        ins=inputs_for(study, {*study.scores, *read_by(chosen.values())}, *besides_of(study)),
        description=DRIFT,
        check_specs=drift_checks(key),
    )
    def drift(secateur_store: dg.ResourceParam[Store], **loaded: Any) -> dg.MaterializeResult:
        signals = signals_in(loaded)
        kept = subsets_of(study, chosen, signals, columns_in(study, loaded), secateur_store)
        hashes = loaded["samples"].select("content_hash").collect()["content_hash"]
        new = scoring_of(hashes, {name: signals[name] for name in study.scores}, kept)
        return compared(secateur_store, key, new, recurring.drift)

    return drift


DRIFT = (
    "The last two scorings, and how far apart they are: rank correlation of each score, and the share of each subset "
    "that is no longer kept. Samples are matched by content hash."
)


def drift_checks(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Specs of the checks of a drift."""
    return [
        dg.AssetCheckSpec("scores_agree", asset=key, description="Rank correlations are above the study's bound."),
        dg.AssetCheckSpec("subsets_last", asset=key, description="Changes of subsets are below the study's bound."),
    ]


def compared(store: Store, key: dg.AssetKey, new: pl.DataFrame, bounds: Drift) -> dg.MaterializeResult:
    """Replace the last scoring by the new one, and report their differences."""
    with store.folder(key) as folder:
        last = turn_over(store.place(key), folder, new)
    if last is None:
        return dg.MaterializeResult(
            metadata={"scores": dg.MetadataValue.md("This is the first scoring.")},
            check_results=[
                dg.AssetCheckResult(passed=True, check_name=name, description="the first scoring")
                for name in ("scores_agree", "subsets_last")
            ],
        )
    change = compare_scorings(last, new)
    verdicts = zip(("scores_agree", "subsets_last"), change.beyond(bounds), strict=True)
    return dg.MaterializeResult(
        metadata={"drift": dg.MetadataValue.md(table_of(change)), **tidy(numbers_of(change))},
        check_results=[
            dg.AssetCheckResult(
                passed=not faults, check_name=name, description="; ".join(faults) or "within the study's bounds"
            )
            for name, faults in verdicts
        ],
    )


def subsets_of(
    study: Study, chosen: dict[str, Selection], signals: dict[str, np.ndarray], table: pl.DataFrame, store: Store
) -> dict[str, np.ndarray]:
    """Keep mask of each selection at each budget, seed 0; missing settings are the last tuned ones, or defaults."""
    tuning, found = key_of(study, "tuning"), {}
    tuned = store.load(tuning, of_any_samples=True) if store.find(tuning) else {}
    for keep in study.keep:
        for name, selection in chosen.items():
            trial = selection_key(name, keep)
            first = {setting: selection.static.tunable[setting][0] for setting in selection.untuned}
            settings = selection.settings | first | tuned.get(trial, {}).get("settings", {})
            found[trial] = kept_at(study, selection, signals, table, keep=keep, seed=0, settings=settings)
    return found
