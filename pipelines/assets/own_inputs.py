"""Scores and vectors from the user, matched with the rows of a study.

Rows of a file are matched with rows of the data, see `data/own_values.py`; a column of the data needs no matching. A
mismatch raises an error with name and count: first when the data is prepared, before any training, and again
whenever the file has changed.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from secateur.pipelines.assets.asset import key_of
from secateur.pipelines.assets.listed_rows import listed_rows
from secateur.pipelines.assets.resources import version_of
from secateur.pipelines.data.own_values import (
    DataRows,
    Join,
    NumbersFile,
    column_over,
    numbers_for,
    numbers_of_column,
)
from secateur.pipelines.data.own_vectors import lists_in, not_finite, vectors_for
from secateur.pipelines.data.scan import SplitRows, rows_in
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.sources import Places
from secateur.pipelines.data.stored_targets import targets_in
from secateur.pipelines.data.whole import files_as_read
from secateur.pipelines.files.contents import content_of
from secateur.pipelines.manifests.provenance import ScoreCard
from secateur.pipelines.runs.own_outputs import order_of, placed, scores_of_outputs
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.output_scores import OutputScore
from secateur.pipelines.studies.own_scores import FromFile, OwnScore, OwnVectors
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy


def brought_card(name: str, score: OwnScore) -> ScoreCard:
    """A manifest's record of a score from the user."""
    card, scorer = score.card(name), score.scorer if isinstance(score, OutputScore) else "own"
    brought = score.model_dump(mode="json", exclude_none=True, exclude={"unmatched"})
    return ScoreCard(
        name=name, version=card.version, high_means=card.high_means, view=card.view, paper=card.paper,
        summary=card.summary, scorer=scorer, settings=brought,
    )  # fmt: skip


def located(brought: FromFile, base: Path, what: str) -> Path:
    """The user's file at the key `what`, relative to the study's folder; raises SourceError if it does not exist."""
    assert brought.file is not None
    path = base / brought.file.expanduser()
    if not path.is_file():
        raise SourceError(f"{what}.file: there is no file {path}")
    return path


def join_of(brought: FromFile) -> Join:
    """How to match the user's file with the data."""
    return Join(brought.key, brought.fingerprint, brought.unmatched == "drop")


def numbers_in_file(score: OwnScore, base: Path, rows: DataRows, what: str) -> np.ndarray:
    """Numbers of a file, one per row of the data, int64 or float64 `[n]`; raises SourceError as `numbers_for` does."""
    return numbers_for(NumbersFile(located(score, base, what), what), rows, join_of(score), score.column)


def vectors_in_file(
    study: AnyStudy, brought: OwnVectors, base: Path, rows: DataRows, store: Store, what: str
) -> np.ndarray:
    """Vectors of a file, float32 `[n, d]`, memory-mapped; an array matches the data for which it was recorded."""
    path, key = located(brought, base, what), key_of(study, "embeddings_for")
    before: dict[str, str] = store.load(key, of_any_samples=True) if store.find(key) else {}
    known = before["revision"] if before.get("content") == content_of(path) else ""
    join = replace(join_of(brought), noted=known if path.suffix == ".npy" else None)
    found = vectors_for(NumbersFile(path, what), rows, join, brought.column, store.root / ".cache" / "vectors")
    return checked_vectors(found, rows, what)


def note_read(study: AnyStudy, brought: OwnVectors, base: Path, rows: DataRows, store: Store) -> None:
    """Record the data for which a file of vectors was read."""
    if brought.file is not None:
        told = {"content": content_of(located(brought, base, "embeddings")), "revision": rows.revision}
        store.save(key_of(study, "embeddings_for"), told)


def checked_vectors(values: np.ndarray, rows: DataRows, what: str) -> np.ndarray:
    """Return the vectors unchanged; raise SourceError that counts and names rows with NaN or infinity."""
    if len(bad := not_finite(values)):
        where = rows.shown(bad[:1000], len(bad))
        raise SourceError(f"{what}: vectors are NaN or infinite for {len(bad):,} of {len(values):,} rows, {where}")
    return values


def vectors_made(values: np.ndarray) -> dg.MaterializeResult:
    """The result of an asset of vectors, with metadata."""
    metadata = {"dagster/row_count": len(values), "dimensions": int(values.shape[1])}
    return dg.MaterializeResult(value=values, data_version=version_of(values), metadata=metadata)


