"""Assets of the target in a study without training: its rows, and the signals of it that selections read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from secateur.pipelines.assets.own_inputs import join_of, located
from secateur.pipelines.assets.target import places_asset, ratios_asset, target_asset
from secateur.pipelines.data.identity import hex_of
from secateur.pipelines.data.own_values import DataRows, NumbersFile
from secateur.pipelines.data.own_vectors import lists_in, not_finite, vectors_for
from secateur.pipelines.data.scan import CONTENT, words_of
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import SourceFile
from secateur.pipelines.data.sources import Places
from secateur.pipelines.data.target_rows import places_in, places_of, source_of, texts_of
from secateur.pipelines.data.whole import files_now
from secateur.pipelines.runs.own_target import columns_of, target_of
from secateur.pipelines.runs.target_signals import StoredTarget, depth_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.own_scores import OwnVectors
from secateur.pipelines.studies.samples import Study
from secateur.scorers.target.cosines import Cosines, VectorCosines
from secateur.scorers.target.text_cosines import TextCosines


def target_assets(study: Choice, base: Path) -> list[dg.AssetsDefinition]:
    """The target's rows, and the signals of it that the study's selections read; empty without a target."""
    if study.target is None:
        return []
    read, by_texts = study.target_signals, study.target_by_texts

    def cosines(loaded: Mapping[str, Any], store: Store) -> Cosines:
        if by_texts:
            return TextCosines(*texts_in(study, base, loaded, store))
        return VectorCosines(np.asarray(loaded["embeddings"]), target_vectors(study, base, loaded, store))

    def depth(count: int) -> int | None:
        own = [each for each in study.selections.values() if "target_places" in each.reads]
        return depth_of(study.keep, count, whole=study.columns.group is not None or any(each.by for each in own))

    made = [target_asset(study, base)]
    if "target_places" in read:
        ins, what = ([], "TF-IDF of their texts") if by_texts else (["embeddings"], "their embeddings")
        made.append(places_asset(study, ins, cosines, depth, what))
    if "target_log_ratios" in read:
        made.append(ratios_asset(study, lambda loaded, store: texts_in(study, base, loaded, store)))
    return made


def texts_in(study: Choice, base: Path, loaded: Mapping[str, Any], store: Store) -> tuple[Any, Any]:
    """Full texts of the rows of the data and of the target."""
    source, stored, cache = loaded["source"], StoredTarget(loaded["target"]), store.root / ".cache"
    counts = [count for _, count in source["training_files"]]
    own = places_in(loaded["samples"].select("file", "file_row").collect(), source["training_files"])
    where = (study.source, study.columns, base, cache, source["revision"])
    if target_of(study).filter is None:
        return texts_of(*where, own), stored.rows.column(str(study.columns.text))
    return texts_of(*where, own), texts_of(*where, places_of(stored.rows, counts))


def target_vectors(study: Study | Choice, base: Path, loaded: Mapping[str, Any], store: Store) -> np.ndarray:
    """Vectors of the target's rows, float32 `[queries, d]`; raises SourceError for a mismatch."""
    target, stored, cache = target_of(study), StoredTarget(loaded["target"]), store.root / ".cache"
    brought = target.vectors or study.embeddings
    assert isinstance(brought, OwnVectors)
    assert study.columns
    counts, what = [count for _, count in stored.facts["files"]], f"{study.name}: target.vectors"
    places = places_of(stored.rows, counts)
    if brought.file is None:
        found = lists_in(files_of(study, base, cache, stored), str(brought.column), what)[places]
    else:
        join = join_of(brought)
        if target.filter is not None:  # the file holds vectors of all the data; another check covers the other rows
            join = type(join)(join.key, None if join.key else stored.facts["revision"], drop=True)
        rows = rows_of_target(stored, places, sum(counts), study.columns.id)
        found = vectors_for(NumbersFile(located(brought, base, what), what), rows, join, brought.column)
    if len(bad := not_finite(found)):
        raise SourceError(f"{what}: vectors are NaN or infinite for {len(bad):,} of {len(found):,} rows of the target")
    return np.asarray(found)


def files_of(study: Study | Choice, base: Path, cache: Path, stored: StoredTarget) -> Sequence[SourceFile]:
    """The files of the target's rows; raises SourceError if they have changed since they were read."""
    assert study.source
    assert study.columns
    target, source, columns = target_of(study), study.source, study.columns
    if target.filter is None:
        source, columns = source_of(source, base, target.file, target.split), columns_of(study)  # type: ignore[assignment]
    files, revision = files_now(source, columns, base.absolute(), cache)
    if revision != stored.facts["revision"]:
        raise SourceError(f"{study.name}: the target has changed since it was read; run the study again")
    return files


def rows_of_target(stored: StoredTarget, places: np.ndarray, count: int, id_column: str | None) -> DataRows:
    """The rows of the target to match with vectors."""
    rows, files = stored.rows, [name for name, _ in stored.facts["files"]]
    own = [name for name in rows.schema.names if not name.startswith("secateur:")]
    hashes = [pl.Series(hex_of(words_of(table[CONTENT]))) for table in rows.batches([CONTENT])]
    return DataRows(
        name=f"the target ({files[0]})",
        revision=stored.facts["revision"],
        count=count,
        places=places,
        hashes=pl.concat(hashes),
        ids=rows.column(id_column) if id_column is not None and id_column in own else None,
        id_column=id_column,
        column=lambda name: rows.column(name) if name in own else None,
        shown=lambda some, number: Places({"target": rows}, files).text("target", some, number),
    )
