"""Classes of rows: texts of labels, numbered in the order of the names in a study or a file, else in their own."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Int64

from secateur.pipelines.data import types
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import coded_labels, label_text
from secateur.pipelines.data.scan import SplitRows, on_disk
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.types import series_of

Say = Callable[[str, np.ndarray], str]
"""From a split and rows, int64, to their names in a message: file, and row in it."""


def class_names(
    splits: Mapping[str, SplitRows],
    columns: Columns,
    declared: Sequence[tuple[str, ...]],
    given: Sequence[str] | None,
    say: Say,
    spelled: Mapping[str, str] | None = None,
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names of the classes 0 … C-1, and the number of each by the text of its labels.

    The names are `given` by the study, else `declared` by the files, else the labels in the spelling of their first
    row: numbers in numeric order, words in alphabetical order. Labels of one `label_text` are one class; `spelled` maps
    it to the user's spelling where labels were read as booleans or numbers. Names match label texts; they match the
    numbers 0, 1, … only where no label is a name. Raises SourceError for names that contradict the labels, and for
    labels that are no classes: all missing, fractions, or -1 beside 0, 1, ….
    """
    kind = splits["train"].schema.field(columns.labels[0]).type
    known = declared[0] if declared else None
    if other := next((names for names in declared if canonical(names) != canonical(declared[0])), None):
        raise SourceError(f"label column {columns.labels[0]!r} has other classes in some files: {known} and {other}")
    if given and known and canonical(given) != canonical(known):
        lost = sorted(canonical(known) ^ canonical(given))
        raise SourceError(
            f"source.label_names and the classes of the file differ ({', '.join(lost[:5])}): name all of "
            f"{', '.join(known[:20])}, in the order of your choice, or leave label_names out"
        )
    present = {t: (spelled or {}).get(t, label) for t, label in labels_there(splits, columns.labels[0]).items()}
    if not present:
        raise SourceError(f"label column {columns.labels[0]!r}: no row has a label")
    if kind == types.NUMBER:
        _refuse_fractions(splits, columns.labels[0], say)
    if given or known:
        names = tuple(given or known or ())
        allowed = numbers_of_texts(names, kind, present)
        if len(allowed) < len(names):
            raise SourceError(f"source.label_names: two of the names are one label: {', '.join(names[:20])}")
        if unknown := [text for text in present if text not in allowed]:
            raise SourceError(
                f"label column {columns.labels[0]!r} is {present[unknown[0]]!r} at "
                f"{_first_place(splits, columns.labels[0], unknown[0], say)}, which is not in source.label_names "
                f"({', '.join(names[:20])}{', …' if len(names) > 20 else ''})"
            )
        return names, allowed
    order = {types.INTEGER: int, types.NUMBER: float}
    ordered = sorted(present, key=order.get(kind))
    if (
        kind == types.INTEGER
        and ordered == [str(number) for number in range(-1, len(ordered) - 1)]
        and len(ordered) > 2
    ):
        raise SourceError(
            f"label column {columns.labels[0]!r} is -1 at {_first_place(splits, columns.labels[0], '-1', say)} beside "
            f"0 … {len(ordered) - 2}: -1 usually marks an unlabelled sample, make it a missing value; where it is a "
            "class, list all classes in source.label_names"
        )
    return tuple(present[text] for text in ordered), {text: number for number, text in enumerate(ordered)}


def numbers_of_texts(names: Sequence[str], kind: pa.DataType, present: Iterable[str]) -> dict[str, int]:
    """Number of each class by the text of its labels in a column of type `kind`; `present` are the column's texts."""
    texts = texts_of_names(names, kind)
    if kind in (types.INTEGER, types.NUMBER) and not set(present) & set(texts):
        texts = [str(place) for place in range(len(names))]
    return {text: number for number, text in enumerate(texts)}


def texts_of_names(names: Sequence[str], kind: pa.DataType | None) -> list[str]:
    """The `label_text` of each class in a column of type `kind`, from a user's names: true for True, 1 for 1.0."""
    texts = label_text(pa.array(names, types.TEXT)).to_list()
    if kind == types.BOOLEAN:
        texts = [str(types.BOOLEANS[name]).lower() if name in types.BOOLEANS else name for name in names]
    elif kind == types.NUMBER:
        # The user may write a number as the file does: 1.0.
        values = pl.Series(texts, dtype=pl.String).cast(pl.Float64, strict=False)
        numbers = label_text(values.to_arrow()).to_list()
        texts = [name if number is None else number for name, number in zip(names, numbers, strict=True)]
    return texts


def canonical(names: Sequence[str]) -> set[str]:
    """Names of classes in the form for comparison."""
    return set(texts_of_names(names, None))


def labels_there(splits: Mapping[str, SplitRows], name: str) -> dict[str, str]:
    """Spelling of each label in its first row, by its `label_text`, in the order of these rows."""
    found: dict[str, str] = {}
    for rows in splits.values():
        for table in rows.batches([name]):
            labels = table[name].unique().drop_null()
            texts = label_text(labels)
            written = series_of(labels) if table.schema.field(name).type == types.TEXT else texts
            for text, label in zip(texts, written, strict=True):
                found.setdefault(text, label)
    return found


def _refuse_fractions(splits: Mapping[str, SplitRows], name: str, say: Say) -> None:
    for split, rows in splits.items():
        parts = [series_of(table[name]).fill_nan(None) for table in rows.batches([name])]
        halves = np.flatnonzero(np.concatenate([(part != part.round()).fill_null(False) for part in parts]))
        if len(halves):
            raise SourceError(
                f"label column {name!r} is {rows.column(name)[int(halves[0])]} at {say(split, halves)}, and a class is "
                "no fraction: write task: regression where the labels are numbers"
            )


def _first_place(splits: Mapping[str, SplitRows], name: str, text: str, say: Say) -> str:
    for split, rows in splits.items():
        places = np.flatnonzero((label_text(rows.column(name).to_arrow()) == text).fill_null(False).to_numpy())
        if len(places):
            return say(split, places)
    return "no row"


def labels_of(rows: SplitRows, name: str, numbers: Mapping[str, int]) -> Int64[np.ndarray, " n"]:
    """Class of each row, int64, by the text of its label, in a memory map; -1 where the label is missing."""
    whole, start = on_disk((len(rows),), np.int64, rows.shards[0].parent), 0
    for table in rows.batches([name]):
        texts, places = coded_labels(table[name])
        # The last code is that of place -1: no label.
        codes = np.array([*(numbers.get(text, -1) for text in texts), -1], np.int64)
        whole[start : start + table.num_rows] = codes[places]
        start += table.num_rows
    return whole