def training_rows(
    study: Study, source: Mapping[str, Any], samples: pl.DataFrame, held: SplitRows | None, base: Path, cache: Path
) -> DataRows:
    """The training rows of a study, for matching; `held` are their shards, and columns come from the files.

    Samples of the study's own task have no columns; a file matches them by content or by row.
    """
    places, names = np.arange(len(samples), dtype=np.int64), [name for name, _ in source.get("training_files", ())]
    count = len(samples)
    if names:
        sizes = np.array([size for _, size in source["training_files"]], np.int64)
        starts, count = np.concatenate([[0], np.cumsum(sizes)]), int(sizes.sum())
        places = starts[samples["file"].to_numpy()] + samples["file_row"].to_numpy()

    def shown(rows: np.ndarray, total: int) -> str:
        if held is None:
            return f"samples {', '.join(map(str, rows[:10].tolist()))}"
        return Places({"train": held}, names).text("train", rows, total)

    def every(name: str) -> pl.Series | None:
        if study.source is None:
            return None
        files = files_as_read(study.source, study.read_columns, base, cache, source["revision"], study.name)
        return column_over(files, name) if all(name in file.columns for file in files) else None

    def column(name: str) -> pl.Series | None:
        if name == "path" and name in samples.columns:  # paths of pictures
            return samples["path"]
        found = every(name)
        return None if found is None else found[places]

    id_column = study.columns.id if study.columns else None
    return DataRows(
        name=(names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more") if names else study.task.kind,
        revision=source["revision"],
        count=count,
        places=places,
        hashes=samples["content_hash"],
        ids=held.column(id_column) if held and id_column else None,
        id_column=id_column,
        column=column,
        shown=shown,
        every=every,
    )


def own_values(study: Study, name: str, base: Path, rows: DataRows) -> np.ndarray:
    """A score from the user for each training row, int64 or float64 `[n]`; raises SourceError."""
    score, what = study.own_scores[name], f"{study.name}: scores.{name}"
    if score.file is None:
        return numbers_of_column(str(score.column), rows, what)
    return numbers_in_file(score, base, rows, what)


def study_targets(study: Study, source: Mapping[str, Any], samples: pl.DataFrame) -> np.ndarray:
    """Classes int64 `[n]`, or labels bool `[n, labels]`, to score outputs against; SourceError for other targets."""
    if study.task.own or study.task.target == "numbers":
        what = next(name for name, score in study.own_scores.items() if isinstance(score, OutputScore))
        raise SourceError(
            f"{study.name}: scores.{what}: outputs are scored beside classes or labels; bring its numbers"
        )
    return targets_in(samples, source["label_names"])


def output_values(
    study: Study | Choice,
    name: str,
    base: Path,
    cache: Path,
    rows: DataRows,
    targets: np.ndarray,
    source: Mapping[str, Any],
    *,
    dry: bool = False,
) -> np.ndarray:
    """A score of the outputs of the user's model for each row, float32 `[n]`; with `dry` only the matching rows,
    without reading the outputs; raises SourceError."""
    score, what = study.scores[name], f"{study.name}: scores.{name}"
    assert isinstance(score, OutputScore)
    given: Path | np.ndarray
    if score.file is None:
        files = files_as_read(study.read_source, study.read_columns, base, cache, source["revision"], what)
        given = lists_in(files, str(score.column), what)
    else:
        given = located(score, base, what)
    if dry:
        epochs, places = placed(score, given, rows, join_of(score), what)
        order_of(score, source["label_names"], epochs[0].width, what)
        return places
    return scores_of_outputs(score, given, rows, join_of(score), targets, source["label_names"], what)


def own_vectors(study: Study, base: Path, rows: DataRows, store: Store) -> np.ndarray:
    """The user's vectors, one per training row, float32 `[n, d]`; raises SourceError."""
    assert study.own_vectors
    brought, what = study.own_vectors, f"{study.name}: embeddings"
    if brought.file is not None:
        return vectors_in_file(study, brought, base, rows, store, what)
    cache = store.root / ".cache"
    files = files_as_read(study.read_source, study.read_columns, base, cache, rows.revision, what)
    return checked_vectors(lists_in(files, str(brought.column), what)[rows.places], rows, what)


def check_brought(study: Study, source: Mapping[str, Any], folder: Path, base: Path, store: Store) -> None:
    """Raise SourceError for inputs from the user that do not match the study's data, prepared in `folder`."""
    if not study.own_scores and not study.own_vectors and not study.manifests:
        return
    held = rows_in(folder / "rows" / "train") if (folder / "rows").is_dir() else None
    samples = pl.read_parquet(folder / "samples.parquet")
    listed_rows(study, base, samples["content_hash"])
    rows = training_rows(study, source, samples, held, base, store.root / ".cache")
    for name, score in study.own_scores.items():
        if isinstance(score, OutputScore):
            targets = study_targets(study, source, samples)
            output_values(study, name, base, store.root / ".cache", rows, targets, source, dry=True)
        else:
            own_values(study, name, base, rows)
    if study.own_vectors and "embeddings" in study.signals:
        own_vectors(study, base, rows, store)


def rows_now(study: Study, source: Mapping[str, Any], samples: pl.LazyFrame, base: Path, store: Store) -> DataRows:
    """The training rows of a study, from the store."""
    key = key_of(study, "rows")
    held = rows_in(store.load(key) / "train") if study.source is not None else None
    return training_rows(study, source, samples.collect(), held, base, store.root / ".cache")
