"""Parts of a split: files, or a data set in memory maps, each read in batches of typed columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.lazy import pa, pc, pl, types
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.files.objects import url_of

if TYPE_CHECKING:
    import datasets

ROWS, TEXTS, PICTURES = 65_536, 16_384, 256
"""Rows of a batch of numbers, of one with texts or lists, and of one with encoded pictures."""

Types: TypeAlias = "Mapping[str, pa.DataType]"
"""Type of each column to read, one of `data/types.py`."""


class SourceFile(ABC):
    """A file of rows; messages, manifests and exports use its `name`."""

    name: str

    label_names: Mapping[str, tuple[str, ...]] = {}
    """Class names of columns that hold class numbers, where the file has names."""

    narrow: Collection[str] = ()
    """Columns of floats of 32 bits."""

    @staticmethod
    def joined(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
        """The common type of a column's types in two files; None where there is none."""
        return types.joined(one, other)

    def shown(self, base: Path) -> str:
        """Its name in manifests, exports and findings: the URL of a copy, else the path from the first folder that
        holds it: the study's folder `base`, the one above if `base` is called `studies`, or the working folder; else
        the whole path.
        """
        if url := url_of(self.name):
            return url
        path, above = Path(self.name), [base.parent] if base.name == "studies" else []
        return next(
            (str(path.relative_to(at)) for at in (base, *above, Path.cwd()) if path.is_relative_to(at)), self.name
        )

    @property
    @abstractmethod
    def columns(self) -> Sequence[str]:
        """Names of its columns; SourceError where it is unreadable."""

    @abstractmethod
    def types(self, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, pa.DataType]:
        """Types of some columns, from the file's schema or all its values; `texts` are texts whatever they look like.

        Raises SourceError that names column and row for values of two types, and for types that no study reads.
        """

    def stored_types(self) -> dict[str, pa.DataType]:
        """Types of all columns, including those that no study reads."""
        return self.types(self.columns)

    def spellings(self, name: str, kind: pa.DataType) -> Mapping[str, str]:
        """First spelling of each label of a column read as `kind`, by `label_text`; only for columns of texts."""
        return {}

    @abstractmethod
    def batches(self, wanted: Types, start: int = 0) -> Iterator[pa.Table]:
        """Columns of these types, in batches of a bounded size, from row `start` on; raises SourceError."""

    def picture_paths(self, name: str, base: Path) -> Iterator[pl.Series]:
        """Paths of a column's pictures in files of their own, which no digest of this file covers.

        Relative ones start from `base`.
        """
        for table in self.batches({name: types.TEXT}):
            yield paths_in(cells_at(table[name], base))


@dataclass(frozen=True)
class DatasetSplit(SourceFile):
    """A split of the `datasets` library, in memory maps."""

    name: str
    rows: datasets.Dataset

    @property
    def columns(self) -> Sequence[str]:
        return list(self.rows.column_names)

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:  # type: ignore[override]
        """Class names of ClassLabels, and of lists of them."""
        found = {}
        for name, feature in self.rows.features.items():
            if names := getattr(getattr(feature, "feature", feature), "names", None):
                found[name] = tuple(names)
        return found

    def types(self, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, pa.DataType]:
        schema = self.rows.data.schema
        data = self.rows.with_format("arrow")
        return {
            name: read_as(schema.field(name).type, name, self.name, data.select_columns([name]).iter(ROWS), texts)
            for name in names
        }

    def picture_paths(self, name: str, base: Path) -> Iterator[pl.Series]:
        kind = self.types([name])[name]
        if kind == types.TEXT:
            yield from super().picture_paths(name, base)
        elif kind == types.PICTURE:
            yield paths_in(self.rows.data.column(name))

    def batches(self, wanted: Types, start: int = 0) -> Iterator[pa.Table]:
        import datasets

        chosen = self.rows.select_columns(list(wanted))
        cells = [name for name in wanted if isinstance(chosen.features[name], datasets.Image)]
        for name in cells:
            chosen = chosen.cast_column(name, datasets.Image(decode=False))
        # Batches of a contiguous data set are slices; those of one with an index mapping are gathered.
        chosen = chosen.with_format("arrow")
        size = batch_rows(wanted)
        for first in range(start, len(chosen), size):
            yield typed(chosen[first : first + size], wanted, self.name, first)


def batch_rows(wanted: Types) -> int:
    """Rows of a batch of columns of these types."""
    if types.PICTURE in wanted.values():
        return PICTURES
    return TEXTS if any(kind == types.TEXT or types.is_list(kind) for kind in wanted.values()) else ROWS


def read_as(
    kind: pa.DataType, name: str, where: str, values: Iterable[pa.Table | pa.RecordBatch], texts: Sequence[str] = ()
) -> pa.DataType:
    """The type to read a stored column as; SourceError where no study reads it. Objects, and lists of them, are JSON
    where they are among `texts`.

    Unsigned numbers of 64 bits are texts if one of the `values` exceeds the signed range, for floats would round them.
    """
    chosen = types.canonical(kind)
    if kind == pa.uint64() and any((pc.max(part[name]).as_py() or 0) >= 2**63 for part in values):
        return types.TEXT
    if chosen is None and name in texts and types.is_nested(kind):
        return types.TEXT
    if chosen is None:
        raise SourceError(f"{where}: column {name!r} holds {kind}, which no study reads: make it numbers or texts")
    return chosen


