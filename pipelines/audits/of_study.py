"""The rows of a study as an audit reads them: those that it trains on, and its test rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Shaped

from secateur.pipelines.audits.contract import TEST, TRAIN, AuditRows
from secateur.pipelines.data.identity import hex_of
from secateur.pipelines.data.sources import load
from secateur.pipelines.data.types import series_of
from secateur.pipelines.data.whole import load_whole
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.problem import Problem
from secateur.pipelines.studies.samples import Study


def study_rows(study: Study | Choice, base: Path, cache: Path) -> AuditRows:
    """Rows that the policies of the study leave, read again from its source or from what `cache` has of it.

    Raises SourceError for everything that bad data can be.
    """
    return chosen_from(study, base, cache) if isinstance(study, Choice) else trained_on(study, base, cache)


def trained_on(study: Study, base: Path, cache: Path) -> AuditRows:
    """Training and test rows of a study that trains."""
    columns = study.read_columns
    loaded = load(study.read_source, columns, base, cache, study.data)
    splits = {TRAIN: loaded.rows["train"], TEST: loaded.rows["test"]}
    schema = loaded.rows["train"].schema
    targets: Shaped[np.ndarray, "n ..."] = np.concatenate([loaded.targets, loaded.test_targets])
    source = study.read_source
    return AuditRows(
        name=study.name,
        names={TRAIN: "train", TEST: "test"},
        splits=splits,
        columns=dict.fromkeys(splits, columns),
        files=loaded.files,
        labelled=np.ones(len(targets), np.bool_),
        task=study.task.task(loaded.label_names).fitted(loaded.targets),
        targets=targets,
        label_names=loaded.label_names,
        pictures=source.picture_folder(base, "train") if columns.image else None,
        types={field.name: field.type for field in schema if not field.name.startswith("secateur:")},
        separator=getattr(source, "separator", ","),
        charset=getattr(source, "charset", "utf-8"),
    )


def chosen_from(study: Choice, base: Path, cache: Path) -> AuditRows:
    """Rows of a study that trains nothing, with whole texts."""
    base = base.absolute()
    whole = load_whole(study.source, study.columns, [], base, cache, study.data, longest=None)
    labelled = np.full(len(whole), whole.targets is not None)
    task = None
    if whole.targets is not None:
        task = Problem(kind="classification").task(whole.label_names).fitted(whole.targets)
    return AuditRows(
        name=study.name,
        names={TRAIN: "train"},
        splits={TRAIN: whole.rows},
        columns={TRAIN: study.columns},
        files=whole.files,
        labelled=labelled,
        task=task,
        targets=whole.targets,
        label_names=whole.label_names,
        pictures=base if study.columns.image else None,
        types=dict(whole.types),
    )


def hashes_of(rows: AuditRows) -> pl.DataFrame:
    """Part and content hash of every row, by which a later audit knows it."""
    hashes = series_of(hex_of(rows.contents)).cast(pl.String)
    return pl.DataFrame({"part": pl.Series(rows.part), "content_hash": hashes})


def known_from(rows: AuditRows, before: pl.DataFrame) -> Bool[np.ndarray, " n"] | None:
    """Rows that an audit before had, as often as it had them; None where it had none of them, or all."""
    own = hashes_of(rows).with_columns(place=pl.int_range(pl.len()).over("part", "content_hash"))
    had = before.group_by("part", "content_hash").agg(pl.len().alias("had"))
    known = own.join(had, on=["part", "content_hash"], how="left", maintain_order="left")
    mask = (known["place"] < known["had"].fill_null(0)).to_numpy()
    return mask if mask.any() and not mask.all() else None
