"""Classes of rows: a column of whole numbers, or of strings that the study lists."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pyarrow as pa

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.contract import Splits
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.scorers.contract import rows_text

if TYPE_CHECKING:
    import datasets


def labels_of(rows: "datasets.Dataset", columns: Columns) -> np.ndarray:
    """Labels, int64 `[n]`.

    Raises ValueError that names the column, the first row and the remedy for labels that are strings, floats,
    booleans, null or negative.
    """
    name = columns.labels[0]
    feature = rows.features[name]
    values = rows.select_columns([name]).with_format("arrow")[:][name].combine_chunks()
    remedy = "labels must be integers 0 … C-1 or a ClassLabel"
    if values.null_count:
        missing = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
        raise ValueError(
            f"label column {name!r} is null at {rows_text(missing)}: drop or label these samples; {remedy}"
        )
    if not pa.types.is_integer(values.type):
        strings = f"dataset.class_encode_column({name!r}) of the datasets library makes a ClassLabel of strings"
        cure = "cast the column to int64" if _is_number(values.type) else strings
        if pa.types.is_nested(values.type):
            cure = "write task: multi_label for sets of labels, task: regression for lists of numbers"
        example = f", for example {values[0].as_py()!r}" if len(values) else ""
        raise ValueError(f"label column {name!r} holds {feature_text(feature)}{example}, but {remedy}: {cure}")
    labels = values.cast(pa.int64()).to_numpy()
    negative = np.flatnonzero(labels < 0)
    if len(negative):
        raise ValueError(
            f"label column {name!r} is negative ({labels[negative[0]]}) at {rows_text(negative)}: "
            f"-1 usually marks an unlabelled sample, drop these; {remedy}"
        )
    return cast(np.ndarray, labels)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind))


def feature_text(feature: Any) -> str:
    """Name of a column's type for an error message."""
    return str(getattr(feature, "dtype", feature))


def kind_of(feature: Any) -> Literal["number", "boolean", "text", "nothing"] | None:
    name = feature_text(feature)
    if getattr(feature, "_type", "") not in ("Value", "ClassLabel"):
        return None
    if name.endswith("string") or name == "string_view":
        return "text"
    if name in ("bool", "null"):
        return "boolean" if name == "bool" else "nothing"
    return "number" if re.fullmatch(r"u?int\d+|float\d+", name) else None


def number_labels(
    rows: "datasets.Dataset", columns: Columns, names: Sequence[str] | None, split: str
) -> "datasets.Dataset":
    """A label column of strings as a ClassLabel, numbered by the places of the strings among `source.label_names`."""
    import datasets

    column = columns.labels[0]
    feature = rows.features[column]
    if kind_of(feature) != "text":
        return rows
    words = rows.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    if names is None:
        some = ", ".join(sorted(map(repr, set(words[:1000]) - {None}))[:5])
        raise SourceError(
            f"label column {column!r} holds strings ({some}, …): list all classes in source.label_names, "
            f"in the order of their numbers"
        )
    places = {name: place for place, name in enumerate(names)}
    unknown = [row for row, word in enumerate(words) if word not in places]
    if unknown:
        where = rows_text(np.array(unknown))
        raise SourceError(
            f"{split} split: label column {column!r} is {words[unknown[0]]!r} at {where}, which is not in "
            f"source.label_names ({', '.join(names)})"
        )
    numbers = np.array([places[word] for word in words], np.int64)
    return rows.remove_columns(column).add_column(column, numbers, feature=datasets.ClassLabel(names=list(names)))


def class_names(splits: Splits, columns: Columns, given: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the classes 0 … C-1; every label is one of them."""
    column, labels = columns.labels[0], {}
    for split, rows in splits.items():
        try:
            labels[split] = labels_of(rows, columns)
        except ValueError as error:
            raise SourceError(f"{split} split: {error}") from error
    stored = {split: getattr(rows.features[column], "names", None) for split, rows in splits.items()}
    declared = [names for names in stored.values() if names]
    if any(names != declared[0] for names in declared):
        raise SourceError(f"label column {column!r} has other classes in train than in test: {stored}")
    if given and declared and len(given) != len(declared[0]):
        raise SourceError(f"source.label_names has {len(given)} names, the ClassLabel has {len(declared[0])} classes")
    names = given or (declared[0] if declared else None)
    present = np.unique(np.concatenate(list(labels.values())))
    if names is not None:
        if present[-1] >= len(names):
            raise SourceError(f"label column {column!r} holds {present[-1]}, there are {len(names)} label names")
        return tuple(names)
    if present[-1] != len(present) - 1:
        gap = int(np.flatnonzero(present != np.arange(len(present)))[0])
        raise SourceError(
            f"label column {column!r} holds {len(present)} classes up to {present[-1]} but no {gap}: "
            f"number them 0 … {len(present) - 1}, or name all classes in source.label_names"
        )
    return tuple(str(name) for name in present)
