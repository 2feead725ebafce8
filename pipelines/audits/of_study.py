"""The rows of a study as audit rows: those that it trains on or chooses from, its test rows, and its target."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from jaxtyping import Bool, Shaped

from secateur.pipelines.audits.contract import BENCHMARK, TARGET, TEST, TRAIN, AuditRows
from secateur.pipelines.audits.memory import hashes_of
from secateur.pipelines.audits.of_own_task import own_task_rows
from secateur.pipelines.audits.spoken import spoken
from secateur.pipelines.data.apart import APART
from secateur.pipelines.data.check import many
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.scan import SplitRows
from secateur.pipelines.data.source_kinds.contract import SourceKind
from secateur.pipelines.data.source_kinds.files import SourceError, at_hand
from secateur.pipelines.data.sources import load
from secateur.pipelines.data.target_rows import UNDIVIDED, source_of
from secateur.pipelines.data.types import NOTHING, TEXT, shown_type
from secateur.pipelines.data.whole import load_whole
from secateur.pipelines.runs.own_target import apart_of, read_target
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.problem import Problem
from secateur.pipelines.studies.samples import Study


def study_rows(study: Study | Choice, base: Path, cache: Path, against: Sequence[str] = ()) -> AuditRows:
    """Rows that remain after the policies of the study, read again from its source or from `cache`, followed by those
    of benchmarks, each a path from the working directory.

    Raises SourceError for every fault of the data.
    """
    if isinstance(study, Study) and study.task.own:
        if against:
            raise SourceError(
                f"--against {against[0]}: the study's own task reads no files: compare files by their paths"
            )
        alive = TemporaryDirectory(prefix="secateur-")
        return replace(own_task_rows(study.name, study.own_task(), Path(alive.name)), alive=alive)
    rows = chosen_from(study, base, cache) if isinstance(study, Choice) else trained_on(study, base, cache)
    for number, path in enumerate(against):
        rows = with_benchmark(rows, study, number, path, base, cache)
    return spoken(rows)


def trained_on(study: Study, base: Path, cache: Path) -> AuditRows:
    """Training and test rows of a study that trains, and those of its target."""
    columns = study.read_columns
    loaded = load(study.read_source, columns, base, cache, study.data, apart=apart_of(study))
    splits = {TRAIN: loaded.rows["train"], TEST: loaded.rows["test"]}
    schema = loaded.rows["train"].schema
    targets: Shaped[np.ndarray, "n ..."] = np.concatenate([loaded.targets, loaded.test_targets])
    source = study.read_source
    problem = study.task
    if not problem.declared.learns_target:  # the target's labels, if any, are domains
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
    """The rows followed by those of the study's target: those `apart` in its source, else those of its own files.

    The audit ignores labels of a target. Raises SourceError for an unreadable target.
    """
    if study.target is None:
        return rows
    files, offset, own = rows.files, 0, apart
    if study.target.filter is None:
        held = read_target(study, base, cache)
        files, offset, own = (*files, *(name for name, _ in held.files)), len(files), held.rows
    if own is None or not len(own):
        return rows
    return behind(rows, TARGET, "target", own, files, offset)


def with_benchmark(
    rows: AuditRows, study: Study | Choice, number: int, given: str, base: Path, cache: Path
) -> AuditRows:
    """The rows followed by those of a benchmark that has the study's columns; a note counts its unreadable rows. The
    audit ignores labels of a benchmark.

    Raises SourceError, with the path as the user gave it, for an unreadable benchmark or a missing column.
    """
    name = given if given not in rows.names.values() else f"{given} ({number + 1})"
    keys = {study.read_columns.kind, "prompt", "missing"}
    columns = Columns(**study.read_columns.model_dump(include=keys))
    try:
        source = benchmark_source(study, base, at_hand(given))
        whole = load_whole(source, columns, (), base.absolute(), cache, DataPolicy(bad_rows="drop"), longest=None)
        files = (*rows.files, *whole.files)
        found = behind(rows, BENCHMARK + number, name, whole.rows, files, len(rows.files))
    except SourceError as error:
        text = str(error).removeprefix("train split: ").removeprefix(f"{name}: ")
        for key in ("target.file: ", "source.train: "):
            text = text.replace(key, "")
        raise SourceError(f"--against {given}: {text}") from error
    if left := sum(one.found.count for one in whole.dropped):
        note = f"{name}: {many(left, 'row')} without an input that can be read {'is' if left == 1 else 'are'} left out"
        found = replace(found, notes=(*found.notes, note))
    if rows.pictures is None:
        return found
    return replace(found, bases={**found.bases, BENCHMARK + number: source.picture_folder(base, "train")})


def benchmark_source(study: Study | Choice, base: Path, path: Path) -> SourceKind:
    """The reader of a benchmark, of the same kind as the study's source: for a file, or for a folder where the study's
    own is one of pictures.
    """
    source, there = study.read_source, Path(os.path.abspath(path))
    if there.is_dir() and source.kind == "imagefolder":
        undivided = {key: None for key in UNDIVIDED if key in type(source).model_fields}
        return source.model_copy(update={**undivided, "train": str(there)})
    if not there.is_file():
        what = "is a folder: name its files, each behind an --against" if there.is_dir() else "there is no such file"
        raise SourceError(what)
    return source_of(source, base, there, None)


def behind(rows: AuditRows, number: int, name: str, own: SplitRows, files: tuple[str, ...], offset: int) -> AuditRows:
    """The rows followed by a part without labels, whose first file is at `offset` among all `files`."""
    refuse_other_types(rows.splits[TRAIN], own, rows.columns[TRAIN].inputs, name)
    targets = rows.targets
    if targets is not None:
        targets = np.concatenate([targets, np.zeros((len(own), *targets.shape[1:]), targets.dtype)])
    train = rows.columns[TRAIN]
    return replace(
        rows,
        names={**rows.names, number: name},
        splits={**rows.splits, number: own},
        columns={**rows.columns, number: Columns(**train.model_dump(include={train.kind, "prompt", "missing"}))},
        files=files,
        offsets={**rows.offsets, number: offset},
        labelled=np.concatenate([rows.labelled, np.zeros(len(own), np.bool_)]),
        targets=targets,
    )


def refuse_other_types(train: SplitRows, part: SplitRows, names: Sequence[str], called: str) -> None:
    """Raise SourceError for an input that is a text on one side only."""
    for name in names:
        mine, own = (rows.schema.field(name).type for rows in (train, part))
        if (mine == TEXT) != (own == TEXT) and NOTHING not in (mine, own):
            raise SourceError(
                f"{called}: column {name!r} holds {shown_type(own)}, and {shown_type(mine)} in the data: make it one "
                "type"
            )


def known_from(rows: AuditRows, before: pl.DataFrame) -> Bool[np.ndarray, " n"] | None:
    """Rows of an earlier audit, each as often as it had it; None where it had none of them, or all."""
    own = hashes_of(rows).with_columns(place=pl.int_range(pl.len()).over("part", "content_hash"))
    had = before.group_by("part", "content_hash").agg(pl.len().alias("had"))
    known = own.join(had, on=["part", "content_hash"], how="left", maintain_order="left")
    mask = (known["place"] < known["had"].fill_null(0)).to_numpy()
    return mask if mask.any() and not mask.all() else None
