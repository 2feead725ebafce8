"""Exports of kept rows as tables: Parquet, CSV, JSON lines, a folder of the `datasets` library.

Labels are the user's own values; CSV and JSON lines write names for numbers where the data itself names them.
Each holds the rows of the data set with all their columns or, without a data set, the manifest's own table of kept
rows, hashes, labels and scores. A selection that weights its samples adds its weights as a column.
"""

import codecs
import csv as csv_module
import datetime
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from secateur.pipelines.data.sources import own_manners
from secateur.pipelines.exports.registry import exporter
from secateur.pipelines.exports.selected import Selected, has_media
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.row_files import READ, copy_records, ending_of, texts_in

BYTES_PER_GROUP = 2**26
RowColumn = Annotated[
    str,
    Field(
        description="name of an added column of rows in the user's file, from 0, or FILE:ROW of several; empty for none"
    ),
]
NumberColumn = Annotated[str, Field(description="name of an added column of class numbers; empty for none")]
WeightColumn = Annotated[str, Field(description="name of the added column of weights, where the selection weights")]
Separator = Annotated[
    str, Field(max_length=1, description="between the fields; that of the study's files, or a comma, if empty")
]
ShardMegabytes = Annotated[int, Field(ge=1, le=10**6, description="most megabytes of a file")]


class Rows:
    """Kept rows as Arrow tables of one schema, with the added columns; pictures in files of their own are read in.

    With `texts`, numbers that the data set names become these names. Numbers of classes are a ClassLabel, so that their
    names are written beside them if the format allows it.
    """

    def __init__(
        self, selected: Selected, row_column: str, weight_column: str, number_column: str = "", *, texts: bool = False
    ) -> None:
        import datasets

        self.selected = selected
        of_data = selected.dataset is not None
        self.dataset = selected.data if of_data else datasets.Dataset(selected.manifest.table.to_arrow())
        self.added: dict[str, tuple[Any, Any]] = {}
        if row_column:
            self.added[row_column] = places_of(selected)
        if of_data and weight_column and selected.weights is not None:
            self.added[weight_column] = (selected.weights, datasets.Value("float32"))
        if number_column:
            names, numbers = selected.label_names, datasets.Value("int64")
            whole = not texts and sorted(names) == list(range(len(names)))
            feature = datasets.ClassLabel(names=[names[label] for label in sorted(names)]) if whole else numbers
            if texts:  # CSV and JSON lines cannot hold names of numbers
                named = {str(label): names[label] for label in sorted(names)}
                selected.beside[".classes.json"] = json.dumps(named, indent=2, ensure_ascii=False) + "\n"
            self.added[number_column] = (selected.labels, feature)
        if taken := next((name for name in self.added if name in self.dataset.features), None):
            raise ManifestError(f"the data set has a column {taken!r} already; name the added column otherwise")
        features = {name: feature for name, (_, feature) in self.added.items()}
        self.named = texts_of_classes(self.dataset.features) if texts else {}
        own = {name: text_feature(of) if name in self.named else of for name, of in self.dataset.features.items()}
        self.features = datasets.Features({**own, **features})
        self.schema: pa.Schema = with_pandas(self.features.arrow_schema, selected.sources)

    def __iter__(self) -> Iterator[pa.Table]:
        from datasets.table import embed_table_storage

        # The schema's metadata identifies the columns of pictures.
        schema = self.dataset.features.arrow_schema
        for part, table in self._blocks():
            table = embed_table_storage(table.cast(schema)) if has_media(self.features) else table.cast(schema)
            for name, of in self.named.items():
                texts = pa.array(list(map(of, table[name].to_pylist())), self.schema.field(name).type)
                table = table.set_column(table.schema.get_field_index(name), name, texts)
            for name, (values, _) in self.added.items():
                table = table.append_column(name, pa.array(values[part]))
            yield table.cast(self.schema)

    def _blocks(self) -> Iterator[tuple[slice, pa.Table]]:
        if self.selected.dataset is not None:
            yield from self.selected.blocks(self.dataset)
            return
        yield slice(0, len(self.dataset)), self.dataset.with_format("arrow")[:]
        self.selected.progress(len(self.dataset), len(self.dataset))


def with_pandas(schema: pa.Schema, sources: Sequence[Path]) -> pa.Schema:
    """A schema with pandas' metadata from the first of the Parquet files of rows: the name of the index column."""
    if not sources or sources[0].suffix != ".parquet":
        return schema
    told = (pq.read_schema(sources[0]).metadata or {}).get(b"pandas")
    return schema if told is None else schema.with_metadata({**(schema.metadata or {}), b"pandas": told})