def typed(table: pa.Table, wanted: Types, where: str, first: int) -> pa.Table:
    """Columns cast to the settled types, values unchanged; SourceError for a number that the cast would change."""
    arrays = []
    for name, kind in wanted.items():
        values = table[name]
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if kind == types.NUMBER and pa.types.is_integer(values.type):
            refuse_rounded(types.series_of(values), name, where, first)
        if pa.types.is_decimal(values.type):
            refuse_wide(values, kind, name, where, first)
        try:
            arrays.append(cells_from(values) if kind == types.PICTURE != values.type else types.as_kind(values, kind))
        except pa.ArrowInvalid as error:
            raise SourceError(f"{where}: column {name!r}, rows from {first}: {error}") from error
    return pa.table(dict(zip(wanted, arrays, strict=True)))


def refuse_rounded(whole: pl.Series, name: str, where: str, first: int) -> None:
    """Raise SourceError for the first of some whole numbers, which may be null, that a float would round."""
    if len(rows := np.flatnonzero(types.rounded(whole))):
        raise SourceError(
            f"{where} row {first + int(rows[0])}: column {name!r} is {whole[int(rows[0])]}, which a float rounds, and "
            "the column holds numbers with a point as well: where it is a code, write it as a text (in a CSV with a "
            f"letter in front), where it is a quantity, with a point ({whole[int(rows[0])]}.0)"
        )


def refuse_wide(values: pa.ChunkedArray, kind: pa.DataType, name: str, where: str, first: int) -> None:
    """Raise SourceError for the first of some decimals beyond whole numbers of 64 bits, or beyond the whole numbers
    that a float holds exactly."""
    power, reason = (53, ", where a float rounds whole numbers") if kind == types.NUMBER else (63, "")
    wide = types.series_of(pc.fill_null(pc.abs(values.cast(pa.float64())), 0.0)) >= 2.0**power
    if wide.any():
        row = int(wide.arg_true()[0])
        raise SourceError(
            f"{where} row {first + row}: column {name!r} is {values[row]}, beyond 2^{power}{reason}: where it is a "
            "code, write it as a text, where it is a quantity, as a float"
        )


def cells_from(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Encoded pictures, or cells of them with further fields, as `PICTURE`."""
    if pa.types.is_struct(values.type):
        flat = values.combine_chunks()
        parts = [flat.field("bytes").cast(pa.binary()), flat.field("path").cast(pa.string())]
    else:
        parts = [values.cast(pa.binary()).combine_chunks(), pa.nulls(len(values), pa.string())]
    cells = pa.StructArray.from_arrays(parts, fields=list(types.PICTURE), mask=values.is_null().combine_chunks())
    return pa.chunked_array([cells])


def cells_at(paths: pa.ChunkedArray, base: Path) -> pa.ChunkedArray:
    """Paths of pictures as cells; relative ones start from `base`."""
    texts = types.series_of(paths)
    absolute = texts.str.starts_with("/")
    whole = pl.select(pl.when(absolute).then(texts).otherwise(pl.lit(f"{base}/") + texts)).to_series()
    parts = [pa.nulls(len(texts), pa.binary()), whole.to_arrow().cast(pa.string())]
    mask = pa.array(texts.is_null().to_numpy())
    return pa.chunked_array([pa.StructArray.from_arrays(parts, fields=list(types.PICTURE), mask=mask)])


def paths_in(cells: pa.ChunkedArray) -> pl.Series:
    """Paths of the pictures outside a file; none for columns of encoded pictures."""
    if not pa.types.is_struct(cells.type):
        return pl.Series([], dtype=pl.String)
    outside = pc.is_null(pc.struct_field(cells, "bytes"))
    return types.series_of(pc.struct_field(cells, "path").filter(outside)).cast(pl.String)


def settled_types(
    files: Sequence[SourceFile], names: Sequence[str], texts: Sequence[str], known: Sequence[Types] | None = None
) -> dict[str, pa.DataType]:
    """One type per column over all files, whose own types may be `known`; SourceError where those of two files have no
    common type."""
    chosen: dict[str, tuple[str, pa.DataType]] = {}
    for file, kinds in zip(files, known or (file.types(names, texts) for file in files), strict=True):
        for name, kind in kinds.items():
            where, before = chosen.get(name, (file.name, types.NOTHING))
            together = file.joined(before, kind)
            if together is None:
                raise SourceError(
                    f"column {name!r} holds {types.shown_type(kind)} in {file.name} and {types.shown_type(before)} in "
                    f"{where}: make it one type in all files"
                )
            chosen[name] = (file.name if pa.types.is_null(before) else where, together)
    return {name: kind for name, (_, kind) in chosen.items()}


def needed(columns: Columns) -> tuple[str, ...]:
    """Columns that a study reads, in the order of the study."""
    return tuple(dict.fromkeys([*columns.inputs, *columns.labels, *filter(None, (columns.group, columns.id))]))


def texts_in(columns: Columns) -> tuple[str, ...]:
    """Columns to read as texts, or paths, whatever they look like."""
    return (*columns.texts, *([columns.image] if columns.image is not None else []))


def with_nulls(table: pa.Table, columns: Columns) -> pa.Table:
    """The table with null for blank features and labels, and for features' texts that stand for a missing value."""
    for name in (*(columns.features or ()), *columns.labels):
        if table.schema.field(name).type == types.TEXT:
            values = types.series_of(table[name])
            cleaned = types.without_missing(values, columns.marks(name)).to_arrow().cast(types.TEXT)
            table = table.set_column(table.schema.get_field_index(name), name, cleaned)
    return table
