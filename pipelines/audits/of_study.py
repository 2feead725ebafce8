"""The rows of a study as an audit reads them: those that it trains on or chooses of, its test rows, and its target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from jaxtyping import Bool, Shaped

from secateur.pipelines.audits.contract import TARGET, TEST, TRAIN, AuditRows
from secateur.pipelines.audits.memory import hashes_of
from secateur.pipelines.audits.of_own_task import own_task_rows
from secateur.pipelines.audits.spoken import spoken
from secateur.pipelines.data.apart import APART
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.scan import SplitRows
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.sources import load
from secateur.pipelines.data.types import NOTHING, TEXT, shown_type
from secateur.pipelines.data.whole import load_whole
from secateur.pipelines.runs.own_target import apart_of, read_target
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.problem import Problem
from secateur.pipelines.studies.samples import Study


def study_rows(study: Study | Choice, base: Path, cache: Path) -> AuditRows:
    """Rows that the policies of the study leave, read again from its source or from what `cache` has of it.

    Raises SourceError for everything that bad data can be.
    """
    if isinstance(study, Choice):
        return spoken(chosen_from(study, base, cache))
    if study.task.own:
        alive = TemporaryDirectory(prefix="secateur-")
        return replace(own_task_rows(study.name, study.own_task(), Path(alive.name)), alive=alive)
    return spoken(trained_on(study, base, cache))


def trained_on(study: Study, base: Path, cache: Path) -> AuditRows:
    """Training and test rows of a study that trains, and those of its target."""
    columns = study.read_columns
    loaded = load(study.read_source, columns, base, cache, study.data, apart=apart_of(study))
    splits = {TRAIN: loaded.rows["train"], TEST: loaded.rows["test"]}
    schema = loaded.rows["train"].schema
    targets: Shaped[np.ndarray, "n ..."] = np.concatenate([loaded.targets, loaded.test_targets])
    source = study.read_source
    problem = study.task
    if not problem.declared.learns_target:  # whose labels, if any, are domains
        problem = Problem(kind="classification")
    labelled = bool(columns.labels)
    rows = AuditRows(
        name=study.name,
        names={TRAIN: "train", TEST: "test"},
        splits=splits,
        columns=dict.fromkeys(splits, columns),
        files=loaded.files,
        labelled=np.full(len(targets), labelled),
        task=problem.task(loaded.label_names).fitted(loaded.targets) if labelled else None,
        targets=targets if labelled else None,
        label_names=loaded.label_names,
        pictures=source.picture_folder(base, "train") if columns.image else None,
        bases={TEST: source.picture_folder(base, "test")} if columns.image else {},
        types={field.name: field.type for field in schema if not field.name.startswith("secateur:")},
        separator=getattr(source, "separator", ","),
        charset=getattr(source, "charset", "utf-8"),
    )
    return with_target(rows, study, loaded.rows.get(APART), base, cache)


def chosen_from(study: Choice, base: Path, cache: Path) -> AuditRows:
    """Rows of a study that trains nothing, with whole texts, and those of its target."""
    base = base.absolute()
    apart = apart_of(study)
    besides = apart.read if apart else []
    whole = load_whole(study.source, study.columns, besides, base, cache, study.data, longest=None, apart=apart)
    labelled = np.full(len(whole), whole.targets is not None)
    task = None
    if whole.targets is not None:
        task = Problem(kind="classification").task(whole.label_names).fitted(whole.targets)
    rows = AuditRows(
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
    return with_target(rows, study, whole.apart, base, cache)


def with_target(rows: AuditRows, study: Study | Choice, apart: SplitRows | None, base: Path, cache: Path) -> AuditRows:
    """The rows and behind them those of the study's target: those `apart` in its source, else of files of its own.

    Labels of a target are not looked at. Raises SourceError where it cannot be read.
    """
    if study.target is None:
        return rows
    files, offset, own = rows.files, 0, apart
    if study.target.filter is None:
        held = read_target(study, base, cache)
        files, offset, own = (*files, *(name for name, _ in held.files)), len(files), held.rows
    if own is None or not len(own):
        return rows
    refuse_other_types(rows.splits[TRAIN], own, rows.columns[TRAIN].inputs)
    targets = rows.targets
    if targets is not None:
        targets = np.concatenate([targets, np.zeros((len(own), *targets.shape[1:]), targets.dtype)])
    named = rows.columns[TRAIN].model_dump(include={rows.columns[TRAIN].kind, "missing"})
    return replace(
        rows,
        names={**rows.names, TARGET: "target"},
        splits={**rows.splits, TARGET: own},
        columns={**rows.columns, TARGET: Columns(**named)},
        files=files,
        offsets={TARGET: offset},
        labelled=np.concatenate([rows.labelled, np.zeros(len(own), np.bool_)]),
        targets=targets,
    )


def refuse_other_types(train: SplitRows, target: SplitRows, names: Sequence[str]) -> None:
    """Raise SourceError for an input that is a text on one side and none on the other."""
    for name in names:
        mine, own = (rows.schema.field(name).type for rows in (train, target))
        if (mine == TEXT) != (own == TEXT) and NOTHING not in (mine, own):
            raise SourceError(
                f"target: column {name!r} holds {shown_type(own)}, and {shown_type(mine)} in the data: make it one type"
            )


def known_from(rows: AuditRows, before: pl.DataFrame) -> Bool[np.ndarray, " n"] | None:
    """Rows that an audit before had, as often as it had them; None where it had none of them, or all."""
    own = hashes_of(rows).with_columns(place=pl.int_range(pl.len()).over("part", "content_hash"))
    had = before.group_by("part", "content_hash").agg(pl.len().alias("had"))
    known = own.join(had, on=["part", "content_hash"], how="left", maintain_order="left")
    mask = (known["place"] < known["had"].fill_null(0)).to_numpy()
    return mask if mask.any() and not mask.all() else None