def places_of(selected: Selected) -> tuple[Any, Any]:
    """The user's row of each kept sample, and the feature of that column; for several files `FILE:ROW`."""
    import datasets

    located = selected.located
    if not located.several:
        return located.row, datasets.Value("int64")
    names = [file.name for file in located.files]
    pairs = zip(located.file.tolist(), located.row.tolist(), strict=True)
    return np.array([f"{names[file]}:{row}" for file, row in pairs], dtype=object), datasets.Value("string")


def texts_of_classes(features: Any) -> dict[str, Callable[[Any], Any]]:
    """For columns of numbers that a data set names, and lists of them: functions from a cell to names."""
    named = {name: getattr(getattr(of, "feature", of), "names", None) for name, of in features.items()}
    return {name: partial(_named, names) for name, names in named.items() if names}


def _named(names: Sequence[str], value: Any) -> Any:
    if isinstance(value, list):
        return [_named(names, each) for each in value]
    return names[value] if value is not None and 0 <= value < len(names) else None


def text_feature(feature: Any) -> Any:
    """The feature of a column of class numbers as texts."""
    import datasets

    text = datasets.Value("string")
    return text if isinstance(feature, datasets.ClassLabel) else datasets.List(text)


def label_texts(selected: Selected) -> Callable[[Mapping[str, Any], int], Any]:
    """A function from a record to its label with the user's value; its name where the data have no column for it."""
    name = selected.columns.labels[0] if selected.columns and selected.columns.labels else "label"
    named, names = texts_of_classes(selected.data.features), selected.class_names

    def label_of(record: Mapping[str, Any], label: int) -> Any:
        if name not in record:
            return names.get(label) or label
        return named[name](record[name]) if name in named else record[name]

    return label_of


@exporter(".parquet")
def parquet(
    selected: Selected,
    path: Path,
    *,
    row_column: RowColumn = "",
    weight_column: WeightColumn = "weight",
    number_column: NumberColumn = "",
) -> None:
    """Kept rows of the data set as Parquet, or without one the table of kept rows, hashes, labels and scores.

    Images and sounds in files of their own are stored within the Parquet file.
    """
    rows = Rows(selected, row_column, weight_column, number_column)
    with pq.ParquetWriter(path, rows.schema, compression="zstd") as writer:
        for group in grouped(rows):
            writer.write_table(group)


