"""Columns of a source: one type each over all files, the spellings of labels, the names of classes."""

from collections.abc import Sequence

import pyarrow as pa

from secateur.pipelines.data import types
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.contract import SourceKind, check_names
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import SourceFile, Types, needed, settled_types, texts_in

PLAIN = (types.NOTHING, types.BOOLEAN, types.INTEGER, types.NUMBER, types.TEXT)
"""Types of features and groups."""


def typed_columns(
    files: Sequence[SourceFile],
    columns: Columns,
    source: SourceKind,
    besides: Sequence[str] = (),
    known: Sequence[Types] | None = None,
) -> dict[str, pa.DataType]:
    """One type for each column to read, with those `besides` the study's; SourceError for a missing column, and for a
    type that does not fit the study. `known` are the types of each file, if they are known already."""
    names = names_read(columns, source, besides)
    for file in files if known is None else ():
        check_names(file.columns, names, file.name)
    wanted = settled_types(files, names, texts_in(columns), known)
    first = files[0].name
    for name in columns.inputs:
        kind = wanted[name]
        if columns.image is not None and kind not in (types.PICTURE, types.TEXT):
            raise SourceError(f"{first}: image column {name!r} holds {types.shown_type(kind)}, not pictures or paths")
        if name in columns.texts and kind != types.TEXT:
            raise SourceError(f"{first}: {columns.kind} column {name!r} holds {types.shown_type(kind)}, not strings")
        if columns.features is not None and kind not in PLAIN:
            raise SourceError(
                f"{first}: feature column {name!r} holds {types.shown_type(kind)}; features are numbers, booleans and "
                "strings"
            )
    for name in columns.labels:
        if types.is_list(wanted[name]) and columns.target in (None, "class"):
            raise SourceError(
                f"{first}: label column {name!r} holds lists: write task: multi_label for sets of labels, or task: "
                "regression for lists of numbers"
            )
        if not types.is_list(wanted[name]) and wanted[name] not in PLAIN:
            raise SourceError(
                f"{first}: label column {name!r} holds {types.shown_type(wanted[name])}; labels are texts, numbers, "
                "booleans or lists of them"
            )
    if columns.group is not None and wanted[columns.group] not in PLAIN:
        kind = types.shown_type(wanted[columns.group])
        raise SourceError(f"{first}: group column {columns.group!r} holds {kind}; groups are numbers and strings")
    if columns.id is not None and wanted[columns.id] not in (types.INTEGER, types.TEXT):
        kind = types.shown_type(wanted[columns.id])
        raise SourceError(f"{first}: id column {columns.id!r} holds {kind}; ids are texts or whole numbers")
    return wanted


def names_read(columns: Columns, source: SourceKind, besides: Sequence[str] = ()) -> list[str]:
    """Names of the columns to read, each once."""
    return list(dict.fromkeys([*needed(columns), *source.read_besides, *besides]))


def spellings_in(files: Sequence[SourceFile], columns: Columns, wanted: Types) -> dict[str, str]:
    """Spellings of class labels that files hold as texts and that are read as booleans or numbers; the first counts."""
    name, found = (columns.labels or ("",))[0], dict[str, str]()
    if columns.target in (None, "class") and wanted.get(name) in (types.BOOLEAN, types.NUMBER):
        for file in files:
            found = {**file.spellings(name, wanted[name]), **found}
    return found


def class_names_of(files: Sequence[SourceFile], columns: Columns) -> dict[str, tuple[str, ...]]:
    """Class names of a label column from the first file that has them, for files that hold class numbers alone."""
    return {
        name: named for file in reversed(files) for name, named in file.label_names.items() if name in columns.labels
    }
