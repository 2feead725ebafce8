"""Data assets of a study of choices: `source` and `samples`, the user's scores and vectors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from secateur.pipelines.assets.asset import key_of, out_of, study_asset
from secateur.pipelines.assets.facts import told_of
from secateur.pipelines.assets.own_inputs import (
    checked_vectors,
    note_read,
    numbers_in_file,
    output_values,
    vectors_in_file,
    vectors_made,
)
from secateur.pipelines.assets.resources import version_of
from secateur.pipelines.assets.scores import score_metadata
from secateur.pipelines.data.own_values import DataRows
from secateur.pipelines.data.own_vectors import lists_in
from secateur.pipelines.data.preparation import check_ids, link_shards, write_samples
from secateur.pipelines.data.scan import CONTENT, rows_in, words_of
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.stored_targets import strata_in
from secateur.pipelines.data.whole import Whole, files_as_read, files_now, load_whole
from secateur.pipelines.files.partial_names import resumable_folder
from secateur.pipelines.manifests.origin import word_of
from secateur.pipelines.pages.previews import Previews, previews_in
from secateur.pipelines.runs.own_choice import check_budgets
from secateur.pipelines.runs.own_target import apart_of, read_target
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.output_scores import OutputScore

EVERY = "all rows"
"""The stratum of data without a label."""


def prepare_asset(study: Choice, base: Path) -> dg.AssetsDefinition:
    """Read the source and identify every row."""

    @dg.multi_asset(
        name=f"{study.name}__prepare",
        outs={
            "source": out_of(study, "source", description="Where the data came from: revision, files, rows."),
            "samples": out_of(
                study, "samples", description="Every row: file and row in it, content_hash, id, label. Row order is "
                "identity inside a run."
            ),
        },
        group_name=study.name,
    )  # fmt: skip
    def prepare(context: dg.AssetExecutionContext, secateur_store: dg.ResourceParam[Store]) -> Iterator[Any]:
        cache = secateur_store.root / ".cache"
        with resumable_folder(cache / f"prepare-{study.name}") as folder:
            whole = read_data(study, base, cache)
            source, findings = source_of(study, whole), list(findings_of_data(study, whole))
            context.log.info(f"{len(whole)} samples, {whole.revision}")
            pictures = (study.columns.image, base.absolute()) if study.columns.image else None
            path = folder / "samples.parquet"
            names = list(whole.label_names) or [""]
            write_samples(path, whole.rows, None, strata_in_data(whole), pictures, study.columns.id, names)
            link_shards(whole.rows, folder / "train")
            if whole.apart is not None:
                link_shards(whole.apart, folder / "target")
            version = dg.DataVersion(f"{whole.revision} {study.decides('samples', None)}")
            metadata = told_of(findings) | {"revision": whole.revision, "dagster/row_count": len(whole)}
            yield dg.Output(path, "samples", metadata=metadata, data_version=version)
            with secateur_store.folder(key_of(study, "rows")) as place:
                for split in ("train", *(["target"] if whole.apart is not None else [])):
                    (folder / split).rename(place / split)
            secateur_store.save(key_of(study, "data_report"), {"findings": findings, "counts": {}, "dropped": []})
            yield dg.Output(source, "source", metadata=metadata, data_version=version)

    return prepare


def read_data(study: Choice, base: Path, cache: Path) -> Whole:
    """Read the data and check that it meets all needs of the study; raises SourceError or ValueError."""
    files, _ = files_now(study.source, study.columns, base.absolute(), cache)
    keys = {score.key for score in (*study.scores.values(), study.embeddings) if score and score.key}
    there = set(files[0].columns).intersection(*(file.columns for file in files))
    besides = sorted({*study.read_besides, *(keys & there)})
    apart = apart_of(study)
    whole = load_whole(study.source, study.columns, besides, base.absolute(), cache, study.data, apart=apart)
    check_target(study, whole, base, cache)
    if study.columns.id is not None:
        check_ids(whole.rows.column(study.columns.id), whole.shown)
    if study.columns.group is not None:
        whole.column(study.columns.group, "columns.group")
    for name, selection in study.selections.items():
        if selection.by is not None:
            whole.column(selection.by, f"selections.{name}.by")
    for name, score in study.scores.items():
        if score.file is None and isinstance(score.column, str) and not isinstance(score, OutputScore):
            whole.numbers(score.column, f"scores.{name}")
    for column in [column for keep in study.keep if isinstance(keep, dict) for column in keep]:
        costs = whole.numbers(column, f"keep: {column}")
        whole.refuse(pl.Series(costs < 0), f"keep: column {column!r} is below 0")
    check_budgets(study, len(whole), whole.rows.column)
    return whole


def check_target(study: Choice, whole: Whole, base: Path, cache: Path) -> None:
    """Raise SourceError for an unreadable or empty target, before any asset of the data is written."""
    if study.target is None:
        return
    if study.target.filter is None:
        read_target(study, base, cache)
    elif whole.apart is None:
        raise SourceError(f"target.filter: no row of {whole.files[0]}: it takes {study.target.told()}")
    if study.target.source is not None:
        whole.column(study.target.source, "target.source")


def strata_in_data(whole: Whole) -> np.ndarray:
    """Classes, int64 `[n]`; a single stratum if the data have no label."""
    return np.zeros(len(whole), np.int64) if whole.targets is None else whole.targets


def source_of(study: Choice, whole: Whole) -> dict[str, Any]:
    """Content of the asset `source`."""
    dropped: dict[str, int] = {}
    for part in (part for part in whole.dropped if part.split == "train"):
        dropped[part.policy] = dropped.get(part.policy, 0) + part.found.count
    return {
        "revision": whole.revision,
        "files": list(whole.files),
        "training_files": [[name, count] for name, count in zip(whole.files, whole.counts, strict=True)],
        "label_names": list(whole.label_names),
        "strata": list(whole.label_names) or [EVERY],
        "types": {name: word_of(kind) for name, kind in whole.types.items() if name in known_columns(study)},
        "dropped": dropped,
        "samples": len(whole),
        "shards": whole.folder.name,
        "task": {},
    }


def known_columns(study: Choice) -> set[str]:
    """Columns with types in a manifest: those of the row hash."""
    return {*study.columns.inputs, *study.columns.labels}


def findings_of_data(study: Choice, whole: Whole) -> Iterator[dict[str, Any]]:
    """Findings on the rows: those that a policy left out, and those with equal content."""
    for left in whole.dropped:
        text = f"{left.found.count:,} rows left out by data.{left.policy} ({left.reasons[0] if left.reasons else ''})"
        yield {"kind": "dropped", "split": left.split, "count": left.found.count, "text": text, "rows": []}
    words = np.concatenate([words_of(table[CONTENT]) for table in whole.rows.batches([CONTENT])])
    halves = pl.DataFrame({"upper": words[:, 0], "lower": words[:, 1]})
    again = pl.Series(np.zeros(len(words), np.bool_))
    if halves["upper"].n_unique() < len(words):
        again = ~halves.select(pl.struct("upper", "lower").is_first_distinct()).to_series()
    if count := int(again.sum()):
        rows = whole.places.pairs("train", again.arg_true()[:10].to_numpy().astype(np.int64))
        text = f"{count:,} of {len(whole):,} rows equal an earlier row; data: {{duplicates: drop}} leaves them out"
        yield {"kind": "duplicates", "split": "train", "count": count, "text": text, "rows": rows}


def rows_of(study: Choice, source: dict[str, Any], samples: pl.LazyFrame, store: Store) -> DataRows:
    """The rows to match with scores and vectors."""
    table, files = samples.collect(), source["training_files"]
    starts = np.concatenate([[0], np.cumsum([count for _, count in files])])
    held = rows_in(store.load(key_of(study, "rows")) / "train")
    own = [name for name in held.schema.names if not name.startswith("secateur:")]

    def shown(rows: np.ndarray, count: int) -> str:
        from secateur.pipelines.data.sources import Places

        return Places({"train": held}, [name for name, _ in files]).text("train", rows, count)

    id_column = study.columns.id
    return DataRows(
        name=files[0][0] if len(files) == 1 else f"{files[0][0]} and {len(files) - 1} more",
        revision=source["revision"],
        count=int(starts[-1]),
        places=starts[table["file"].to_numpy()] + table["file_row"].to_numpy(),
        hashes=table["content_hash"],
        ids=held.column(id_column) if id_column else None,
        id_column=id_column,
        column=lambda name: held.column(name) if name in own else None,
        shown=shown,
    )


def previews_of(study: Choice, store: Store) -> Previews | None:
    """Texts of rows, if the study may show them."""
    key = key_of(study, "rows")
    shows = study.report_samples and store.find(key)
    return previews_in(store.load(key) / "train", study.columns) if shows else None


def score_asset(study: Choice, name: str, base: Path) -> dg.AssetsDefinition:
    """A score of the user: a column of the data, or numbers of a file, matched with the rows."""
    score = study.scores[name]
    card: Any = score.card(name)

    @study_asset(
        study, "scores", name, ins=("samples", "source"),
        description=f"{card.summary}\n\nHigh means: {card.high_means}.",
    )  # fmt: skip
    def own_score(secateur_store: dg.ResourceParam[Store], samples: Any, source: Any) -> dg.MaterializeResult:
        if isinstance(score, OutputScore):
            rows, cache = rows_of(study, source, samples, secateur_store), secateur_store.root / ".cache"
            targets = strata_in(samples.select("stratum").collect())
            values = output_values(study, name, base, cache, rows, targets, source)
        elif score.file is None:
            values = column_values(study, str(score.column), secateur_store)
        else:
            rows = rows_of(study, source, samples, secateur_store)
            values = numbers_in_file(score, base, rows, f"{study.name}: scores.{name}")
        shown = score_metadata(
            values.astype(np.float32), card, np.empty(0), samples, source, previews_of(study, secateur_store)
        )
        return dg.MaterializeResult(value=values, data_version=version_of(values), metadata=shown)

    return own_score


def column_values(study: Choice, name: str, store: Store) -> np.ndarray:
    """Numbers of a column of the data, int64 or float64 `[n]`; `prepare` has checked them."""
    held = rows_in(store.load(key_of(study, "rows")) / "train").column(name)
    return (held.cast(pl.Int64) if held.dtype == pl.Boolean else held).to_numpy()


def embeddings_asset(study: Choice, base: Path) -> dg.AssetsDefinition:
    """The user's vectors, one per row."""
    assert study.embeddings
    brought, what = study.embeddings, f"{study.name}: embeddings"

    @study_asset(study, "embeddings", ins=("samples", "source"), description=f"{brought.told()}.")
    def embeddings(secateur_store: dg.ResourceParam[Store], samples: Any, source: Any) -> dg.MaterializeResult:
        rows = rows_of(study, source, samples, secateur_store)
        if brought.file is None:
            cache = secateur_store.root / ".cache"
            files = files_as_read(study.source, study.columns, base, cache, source["revision"], what)
            values = checked_vectors(lists_in(files, str(brought.column), what)[rows.places], rows, what)
        else:
            values = vectors_in_file(study, brought, base, rows, secateur_store, what)
            note_read(study, brought, base, rows, secateur_store)
        return vectors_made(values)

    return embeddings