def grouped(tables: "Rows | Iterator[pa.Table]") -> Iterator[pa.Table]:
    """Tables joined to the size of a row group."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(one.nbytes for one in waiting) >= BYTES_PER_GROUP:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


@exporter(".jsonl")
def jsonl(
    selected: Selected,
    path: Path,
    *,
    row_column: RowColumn = "",
    weight_column: WeightColumn = "weight",
    number_column: NumberColumn = "",
) -> None:
    """Kept rows of the data set as JSON lines, or without one the table of kept rows, hashes, labels and scores.

    Lines of a study of JSON lines are copied unchanged, with the added columns at their end. Otherwise a NaN, which
    JSON does not have, is null; times are ISO 8601. Bytes and images cannot be held.
    """
    rows = Rows(selected, row_column, weight_column, number_column, texts=True)
    if selected.sources and all(READ.get(ending_of(source)) == "jsonl" for source in selected.sources):
        with path.open("wb") as target:
            copy_lines(selected, {name: values for name, (values, _) in rows.added.items()}, target.write)
        return
    refuse_bytes(rows.features, rows.schema, "JSON lines")
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for table in rows:
            file.writelines(json_text(record) + "\n" for record in table.to_pylist())


def copy_lines(selected: Selected, added: Mapping[str, Any], write: Callable[[bytes], Any]) -> None:
    """Copy the kept lines of JSON files, with values of added columns, `[kept]` each, at their end."""
    position = 0

    def with_added(lines: bytes) -> None:
        nonlocal position
        for line in lines.splitlines():
            values = {name: column[position] for name, column in added.items()}
            more = json_text(values).encode()
            inside = line.removeprefix(codecs.BOM_UTF8).strip()
            between = b", " if inside[1:-1].strip() and len(more) > 2 else b""
            write(inside[:-1].rstrip() + between + more[1:] + b"\n" if added else inside + b"\n")
            position += 1

    for place, source in enumerate(selected.sources):
        keep = np.zeros(selected.located.files[place].rows, np.bool_)
        keep[selected.located.row[selected.located.file == place]] = True
        copy_records(texts_in(source, "utf-8"), keep, False, with_added)
        selected.progress(position, len(selected.rows))


@exporter(".csv")
def csv(
    selected: Selected,
    path: Path,
    *,
    separator: Separator = "",
    row_column: RowColumn = "",
    weight_column: WeightColumn = "weight",
    number_column: NumberColumn = "",
) -> None:
    """Kept rows of the data set as CSV in UTF-8, or without one the table of kept rows, hashes, labels and scores.

    Fields of a study of CSV files are written unchanged. An empty field is a missing value; times are ISO 8601; lists
    and objects are written as JSON. Bytes and images cannot be held.
    """
    rows = Rows(selected, row_column, weight_column, number_column, texts=True)
    refuse_bytes(rows.features, rows.schema, "CSV")
    nested = [field.name for field in rows.schema if pa.types.is_nested(field.type)]
    if nested:
        selected.warn(f"a CSV has no lists and objects: the column {nested[0]!r} holds them as JSON")
    between = separator or selected.manifest.selection.origin.separator
    formulas = 0
    with path.open("wb") as file:
        # polars has no name for a nameless column.
        header = io.StringIO()
        csv_module.writer(header, delimiter=between, lineterminator="\n").writerow(rows.schema.names)
        file.write(header.getvalue().encode())
        for table in rows:
            for name in nested:
                texts = [None if value is None else json_text(value) for value in table[name].to_pylist()]
                table = table.set_column(table.schema.get_field_index(name), name, pa.array(texts, pa.string()))
            frame = pl.DataFrame(pl.from_arrow(table))
            frame.write_csv(file, separator=between, include_header=False)
            formulas += formulas_in(frame)
    if formulas:
        selected.warn(
            f"{formulas} {'field begins' if formulas == 1 else 'fields begin'} like a formula, which a spreadsheet "
            "would calculate: open the file there as text"
        )


def formulas_in(frame: pl.DataFrame) -> int:
    """The number of texts that a spreadsheet reads as formulas: =, @, or a sign before anything but a number."""
    like = pl.col(pl.String).str.contains(r"^[\t\r]*(?:[=@]|[+-][^0-9.\s])")
    return int(frame.select(pl.sum_horizontal(like.sum())).item() or 0) if pl.String in frame.dtypes else 0


def refuse_bytes(features: Any, schema: pa.Schema, what: str) -> None:
    """Raise ManifestError for a column of images, sounds, videos or bytes, which JSON cannot hold."""
    for name in features:
        if has_media({name: features[name]}) or _holds_bytes(schema.field(name).type):
            raise ManifestError(
                f"{what} cannot hold the column {name!r} of images, sounds, films or bytes; use parquet"
            )


def _holds_bytes(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_bytes(kind.storage_type)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    return any(_holds_bytes(kind.field(place).type) for place in range(kind.num_fields))


def json_text(value: Any) -> str:
    """A value on one line of JSON."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(_without_nan(value), ensure_ascii=False, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return [_without_nan(inner) for inner in value] if isinstance(value, list) else value


@exporter("")
def datasets(
    selected: Selected,
    path: Path,
    *,
    row_column: RowColumn = "",
    weight_column: WeightColumn = "weight",
    number_column: NumberColumn = "",
    shard_megabytes: ShardMegabytes = 500,
) -> None:
    """Kept rows as a folder that `datasets.load_from_disk` opens, memory-mapped, images within."""
    from datasets import Dataset, DatasetInfo
    from datasets.arrow_writer import ArrowWriter

    rows = Rows(selected, row_column, weight_column, number_column)
    origin = rows.dataset.info
    info = DatasetInfo(origin.description, origin.citation, origin.homepage, origin.license, features=rows.features)
    # An empty one of the same columns: the library decides which files it writes beside the rows.
    empty = Dataset.from_dict({name: [] for name in rows.features}, info=info)
    with own_manners():
        empty.save_to_disk(path)
    for file in path.glob("*.arrow"):
        file.unlink()
    files = []
    for number, shard in enumerate(sharded(rows, shard_megabytes * 10**6)):
        files.append(f"data-{number:05d}.arrow")
        writer = ArrowWriter(features=rows.features, path=str(path / files[-1]))
        for table in shard:
            writer.write_table(table)
        writer.finalize()
        writer.close()
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    state["_data_files"] = [{"filename": name} for name in files]
    state["_fingerprint"] = selected.manifest.declaration.root[:16]
    (path / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True), encoding="utf-8")


def sharded(tables: Rows, size: int) -> Iterator[Iterator[pa.Table]]:
    """Consecutive tables in parts of about `size` bytes; consume each part before the next."""
    source = iter(tables)
    upcoming = next(source, None)

    def part() -> Iterator[pa.Table]:
        nonlocal upcoming
        used = 0
        while upcoming is not None and (not used or used + upcoming.nbytes <= size):
            used += max(upcoming.nbytes, 1)
            yield upcoming
            upcoming = next(source, None)

    while upcoming is not None:
        yield part()
