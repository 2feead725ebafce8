"""Targets of rows: classes, numbers or sets of labels, from one column or several, checked before anything long starts.

A study's `columns.target` is one of the three; the task fills it in.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Shaped

from secateur.pipelines.data import types
from secateur.pipelines.data.classes import Say, class_names, labels_of, texts_of_names
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import missing_in
from secateur.pipelines.data.scan import SplitRows
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.types import is_list, series_of, shown_type


def read_targets(
    splits: Mapping[str, SplitRows],
    columns: Columns,
    declared: Sequence[tuple[str, ...]],
    names: Sequence[str] | None,
    say: Say,
    spelled: Mapping[str, str] | None = None,
) -> tuple[dict[str, Shaped[np.ndarray, "n ..."]], tuple[str, ...]]:
    """Targets by split, and names of the classes, numbers or labels; `declared` are the files' names of classes,
    `spelled` the user's spellings of labels (`class_names`).

    Targets are int64 `[n]` of classes, float64 `[n, k]` of numbers, bool `[n, labels]` of sets of labels. Raises
    SourceError that names split, column, row and remedy for a value that is no such target.
    """
    if not columns.labels:  # no task learns it: all rows are one class
        return {split: np.zeros(len(rows), np.int64) for split, rows in splits.items()}, ()
    if columns.target in (None, "class"):
        known, numbers = class_names(splits, columns, declared, names, say, spelled)
        return {split: labels_of(rows, columns.labels[0], numbers) for split, rows in splits.items()}, known
    if columns.target == "numbers":
        if names:
            raise SourceError("source.label_names: targets are numbers, which have no names of classes: leave it out")
        known = number_names(splits["train"], columns)
    else:
        known = set_names(splits, columns, declared, names)
    targets = {}
    for split, rows in splits.items():
        held = [rows.column(name) for name in columns.labels]
        try:
            if columns.target == "numbers":
                targets[split] = numbers_of(held, partial(say, split))
            else:
                targets[split] = sets_of(held, known, partial(say, split))
        except ValueError as error:
            raise SourceError(f"{split} split: {error}") from error
    return targets, known


def number_names(rows: SplitRows, columns: Columns) -> tuple[str, ...]:
    """Names of the numbers of a target: their columns, or the places in a column of lists."""
    names = columns.labels
    if len(names) > 1 or not is_list(rows.schema.field(names[0]).type):
        return names
    first = next(rows.batches(names))[names[0]][0].as_py()
    return tuple(f"{names[0]}[{place}]" for place in range(len(first or ())))


def numbers_of(columns: Sequence[pl.Series], say: Callable[[np.ndarray], str]) -> Float64[np.ndarray, "n k"]:
    """Numbers of one column, of several, or of a column of lists of one length."""
    parts = [_numbers(column, column.name, say) for column in columns]
    if any(part.shape[1] > 1 for part in parts) and len(parts) > 1:
        raise ValueError("columns.label: name one column of lists, or several columns of numbers, not both")
    return np.concatenate(parts, axis=1)


def _numbers(values: pl.Series, name: str, say: Callable[[np.ndarray], str]) -> Float64[np.ndarray, "n k"]:
    _no_missing(values, name, "a number", say)
    width = 1
    if isinstance(values.dtype, pl.List | pl.Array):
        values = values.cast(pl.List(values.dtype.inner))
        lengths = values.list.len()
        width = int(lengths[0]) if len(lengths) else 1
        other = np.flatnonzero(lengths.to_numpy() != width)
        if len(other) or not width:
            raise ValueError(
                f"label column {name!r} is a list of {width} numbers in the first row and of {lengths[int(other[0])]} "
                f"at {say(other)}: make all of one length"
                if len(other)
                else f"label column {name!r} holds empty lists"
            )
        values = values.explode()
    if values.dtype == pl.String and len(texts := np.flatnonzero(~values.str.strip_chars().str.contains(types.REAL))):
        raise ValueError(
            f"label column {name!r} is {values[int(texts[0])][:100]!r} at {say(texts)}, and regression needs numbers: "
            "correct it, or write task: classification"
        )
    if not values.dtype.is_numeric():
        raise ValueError(
            f"label column {name!r} holds {values.dtype}, and regression needs numbers: "
            + ("write task: classification" if values.dtype in (pl.String, pl.Boolean) else "cast it to float64")
        )
    numbers = values.cast(pl.Float64).to_numpy().reshape(-1, width)
    bad = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if len(bad):
        raise ValueError(f"label column {name!r} is NaN or infinite at {say(bad)}: correct or drop these rows")
    return np.array(numbers, np.float64)


def set_names(
    splits: Mapping[str, SplitRows], columns: Columns, declared: Sequence[tuple[str, ...]], names: Sequence[str] | None
) -> tuple[str, ...]:
    """Names of the labels: their columns; for a column of lists the study's names, the file's, or the lists' values."""
    if len(columns.labels) > 1:
        if names and len(names) != len(columns.labels):
            raise SourceError(
                f"source.label_names has {len(names)} names, and columns.label names {len(columns.labels)} columns"
            )
        return tuple(names or columns.labels)
    name = columns.labels[0]
    if names or declared:
        return tuple(names or declared[0])
    held: dict[Any, None] = {}
    for split, rows in splits.items():
        kind = rows.schema.field(name).type
        if not is_list(kind):
            raise SourceError(
                f"{split} split: label column {name!r} holds {shown_type(kind)}, and multi_label needs a column of "
                "lists (Parquet or JSON lines) or several columns of 0 and 1: list them as columns.label"
            )
        for table in rows.batches([name]):
            held |= dict.fromkeys(series_of(table[name]).explode().drop_nulls().unique(maintain_order=True))
    if all(isinstance(label, int) and not isinstance(label, bool) for label in held) and held:
        if min(held) < 0:
            raise SourceError(f"label column {name!r} holds {min(held)}: number labels from 0, or write their names")
        return tuple(str(label) for label in range(max(held) + 1))
    if not all(isinstance(label, str) for label in held):
        raise SourceError(f"label column {name!r} holds lists of neither names nor whole numbers")
    # Labels with the same NFC form are one; the first row's spelling is its name.
    rest = list(reversed(held))
    spelled = dict(zip(texts_of_names(rest, types.TEXT), rest, strict=True))
    return tuple(spelled[text] for text in sorted(spelled))


