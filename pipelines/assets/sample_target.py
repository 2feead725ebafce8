"""Assets of the target of a study that trains: its rows and arrays, and the signals of it and of sources."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from secateur.pipelines.assets.asset import key_of, out_of
from secateur.pipelines.assets.choice_target import target_vectors as own_target_vectors
from secateur.pipelines.assets.gradients import INPUTS, TARGETS, gradients_asset, target_data
from secateur.pipelines.assets.resources import version_of
from secateur.pipelines.assets.sentences import told_in_a_sentence
from secateur.pipelines.assets.target import places_asset, ratios_asset, target_asset
from secateur.pipelines.data.apart import APART
from secateur.pipelines.data.codes import codes_of
from secateur.pipelines.data.preparation import write_inputs
from secateur.pipelines.data.row_texts import RowTexts
from secateur.pipelines.data.scan import SplitRows, rows_in
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.sources import Loaded
from secateur.pipelines.data.target_rows import (
    column_at,
    known_targets,
    places_in,
    places_of,
    refuse_tested,
    without_gaps,
)
from secateur.pipelines.data.whole import counts_of, files_as_read
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.own_target import Held, columns_of, read_target, target_of
from secateur.pipelines.runs.target_signals import StoredTarget, depth_of, in_sources
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.target import SOURCE_RANDOM
from secateur.scorers.target.cosines import Cosines, VectorCosines
from secateur.scorers.target.text_cosines import TextCosines
from secateur.trainers.contract import Data
from secateur.trainers.modalities import encoding as encodings
from secateur.trainers.models import registry as models
from secateur.trainers.passes.embeddings import EmbeddingSettings, embed
from secateur.trainers.processes import device_of_choice
from secateur.trainers.sparse_rows import inputs_at


def target_assets(study: Study, base: Path) -> list[dg.AssetsDefinition]:
    """The target's rows, and the signals of it that the study's selections read; empty without a target."""
    if study.target is None:
        return []
    read, by_texts = study.target_signals, study.target_by_texts

    def more(held: Held, folder: Path, loaded: Mapping[str, Any], store: Store) -> None:
        rows = store.load(key_of(study, "rows"))
        refuse_tested(held.rows, [name for name, _ in held.files], rows_in(rows / "test"), loaded["source"]["files"])
        write_arrays(study, held, folder, loaded["source"], rows_in(rows / "train"))

    def cosines(loaded: Mapping[str, Any], store: Store) -> Cosines:
        if by_texts:
            return TextCosines(*texts_in(study, loaded, store))
        own = own_target_vectors(study, base, loaded, store) if study.own_vectors else None
        return VectorCosines(
            np.asarray(loaded["embeddings"]), target_vectors(study, loaded, store) if own is None else own
        )

    made = [target_asset(study, base, ["test_samples"], more)]
    if "target_places" in read:
        proxy = ["proxy"] if not by_texts and study.embedded_by == "proxy" else []
        ins = [] if by_texts else ["embeddings", "inputs", *proxy]
        what = "TF-IDF of their texts" if by_texts else "their embeddings"
        made.append(places_asset(study, ins, cosines, lambda count: depth_in(study, count, "target_places"), what))
    if "target_log_ratios" in read:
        made.append(ratios_asset(study, lambda loaded, store: texts_in(study, loaded, store)))
    if "gradient_places" in read:
        made.append(gradients_asset(study, lambda count: depth_in(study, count, "gradient_places")))
    return made + ([sources_asset(study, base)] if read & {"sources", "target_source"} else [])


def check_target(study: Study, loaded: Loaded, base: Path, cache: Path) -> None:
    """Raise SourceError before any asset of the data is written, for a target that is unreadable, overlaps the test
    split, lacks columns that selections need, or has a source without rows."""
    if (target := study.target) is None:
        return
    if target.filter is None:
        held = read_target(study, base, cache)
    elif APART in loaded.rows:
        held = Held(loaded.rows[APART], [(name, 0) for name in loaded.files], loaded.revision)
    else:
        raise SourceError(f"target.filter: no row of {loaded.files[0]}: it takes {target.told()}")
    names = [name for name, _ in held.files]
    refuse_tested(held.rows, names, loaded.rows["test"], loaded.files)
    if target.task is not None:
        without_gaps(held.rows, target.task, "target.task", names)
    if "gradient_places" in study.target_signals and study.task.declared.learns_target:
        known_targets(held.rows, columns_of(study).holding(study.task.target), loaded.label_names, names)
    if target.source is None:
        return
    own = target.own or without_gaps(held.rows, target.source, "target.source", names).unique().to_list()
    counts = counts_of(loaded.scanned.values(), len(loaded.files))
    places = places_of(loaded.rows["train"], counts)
    in_sources(sources_of(study, base, cache, loaded.revision, places), own, written=bool(target.own))


def depth_in(study: Study, count: int, signal: str) -> int | None:
    """Number of places of an order to compute; None for all of them, if classes share the budget."""
    own = [each for each in study.selections.values() if signal in each.reads]
    return depth_of(study.budgets, count, whole=any(each.classes or not study.by_rows(each) for each in own))


def write_arrays(study: Study, held: Held, folder: Path, source: Mapping[str, Any], train: SplitRows) -> None:
    """Write the target's rows as inputs of the networks, with targets if a selection reads gradients; nothing if no
    network reads them. The encoder is fitted to the training rows again."""
    gradients, learned = "gradient_places" in study.target_signals, study.task.declared.learns_target
    if not gradients and (study.target_by_texts or study.columns is None or study.embedded_by in ("encoder", "own")):
        return
    encoder = encodings.fit_encoder(study.resolved_encoding, train, study.read_columns.inputs)
    write_inputs(folder / INPUTS, encoder, held.rows)
    if gradients and learned:
        files = [name for name, _ in held.files]
        columns = columns_of(study).holding(study.task.target)
        np.save(folder / TARGETS, known_targets(held.rows, columns, source["label_names"], files), allow_pickle=False)


def texts_in(study: Study, loaded: Mapping[str, Any], store: Store) -> tuple[RowTexts, RowTexts]:
    """Texts of the training rows and of the target."""
    train, columns = rows_in(store.load(key_of(study, "rows")) / "train"), study.read_columns
    return RowTexts.of(train, columns), RowTexts.of(StoredTarget(loaded["target"]).rows, columns)


def target_vectors(study: Study, loaded: Mapping[str, Any], store: Store) -> np.ndarray:
    """Embeddings of the target's rows, `[queries, d]`, from the same model as those of the training rows."""
    assert isinstance(study.embeddings, EmbeddingSettings)
    source, settings, columns = loaded["source"], study.embeddings, study.read_columns
    pool = data_of(loaded["inputs"], loaded["samples"], source)
    stored = StoredTarget(loaded["target"])
    data = target_data(stored.folder, source) if inputs_at(stored.folder / INPUTS).exists() else None
    texts = pool_texts = None
    if columns.texts:
        pool_texts, texts = texts_in(study, loaded, store)
    model = models.load(loaded["proxy"] / "seed-0") if "proxy" in loaded else None
    read: dict[str, Any] = {
        "model": model,
        "texts": texts,
        "fitted_to": (pool, pool_texts),
    }
    if data is None:
        rows = len(stored.rows)
        data = Data(np.zeros((rows, 0), np.float32), np.zeros(rows, np.int64), pool.task, pool.model_settings)
    return np.concatenate(list(embed(settings, data, **read, device=device_of_choice())))


