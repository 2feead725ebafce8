"""Read the rows of an audit with the readers of studies: hashes, faults, and available targets.

No row is left out: a row that is unusable for a model has a fault, and a row without a label is audited without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Bool, Shaped

from secateur.pipelines.audits.contract import AuditRows
from secateur.pipelines.data.column_types import class_names_of, spellings_in, typed_columns
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.dropped import absent_in
from secateur.pipelines.data.scan import FAULT, Scan, SplitRows, scanned
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import SourceFile
from secateur.pipelines.data.source_kinds.registry import Source
from secateur.pipelines.data.sources import (
    Places,
    own_manners,
    part_of,
)
from secateur.pipelines.data.targets import read_targets
from secateur.pipelines.data.types import joined, series_of
from secateur.pipelines.studies.problem import Problem


@dataclass(frozen=True)
class PartFiles:
    """The files of a part, its name for people, its columns, and the source that reads it."""

    name: str
    files: Sequence[SourceFile]
    columns: Columns
    source: Source
    base: Path
    """Start of relative paths of pictures, and of files in messages."""
    shown: Sequence[str] = ()
    """Names of the files for people, where these differ."""


def rows_of(
    name: str,
    parts: Mapping[int, PartFiles],
    task: str | None,
    folder: Path,
    *,
    pictures: Path | None = None,
    notes: Sequence[str] = (),
    chat: str | None = None,
    alive: Any = None,
) -> AuditRows:
    """Read all parts, by their numbers in ascending order; shards are written below `folder`, in batches.

    Raises SourceError for files, columns and labels that cannot be read.
    """
    splits: dict[int, SplitRows] = {}
    files: list[str] = []
    kinds = types_of(parts)
    with own_manners():
        for number, part in parts.items():
            names = class_names_of(part.files, part.columns)
            wanted, place = {name: kinds[number][name] for name in kinds[number]}, folder / f"part-{number}"
            scan = Scan(part.files, wanted, part.columns, place, part.base, everything, names, offset=len(files))
            found = scanned(scan)
            if "train" not in found:
                raise SourceError(f"{part.files[0].name}: no rows")
            splits[number] = found["train"]
            files += part.shown or [shown_file(file) for file in part.files]
    labelled, targets, label_names = targets_of(parts, splits, files, kinds, folder)
    problem = None if task is None else Problem(kind=task).task(label_names)
    if problem is not None and targets is not None:
        first = labelled[: len(splits[0])]
        problem = problem.fitted(targets[: len(splits[0])][first]) if first.any() else None
    return AuditRows(
        name=name,
        names={number: part.name for number, part in parts.items()},
        splits=splits,
        columns={number: part.columns for number, part in parts.items()},
        files=tuple(files),
        labelled=labelled,
        task=problem,
        targets=targets,
        label_names=label_names,
        pictures=pictures,
        bases={number: part.base for number, part in parts.items()},
        notes=tuple(notes),
        types=kinds[0],
        separator=getattr(parts[0].source, "separator", ","),
        charset=getattr(parts[0].source, "charset", "utf-8"),
        chat=chat,
        alive=alive,
    )


def everything(table: pa.Table, hashes: np.ndarray) -> dict[str, np.ndarray]:
    """Hold out no row."""
    return {"train": np.ones(table.num_rows, np.bool_)}


def shown_file(file: SourceFile) -> str:
    """A file's name for people: its path from the working directory where it lies there."""
    return file.shown(Path.cwd())


def types_of(parts: Mapping[int, PartFiles]) -> dict[int, dict[str, pa.DataType]]:
    """One type per column and part; for features one over all parts, as the audit compares them as numbers."""
    found = {number: typed_columns(part.files, part.columns, part.source) for number, part in parts.items()}
    for name in parts[0].columns.features or ():
        first = parts[0].files[0].name
        kind: pa.DataType | None = found[0][name]
        for number, part in parts.items():
            before = kind
            kind = None if kind is None else joined(kind, found[number][name])
            if kind is None:
                raise SourceError(
                    f"column {name!r} holds {found[number][name]} in {part.files[0].name} and {before} in {first}: "
                    "make it one type in all files"
                )
        for own in found.values():
            own[name] = kind
    return found


def targets_of(
    parts: Mapping[int, PartFiles],
    splits: Mapping[int, SplitRows],
    files: Sequence[str],
    kinds: Mapping[int, Mapping[str, pa.DataType]],
    folder: Path,
) -> tuple[Bool[np.ndarray, " n"], Shaped[np.ndarray, "n ..."] | None, tuple[str, ...]]:
    """A mask of labelled rows, the targets of all rows, and names of the classes, numbers or labels.

    Rows with an unreadable input count as unlabelled, as in a study.
    """
    masks = {number: labelled_in(splits[number], part.columns) for number, part in parts.items()}
    whole = np.concatenate(list(masks.values()))
    some = {number: mask for number, mask in masks.items() if mask.any()}
    if 0 not in some:
        return np.zeros(len(whole), np.bool_), None, ()
    columns = parts[0].columns
    kept = {
        parts[number].name: part_of(splits[number], mask, folder / f"labelled-{number}")
        for number, mask in some.items()
    }
    of_all = [file for number in some for file in parts[number].files]
    declared = [of for file in of_all if (of := file.label_names.get(columns.labels[0]))]
    say = Places(kept, files).text
    spelled = spellings_in(parts[0].files, columns, kinds[0])
    found, label_names = read_targets(kept, columns, declared, parts[0].source.label_names, say, spelled)
    first = found[parts[0].name]
    targets = np.zeros((len(whole), *first.shape[1:]), first.dtype)
    start = 0
    for number, mask in masks.items():
        if number in some:
            targets[start : start + len(mask)][mask] = found[parts[number].name]
        start += len(mask)
    return whole, targets, label_names


def labelled_in(rows: SplitRows, columns: Columns) -> Bool[np.ndarray, " n"]:
    """Rows with a label and a readable input; an infinite number, or a list that holds none or one, is no label."""
    if not columns.labels:
        return np.zeros(len(rows), np.bool_)
    parts = [
        ~absent_in(table, columns) & series_of(table[FAULT]).is_null().to_numpy()
        for table in rows.batches([FAULT, *columns.labels])
    ]
    found = np.concatenate(parts)
    for name in columns.labels if columns.target == "numbers" else ():
        found &= finite(rows.column(name))
    return found


def finite(values: pl.Series) -> Bool[np.ndarray, " n"]:
    """Rows with a finite number, or a list of these; all rows of other types, as their reader checks them."""
    if isinstance(values.dtype, pl.List | pl.Array) and values.dtype.inner.is_numeric():  # type: ignore[union-attr]
        lists = values.cast(pl.List(pl.Float64)).list
        return lists.eval(pl.element().is_finite().fill_null(False)).list.all().fill_null(False).to_numpy()
    if values.dtype.is_numeric():
        return values.cast(pl.Float64).is_finite().fill_null(False).to_numpy()
    return np.ones(len(values), np.bool_)