def sets_of(
    columns: Sequence[pl.Series], names: Sequence[str], say: Callable[[np.ndarray], str]
) -> Bool[np.ndarray, "n labels"]:
    """Mask of the labels of each row, from columns of 0 and 1, or from a column of lists."""
    if len(columns) > 1:
        return np.stack([_flags(column, column.name, say) for column in columns], axis=1)
    values, name = columns[0], columns[0].name
    _no_missing(values, name, "a list, empty where a row has no label", say)
    if not isinstance(values.dtype, pl.List | pl.Array):
        raise ValueError(
            f"label column {name!r} holds {values.dtype}, for example {values[0]!r}, and multi_label needs a column of "
            "lists or several columns of 0 and 1: write task: classification, or make lists of the labels"
        )
    values = values.cast(pl.List(values.dtype.inner))  # type: ignore[attr-defined]
    owners = np.repeat(np.arange(len(values)), values.list.len().to_numpy())
    flat = values.filter(values.list.len() > 0).explode()
    if flat.dtype == pl.String:
        places = {label: place for place, label in enumerate(texts_of_names(names, types.TEXT))}
        codes = flat.str.normalize("NFC").replace_strict(places, default=None, return_dtype=pl.Int64)
    else:
        codes = flat.cast(pl.Int64)
        codes = pl.select(pl.when((codes >= 0) & (codes < len(names))).then(codes)).to_series()
    unknown = np.flatnonzero(codes.is_null().to_numpy())
    if len(unknown):
        rows_of = np.unique(owners[unknown])
        raise ValueError(
            f"label column {name!r} holds {flat[int(unknown[0])]!r} at {say(rows_of)}, which is none of the "
            f"labels ({', '.join(names[:10])}{', …' if len(names) > 10 else ''}): correct it, or add it to "
            "source.label_names"
        )
    sets = np.zeros((len(values), len(names)), np.bool_)
    sets[owners, codes.to_numpy()] = True
    return sets


def _flags(values: pl.Series, name: str, say: Callable[[np.ndarray], str]) -> Bool[np.ndarray, " n"]:
    _no_missing(values, name, "0 or 1", say)
    if values.dtype != pl.Boolean:
        if not values.dtype.is_numeric():
            raise ValueError(f"label column {name!r} holds {values.dtype}; of several label columns each is 0 or 1")
        other = np.flatnonzero(~values.is_in([0, 1]).to_numpy())
        if len(other):
            raise ValueError(
                f"label column {name!r} holds {values[int(other[0])]} at {say(other)}; of several label columns "
                "each is 0 or 1 (numbers are task: regression)"
            )
    return cast(np.ndarray, values.cast(pl.Boolean).to_numpy())


def _no_missing(values: pl.Series, name: str, wanted: str, say: Callable[[np.ndarray], str]) -> None:
    absent = np.flatnonzero(missing_in(values))
    if len(absent):
        raise ValueError(
            f"label column {name!r} is null at {say(absent)}, and each row needs {wanted}: drop or label these "
            "rows, or write data: {unlabelled: drop}"
        )


def class_counts(targets: np.ndarray, classes: int) -> tuple[int, ...]:
    """Samples per class or label; none where targets are numbers."""
    if targets.dtype == np.bool_:
        return tuple(targets.sum(axis=0).tolist())
    return tuple(np.bincount(targets, minlength=classes).tolist()) if targets.dtype == np.int64 else ()