def sources_of(study: Study, base: Path, cache: Path, revision: str, places: np.ndarray) -> pl.Series:
    """Sources of training rows by their places in the files; raises SourceError for gaps, and for data that have
    changed since they were read."""
    files = files_as_read(study.read_source, study.read_columns, base, cache, revision, study.name)
    return column_at(files, str(target_of(study).source), places, "target.source")


def sources_asset(study: Study, base: Path) -> dg.AssetsDefinition:
    """The source of each training row, and whether the target has rows of it."""
    told = {
        "sources": "Number of the source of each row, int64.",
        "target_source": "1 of a row of a source that rows of the target have, 0 of another, int64.",
    }

    @dg.multi_asset(
        name=f"{study.name}__sources",
        ins={name: dg.AssetIn(key_of(study, name)) for name in ("target", "samples", "source")},
        outs={name: out_of(study, name, description=text) for name, text in told.items()},
        group_name=study.name,
    )
    @told_in_a_sentence
    def sources(secateur_store: dg.ResourceParam[Store], target: Any, samples: Any, source: Any) -> Iterator[Any]:
        places = places_in(samples.select("file", "file_row").collect(), source["training_files"])
        column = sources_of(study, base, secateur_store.root / ".cache", source["revision"], places)
        own, written = StoredTarget(target).own_sources(target_of(study)), bool(target_of(study).own)
        found = {"sources": codes_of(column)[0], "target_source": in_sources(column, own, written=written)}
        findings = list(shortages(study, found["target_source"]))
        secateur_store.save(key_of(study, "sources_report"), {"findings": findings})
        for name, values in found.items():
            facts = {"rows of the target's source": int(values.sum())} if name == "target_source" else {}
            yield dg.Output(values, name, data_version=version_of(values), metadata=facts)

    return sources


def shortages(study: Study, own: np.ndarray) -> Iterator[dict[str, Any]]:
    """Findings on budgets that exceed the rows of the target's own source."""
    held, count = int(own.sum()), len(own)
    for keep in study.budgets:
        budget = study.rows_about(keep, count)
        if budget > held and any("target_source" in each.reads for each in study.selections.values()):
            text = (
                f"{study.title(SOURCE_RANDOM)} at {keep:g} has {held:,} rows of that source, all that there are, and "
                f"{budget - held:,} random rows of others"
            )
            yield {"kind": "target source", "split": "train", "count": held, "text": text, "rows": []}
