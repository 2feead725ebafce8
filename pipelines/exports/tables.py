"""Exports of kept rows as tables: Parquet, JSON lines, a folder of the `datasets` library.

Each holds the rows of the data set with all their columns, or, where no data set is given, the manifest's own table
of kept rows, hashes, labels and scores. A selection that weights its samples adds its weights as a column.
"""

import datetime
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from secateur.pipelines.data.sources import own_manners
from secateur.pipelines.exports.registry import exporter
from secateur.pipelines.exports.selected import Selected, has_media
from secateur.pipelines.manifests.document import ManifestError

BYTES_PER_GROUP = 2**26
RowColumn = Annotated[str, Field(description="name of an added column of original row numbers; empty for none")]
WeightColumn = Annotated[str, Field(description="name of the added column of weights, where the selection weights")]
ShardMegabytes = Annotated[int, Field(ge=1, le=10**6, description="most megabytes of a file")]


class Rows:
    """Kept rows as Arrow tables of one schema, with the added columns; pictures in files of their own are read in."""

    def __init__(self, selected: Selected, row_column: str, weight_column: str) -> None:
        import datasets

        self.selected = selected
        of_data = selected.dataset is not None
        self.dataset = selected.data if of_data else datasets.Dataset(selected.manifest.table.to_arrow())
        self.added: dict[str, tuple[Any, Any]] = {}
        if row_column:
            self.added[row_column] = (selected.rows, datasets.Value("int64"))
        if of_data and weight_column and selected.weights is not None:
            self.added[weight_column] = (selected.weights, datasets.Value("float32"))
        if taken := next((name for name in self.added if name in self.dataset.features), None):
            raise ManifestError(f"the data set has a column {taken!r} already; name the added column otherwise")
        features = {name: feature for name, (_, feature) in self.added.items()}
        self.features = datasets.Features({**self.dataset.features, **features})
        self.schema: pa.Schema = self.features.arrow_schema

    def __iter__(self) -> Iterator[pa.Table]:
        from datasets.table import embed_table_storage

        # Pictures are found by what the schema's metadata says of the columns.
        schema = self.dataset.features.arrow_schema
        for part, table in self._blocks():
            table = embed_table_storage(table.cast(schema)) if has_media(self.features) else table.cast(schema)
            for name, (values, _) in self.added.items():
                table = table.append_column(name, pa.array(values[part]))
            yield table.cast(self.schema)

    def _blocks(self) -> Iterator[tuple[slice, pa.Table]]:
        if self.selected.dataset is not None:
            yield from self.selected.blocks(self.dataset)
            return
        yield slice(0, len(self.dataset)), self.dataset.with_format("arrow")[:]
        self.selected.progress(len(self.dataset), len(self.dataset))


@exporter(".parquet")
def parquet(
    selected: Selected, path: Path, *, row_column: RowColumn = "", weight_column: WeightColumn = "weight"
) -> None:
    """Kept rows of the data set as Parquet, or without one the table of kept rows, hashes, labels and scores.

    Images and sounds that the data set keeps in files of their own travel within the Parquet file.
    """
    rows = Rows(selected, row_column, weight_column)
    with pq.ParquetWriter(path, rows.schema, compression="zstd") as writer:
        for group in grouped(rows):
            writer.write_table(group)


def grouped(tables: "Rows | Iterator[pa.Table]") -> Iterator[pa.Table]:
    """Tables joined until they are worth a row group."""
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
    selected: Selected, path: Path, *, row_column: RowColumn = "", weight_column: WeightColumn = "weight"
) -> None:
    """Kept rows of the data set as JSON lines, or without one the table of kept rows, hashes, labels and scores.

    A NaN, which JSON does not know, is null; times are ISO 8601. Bytes and images cannot be held.
    """
    rows = Rows(selected, row_column, weight_column)
    refuse_bytes(rows.features, rows.schema, "JSON lines")
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for table in rows:
            file.writelines(json_text(record) + "\n" for record in table.to_pylist())


def refuse_bytes(features: Any, schema: pa.Schema, what: str) -> None:
    """Raise ManifestError where a column holds what JSON cannot: images, sounds, films or bytes."""
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
    shard_megabytes: ShardMegabytes = 500,
) -> None:
    """Kept rows as a folder that `datasets.load_from_disk` opens, memory-mapped, images within."""
    from datasets import Dataset, DatasetInfo
    from datasets.arrow_writer import ArrowWriter

    rows = Rows(selected, row_column, weight_column)
    origin = rows.dataset.info
    info = DatasetInfo(origin.description, origin.citation, origin.homepage, origin.license, features=rows.features)
    # An empty one of the same columns: what the library writes beside the rows is the library's to say.
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
    """Consecutive tables in parts of about `size` bytes; each part is to be used up before the next."""
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
