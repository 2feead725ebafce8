"""JSON lines."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.json

from secateur.pipelines.data import types
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import SourceFile, Types, read_as
from secateur.pipelines.data.source_kinds.tables import TableSource, bounded

BLOCK = 1 << 24
"""Bytes of lines that are parsed at once."""


class Jsonl(TableSource):
    """JSON lines: one object per line, also compressed (.jsonl.gz)."""

    kind: Literal["jsonl"]

    def file(self, path: Path, columns: Columns) -> "JsonlFile":
        return JsonlFile(path)


@dataclass(frozen=True)
class JsonlFile(SourceFile):
    """One file. A column's values are of one type; texts stay texts, dates or not; an absent key is a missing value."""

    path: Path

    @property
    def name(self) -> str:  # type: ignore[override]
        return str(self.path)

    @cached_property
    def columns(self) -> Sequence[str]:  # type: ignore[override]
        return list(self._whole_schema)

    @cached_property
    def _whole_schema(self) -> dict[str, pa.DataType]:
        """Arrow type of every key of the file."""
        chosen: dict[str, pa.DataType] = {}
        rows = 0
        for first, block in self._blocks():
            table = self._parsed(block, first, pyarrow.json.ParseOptions(newlines_in_values=False))
            rows += table.num_rows
            for field in table.schema:
                kind, before = without_dates(field.type), chosen.get(field.name, types.NOTHING)
                if types.canonical(kind) is None:
                    together: pa.DataType | None = merged(before, kind)
                else:
                    together = types.joined(types.canonical(before) or before, types.canonical(kind))
                if together is None:
                    raise SourceError(
                        f"{self.path}: column {field.name!r} holds {types.shown_type(before)} before row {first} and "
                        f"{types.shown_type(types.canonical(kind))} after: make it one type"
                    )
                chosen[field.name] = together
        if not rows:
            raise SourceError(f"{self.path}: no rows")
        return chosen

    def types(self, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, pa.DataType]:
        return {name: read_as(self._whole_schema[name], name, self.name) for name in names}

    def stored_types(self) -> dict[str, pa.DataType]:
        return {name: types.canonical(kind) or kind for name, kind in self._whole_schema.items()}

    def batches(self, wanted: Types, start: int = 0) -> Iterator[pa.Table]:
        options = pyarrow.json.ParseOptions(
            explicit_schema=pa.schema(list(wanted.items())), unexpected_field_behavior="ignore"
        )
        row = 0
        for first, block in self._blocks():
            table = self._parsed(block, first, options)
            row = first + table.num_rows
            if row > start:
                yield table.select(list(wanted)).slice(max(0, start - first))

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """Whole lines, with the row that they begin at; empty lines are no rows."""
        with bounded(self.path) as stream:
            first, rest = 0, b""
            while data := stream.read(BLOCK):
                cut = data.rfind(b"\n") + 1
                if cut:
                    yield first, rest + data[:cut]
                    first += rows_in(rest + data[:cut])
                    rest = data[cut:]
                else:
                    rest += data
            if rest.strip():
                yield first, rest

    def _parsed(self, block: bytes, first: int, options: Any) -> pa.Table:
        if not block.strip():
            return pa.table({})
        reading = pyarrow.json.ReadOptions(block_size=len(block) + 1)
        try:
            return pyarrow.json.read_json(pa.BufferReader(block), reading, options)
        except pa.ArrowInvalid as error:
            raise SourceError(f"{self.path} {fault_in(block, first, str(error))}") from error


def merged(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type of objects that have the fields of both; the other where there is none."""
    try:
        both = pa.unify_schemas([pa.schema([("x", one)]), pa.schema([("x", other)])], promote_options="permissive")
    except pa.ArrowException:
        return other
    return both.field("x").type


def without_dates(kind: pa.DataType) -> pa.DataType:
    """The type that strings which look like dates have: texts."""
    if pa.types.is_timestamp(kind):
        return types.TEXT
    if pa.types.is_struct(kind):
        return pa.struct(
            [(kind.field(place).name, without_dates(kind.field(place).type)) for place in range(kind.num_fields)]
        )
    return pa.large_list(without_dates(kind.value_type)) if types.is_list(kind) else kind


def rows_in(block: bytes) -> int:
    """Lines of a block that are not empty."""
    lines = block.count(b"\n") + (not block.endswith(b"\n"))
    # Counting is exact without empty lines, which are rare: only then are the lines taken apart.
    return (
        lines
        if b"\n\n" not in block and b"\n\r" not in block and block[:1] != b"\n"
        else sum(map(bool, map(bytes.strip, block.splitlines())))
    )


def fault_in(block: bytes, first: int, reason: str) -> str:
    """The row that the parser stumbled over: one that is no JSON object, else the parser's, counted from the start."""
    rows = (line for line in block.splitlines() if line.strip())
    for row, line in enumerate(rows, start=first):
        try:
            if not isinstance(json.loads(line), dict):
                return f"row {row}: not a JSON object"
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            return f"row {row}: {error}"
    match = re.search(r"Column\((?P<place>[^)]*)\) (?P<fault>.*) in row (?P<row>\d+)", reason)
    if match is None:
        return f"rows from {first}: {reason}"
    column, *inner = match["place"].strip("/").split("/")
    within = " within a list" if inner else ""
    return f"row {first + int(match['row'])}: column {column!r} {match['fault']}{within}; a column is of one type"
