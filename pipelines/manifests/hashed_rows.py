"""Find a manifest's kept rows in data in memory by their content hashes, despite changes that readers make."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from secateur.pipelines.data import types
from secateur.pipelines.data.classes import texts_of_names
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import Hashes, coded_labels, content_hashes_of, hex_of, label_text
from secateur.pipelines.data.scan import hashed_inputs
from secateur.pipelines.data.source_kinds.contract import check_names
from secateur.pipelines.data.source_kinds.parts import SourceFile
from secateur.pipelines.data.types import series_of
from secateur.pipelines.manifests import kept_rows
from secateur.pipelines.manifests.conversations import Conversations
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.origin import CONVERSATION, Origin
from secateur.pipelines.manifests.readings import (
    GREY,
    WORDS,
    Reading,
    Readings,
    alternatives,
    as_written,
    has_fractions,
    is_rounded,
    joint,
    with_words,
)

FEWEST: Final = 32
WORK: Final = 1 << 23
"""`FEWEST` guesses at changes by readers are always tried, further ones while they hash at most `WORK` rows and look up
at most as many kept samples."""


class Sought(Protocol):
    """The interface of a manifest of rows to `found_rows`: see `Rows`."""

    @property
    def count(self) -> int: ...

    @property
    def hashes(self) -> pl.Series: ...

    @property
    def origin(self) -> Origin: ...

    def standing(self, there: pl.Series) -> np.ndarray: ...

    def missing(self, located: np.ndarray, rows: int) -> ManifestError: ...


def found_rows(kept: Sought, rows: SourceFile, columns: Columns, folders: Sequence[Path]) -> tuple[np.ndarray, int]:
    """Row of each kept sample in data in memory, int64 `[kept]`, and the number of rows.

    Relative paths of pictures start from the first of the folders that has them. Labels may have several forms; the
    first under which all kept samples are found counts. Where readers changed values, the search tries the possible
    originals: see `readings`. Fewer rows than kept samples cannot hold them all, whatever their values were. Raises
    ManifestError where kept samples are missing.
    """
    located: dict[int, np.ndarray] = {}
    useful: list[Readings] = []
    most, guess, first, too_few = 0, 0, None, False
    if columns.text is not None and kept.origin.types.get(columns.text) == CONVERSATION:
        rows = Conversations.of(rows, columns.text)
    try:
        folder = picture_folder(rows, columns, folders)
        for readings in chain([{}], guesses(rows, columns, kept.origin, useful)):
            read = hashed(rows, columns, kept.origin, folder, readings)
            guess += 1
            if guess > most_guesses(len(read.inputs), kept.count):
                break
            for form, hashes in enumerate(read.contents()):
                known = located.setdefault(form, np.full(kept.count, -1, np.int64))
                find(kept, known, hashes)
                if (known >= 0).all():
                    return known, len(read.inputs)
                if (found := int((known >= 0).sum())) > most:
                    most = found
                    useful.append(readings)
            first = first or read
            if too_few := len(first.inputs) < kept.count:
                break
        assert first is not None
        nearest = max(located.values(), key=lambda known: int((known >= 0).sum()))
        why = lacking(kept.origin) if too_few else first.ambiguous()
        why = why or unlike(rows, columns, kept.origin, near=most > 0)
        raise ManifestError(f"{kept.missing(nearest, len(first.inputs))}{why}{first.unreadable()}")
    except ManifestError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        shown = columns.model_dump(exclude_none=True)
        raise ManifestError(
            f"it does not go with this data: rows are hashed by {shown}, which failed with {error}"
        ) from error


def lacking(origin: Origin) -> str:
    """The end of an error message for data of fewer rows than kept samples."""
    several = len(origin.files) > 1
    return (
        f"; give the rows of all {len(origin.files)} files of the manifest together, or the path of one of them"
        if several
        else "; the data have fewer rows than that: give all of them"
    )


def most_guesses(rows: int, kept: int) -> int:
    """Guesses that are tried in data of so many rows."""
    return max(FEWEST, WORK // max(rows, kept, 1))


def find(kept: Sought, located: np.ndarray, hashes: pl.Series) -> None:
    """Fill in the row of each kept sample that has none yet, from the rows not yet taken."""
    left = np.flatnonzero(located < 0)
    taken = np.zeros(hashes.len(), np.bool_)
    taken[located[located >= 0]] = True
    free = pl.select(pl.when(~pl.Series(taken)).then(hashes).otherwise(pl.lit(""))).to_series()
    located[left] = kept_rows.locate(kept.standing(hashes)[left], kept.hashes.gather(left), free)


@dataclass(frozen=True)
class HashedRows:
    """Hashes of inputs, uint64 `[n, 2]`, and labels of data in memory, from which content hashes are made.

    Labels may have another form than in the source's files: numbers for the names in the study or the data. `contents`
    gives the hashes of one form after another, the data's own first.
    """

    inputs: Hashes
    labels: pa.Table
    columns: Columns
    own_names: Mapping[str, tuple[str, ...]]
    label_names: Sequence[str]
    fault: str = ""
    """Reason why the first unreadable input cannot be read."""

    def contents(self) -> Iterator[pl.Series]:
        """Content hashes, String `[n]`, for each form of the labels."""
        yield self._hashes(self.labels, self.own_names)
        if self.columns.target not in (None, "class") or not self.columns.labels:
            return
        name = self.columns.labels[0]
        texts = label_text(self.labels[name], self.own_names.get(name))
        for form in self.forms(name):
            changed = texts.replace_strict(form, default=None, return_dtype=pl.String)
            yield self._hashes(pa.table({name: changed.to_arrow()}), {})

    def forms(self, name: str) -> Iterator[dict[str | None, str]]:
        """Translations of the labels' texts into their other forms: equal values, names, numbers of names.

        Yields nothing for a form where all texts are names already, or numbers of them.
        """
        values, own, names = self.labels[name], self.own_names.get(name), self.label_names
        texts = coded_labels(values, own)[0]
        there = set(texts.drop_nulls())
        numbers = {text: place for place, text in enumerate(names)}
        if pa.types.is_integer(values.type):
            numbers = dict(zip(texts, coded_labels(values)[0].cast(pl.Int64), strict=True))
        classes = [str(place) for place in range(len(names or own or ()))]
        counted = {text: str(numbers[text]) for text in there if numbers.get(text, -1) in range(len(classes))}
        named = {text: names[int(number)] for text, number in counted.items() if names}
        for form, known in ((same_values(there, names), ()), (named, names), (counted, classes)):
            if not there <= set(known) and any(text != other for text, other in form.items()):
                yield form

    def ambiguous(self) -> str:
        """The end of an error message where labels are names of classes that may have been meant as their numbers."""
        if self.columns.target not in (None, "class") or not self.columns.labels or not self.label_names:
            return ""
        name = self.columns.labels[0]
        there = coded_labels(self.labels[name], self.own_names.get(name))[0].drop_nulls().to_list()
        classes = [str(place) for place in range(len(self.label_names))]
        if not there or list(self.label_names) == classes or not set(there) <= set(self.label_names) & set(classes):
            return ""
        return f"; labels {', '.join(there[:3])} in column {name!r} are read as the names of classes, not their numbers"

    def unreadable(self) -> str:
        """The end of an error message for an input that cannot be read, if there is one."""
        where = "; give the folder where paths start as folder" if self.columns.image is not None else ""
        return f"; an input cannot be read: {self.fault}{where}" if self.fault else ""

    def _hashes(self, labels: pa.Table, names: Mapping[str, Sequence[str]]) -> pl.Series:
        return series_of(hex_of(content_hashes_of(self.inputs, labels, self.columns, names)))


def same_values(texts: Collection[str], names: Sequence[str]) -> dict[str | None, str]:
    """The name that a reader turned into each text: one of equal value, or a word that it reads as missing."""
    named = pl.DataFrame({"name": pl.Series(names, dtype=pl.String)})
    named = named.with_columns(value=pl.col("name").cast(pl.Float64, strict=False)).unique("value", keep="none")
    values = dict(named.drop_nulls().select("value", "name").iter_rows())
    numbers = pl.Series(sorted(texts), dtype=pl.String).cast(pl.Float64, strict=False)
    form = {text: values.get(number) for text, number in zip(sorted(texts), numbers, strict=True)}
    words = [name for name in names if name in WORDS]
    same = {text: text for text in texts if text in names}
    return {text: name for text, name in form.items() if name} | same | ({None: words[0]} if len(words) == 1 else {})


def hashed(
    rows: SourceFile, columns: Columns, origin: Origin, folder: Path, readings: Readings | None = None
) -> HashedRows:
    """Hash data in memory like the source's files, in batches; relative paths of pictures start from `folder`.

    Values are cast to the manifest's types, so that a CSV read as texts gives the hashes of the file, and changed to
    the originals that `readings` assume. Raises SourceError for missing columns, ManifestError for values of another
    type.
    """
    told = told_types(columns, origin)
    inputs, labels, faults = [np.zeros((0, 2), np.uint64)], [], list[str]()
    for table in rows.batches(held_types(rows, columns, origin)):
        for name, kind in told.items():
            try:
                values = as_written(table[name], kind, (readings or {}).get(name, Reading()))
            except ValueError as error:
                if is_class(name, columns):  # names of numbers in the file
                    continue
                raise ManifestError(f"column {name!r} holds {error}") from error
            if not is_class(name, columns) or table[name].type in (types.TEXT, types.MOMENT, types.ZONED):
                table = table.set_column(table.schema.get_field_index(name), name, values)
        table, hashes, wrong = hashed_inputs(table, columns, folder)
        inputs.append(hashes)
        labels.append(table.select(list(dict.fromkeys(columns.labels))))
        faults += wrong.drop_nulls().head(1).to_list()
    empty = pa.table({name: pa.array([], types.TEXT) for name in columns.labels})
    together = pa.concat_tables(labels, promote_options="permissive") if labels else empty
    own = rows.label_names
    classes = texts_of_names(origin.label_names, told.get(columns.labels[0]) if columns.labels else None)
    return HashedRows(np.concatenate(inputs), together, columns, own, classes, next(iter(faults), ""))


def is_class(name: str, columns: Columns) -> bool:
    """Whether a column holds the classes of rows."""
    return name in columns.labels and columns.target in (None, "class")


def told_types(columns: Columns, origin: Origin) -> dict[str, pa.DataType]:
    """Types of columns in the files, from the manifest; a text has type text."""
    own = dict.fromkeys(columns.texts, types.TEXT)
    told = {name: kind for name, kind in origin.kinds.items() if name in (*columns.inputs, *columns.labels)}
    return own | told | ({columns.image: types.PICTURE} if columns.image is not None else {})


def held_types(rows: SourceFile, columns: Columns, origin: Origin) -> dict[str, pa.DataType]:
    """Types of the columns in memory; SourceError for a missing one."""
    names = [*columns.inputs, *columns.labels]
    check_names(rows.columns, names, rows.name)
    return rows.types(names, [name for name, kind in told_types(columns, origin).items() if kind == types.TEXT])


def whole_columns(
    rows: SourceFile, columns: Columns, origin: Origin
) -> Iterator[tuple[str, pa.DataType, pa.ChunkedArray]]:
    """Each column in memory that the manifest names, but pictures: name, type in the files, and values."""
    held = held_types(rows, columns, origin)
    for name, kind in told_types(columns, origin).items():
        if held[name] != types.PICTURE and name != columns.image:
            parts = list(rows.batches({name: held[name]}))
            if parts:
                yield name, kind, pa.concat_tables(parts, promote_options="permissive")[name]


def guesses(rows: SourceFile, columns: Columns, origin: Origin, useful: Sequence[Readings]) -> Iterator[Readings]:
    """Possible original values, where programs changed them on reading, after the values themselves.

    `useful` are the guesses so far by which the caller found rows; it grows during iteration.
    """
    others: dict[str, list[Reading]] = {}
    gaps = []
    for name, kind, values in whole_columns(rows, columns, origin):
        timed = values.type in (types.MOMENT, types.ZONED)
        if (not is_class(name, columns) or timed) and (found := alternatives(values, kind)):
            others[name] = found
        if kind == types.TEXT and values.null_count and not is_class(name, columns):
            gaps.append(name)
    yield from joint(others)
    if columns.image is not None:
        yield {columns.image: GREY}
    if gaps:
        for known in list(useful[-2:]) or [{}]:
            yield from with_words(known, gaps)


def picture_folder(rows: SourceFile, columns: Columns, folders: Sequence[Path]) -> Path:
    """Where relative paths of pictures start: the first folder that holds the first of them."""
    if columns.image is not None and columns.image in rows.columns:
        kind = rows.types([columns.image], [columns.image])
        table = next(rows.batches(kind), None)
        if table is not None and kind[columns.image] == types.TEXT:
            paths = series_of(table[columns.image]).drop_nulls().head(1)
            return next((folder for path in paths for folder in folders if (folder / path).is_file()), folders[0])
    return folders[0]


def unlike(rows: SourceFile, columns: Columns, origin: Origin, *, near: bool) -> str:
    """The end of an error message for columns that a reader of the files changed; empty where none was.

    `near` says that some rows were found, so that the data are probably the right ones.
    """
    for name, kind, values in whole_columns(rows, columns, origin):
        if is_class(name, columns):
            continue
        if types.joined(values.type, kind) is None:
            here, there = types.shown_type(values.type), types.shown_type(kind)
            remedy = "with dtype=str in pandas, schema_overrides in polars, or as a Value('string') in datasets"
            how = remedy if kind == types.TEXT else "as these"
            return f"; column {name!r} holds {here} here and {there} in the file: read it {how}"
        if kind == types.TEXT and values.null_count:
            return (
                f"; column {name!r} has {values.null_count} missing values here, and readers take words such as NA for "
                "these: read it with keep_default_na=False in pandas and in datasets"
            )
        if kind == types.NUMBER and (is_rounded(values) or name in rows.narrow) and has_fractions(values):
            return f"; column {name!r} holds numbers of 32 bits, to which a reader rounded them: read it as float64"
        if kind == types.NUMBER and has_fractions(values) and near:
            how = "float_precision='round_trip' of a CSV or precise_float=True of JSON in pandas"
            return f"; column {name!r} holds fractions, whose last digit readers may round: read it with {how}"
    if columns.image is not None and rows.types([columns.image])[columns.image] == types.PICTURE:
        return "; pictures count by their pixels: apply it to the data set without its transform"
    return ""
