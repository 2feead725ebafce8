"""Assets of a study's target: its rows, and its signals `target_places` and `target_log_ratios`."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from secateur.pipelines.assets.asset import key_of, out_of, study_asset
from secateur.pipelines.assets.facts import rounded
from secateur.pipelines.assets.resources import version_of
from secateur.pipelines.assets.sentences import told_in_a_sentence
from secateur.pipelines.data.preparation import link_shards
from secateur.pipelines.data.scan import SplitRows, rows_in
from secateur.pipelines.data.target_rows import shared_rows
from secateur.pipelines.runs.own_target import Held, read_target, target_of
from secateur.pipelines.runs.target_signals import (
    ROWS,
    StoredTarget,
    facts_of,
    places_for,
    write_facts,
)
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.samples import Study
from secateur.scorers.target.cosines import Cosines
from secateur.scorers.target.ngram_ratios import ngram_ratios
from secateur.trainers.judging.outcome import Cost


def held_by(study: Study | Choice, source: Mapping[str, Any], base: Path, store: Store) -> Held:
    """The rows of a target; rows of the source as the study last read them."""
    if target_of(study).filter is None:
        return read_target(study, base, store.root / ".cache")
    rows = rows_in(store.load(key_of(study, "rows")) / "target")
    return Held(rows, [tuple(file) for file in source["training_files"]], source["revision"])


def target_asset(
    study: Study | Choice,
    base: Path,
    ins: Sequence[str] = (),
    more: Callable[[Held, Path, Mapping[str, Any], Store], None] | None = None,
) -> dg.AssetsDefinition:
    """The rows of the target; `more` checks them and adds further files to their folder."""
    key, target = key_of(study, "target"), target_of(study)

    @study_asset(
        study, "target", ins=("samples", "source", *ins),
        description=f"Examples of the job, {target.told()}: nothing is trained or tested on them.",
    )  # fmt: skip
    def target_rows(secateur_store: dg.ResourceParam[Store], **loaded: Any) -> dg.MaterializeResult:
        held = held_by(study, loaded["source"], base, secateur_store)
        facts = facts_of(held.rows, held.files, held.revision, target.told(), target.task)
        with secateur_store.folder(key) as folder:
            link_shards(held.rows, folder / ROWS)
            write_facts(folder, facts)
            stored = StoredTarget(folder)
            stored.tasks(target)
            if target.source is not None:
                stored.own_sources(target)
            if more:
                more(held, folder, loaded, secateur_store)
        pool = rows_in(secateur_store.load(key_of(study, "rows")) / "train")
        secateur_store.save(key_of(study, "target_report"), {"findings": findings_of(held.rows, pool)})
        told = {"dagster/row_count": facts["rows"], "fingerprint": facts["fingerprint"]}
        return dg.MaterializeResult(data_version=dg.DataVersion(facts["fingerprint"]), metadata=told)

    return target_rows


def findings_of(target: SplitRows, pool: SplitRows) -> list[dict[str, Any]]:
    """Findings on a target: rows that are also among the candidates of selections."""
    if not (count := shared_rows(target, pool)):
        return []
    text = (
        f"{count:,} of {len(target):,} rows of the target are in the data, too, where a selection for the target takes "
        "them first: leave them out of one side"
    )
    return [{"kind": "target in data", "split": "train", "count": count, "text": text, "rows": []}]


Texts = Callable[[Mapping[str, Any], Store], tuple[Any, Any]]
"""Texts of the rows of the data and of the target, each iterable more than once."""


def places_asset(
    study: Study | Choice,
    ins: Sequence[str],
    cosines: Callable[[Mapping[str, Any], Store], Cosines],
    depth: Callable[[int], int | None],
    what: str,
) -> dg.AssetsDefinition:
    """Ranks of the data's rows by similarity to the target."""
    target = target_of(study)
    turns = f"values of {target.task}" if target.task else "its rows"

    @study_asset(
        study, "target_places", ins=("target", "samples", "source", *ins),
        description=f"Place of each row in the order in which the target takes them, by {what}; {turns} take turns.",
    )  # fmt: skip
    def places(secateur_store: dg.ResourceParam[Store], **loaded: Any) -> dg.MaterializeResult:
        started = time.perf_counter()
        found = cosines(loaded, secateur_store)
        values = places_for(StoredTarget(loaded["target"]), target, found, depth(found.rows))
        seconds = time.perf_counter() - started
        secateur_store.save(key_of(study, "target_places_cost"), vars(Cost(seconds=seconds)))
        told = {"dagster/row_count": len(values), "queries": found.queries, "seconds": rounded(seconds)}
        return dg.MaterializeResult(value=values, data_version=version_of(values), metadata=told)

    return places


def ratios_asset(study: Study | Choice, texts: Texts) -> dg.AssetsDefinition:
    """Log-likelihood ratio of each text's words between the target and the data."""
    told = {
        "target_log_ratios": "Of each text the sum over its n-grams of log p(target) - log p(data), float64.",
        "ngram_counts": "How many n-grams each text has, int64.",
    }

    @dg.multi_asset(
        name=f"{study.name}__target_ratios",
        ins={name: dg.AssetIn(key_of(study, name)) for name in ("target", "samples", "source")},
        outs={name: out_of(study, name, description=text) for name, text in told.items()},
        group_name=study.name,
    )
    @told_in_a_sentence
    def ratios(secateur_store: dg.ResourceParam[Store], **loaded: Any) -> Iterator[Any]:
        started = time.perf_counter()
        found = ngram_ratios(*texts(loaded, secateur_store))
        secateur_store.save(key_of(study, "target_ratios_cost"), vars(Cost(seconds=time.perf_counter() - started)))
        for name, values in (("target_log_ratios", found.sums), ("ngram_counts", found.counts)):
            yield dg.Output(np.asarray(values), name, data_version=version_of(values))

    return ratios
