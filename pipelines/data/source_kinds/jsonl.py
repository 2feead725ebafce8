"""JSON lines, and arrays of objects."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.lazy import arrow_json, pa, pc, types
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.json_arrays import lines_of
from secateur.pipelines.data.source_kinds.parts import SourceFile, Types, read_as, typed
from secateur.pipelines.data.source_kinds.tables import TableSource, bounded

BLOCK, LONGEST = 1 << 24, 1 << 26
"""Bytes of one parsed block of lines, and most bytes of a line."""
DEEP = re.compile(rb"(?:[\[{]\s*(?:\"[^\"]{0,200}\"\s*:\s*)?){200}")
"""Two hundred opening brackets in a row, each inside the one before."""
TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*"')
LONG_NUMBER = re.compile(rb"(?<![\d.])\d{16}")


class Jsonl(TableSource):
    """JSON lines: one object per line, or a .json file that is an array of objects; also compressed (.jsonl.gz)."""

    kind: Literal["jsonl"]

    def file(self, path: Path, columns: Columns) -> JsonlFile:
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
        first = rows = 0
        for block in self._blocks():
            first, table = rows, self._parsed(block, rows, arrow_json.ParseOptions(newlines_in_values=False))
            rows += table.num_rows
            for field in table.schema:
                kind, before = without_dates(field.type), chosen.get(field.name, types.NOTHING)
                if types.canonical(kind) is None:
                    known = pa.types.is_null(before) or types.canonical(before) is None
                    together: pa.DataType | None = merged(before, kind) if known else None
                else:
                    together = types.joined(types.canonical(before) or before, types.canonical(kind))
                if together is None:
                    # Parsed with the earlier type, the block raises with the first row of another type.
                    self._parsed(block, first, options_for({field.name: types.canonical(before) or before}))
                    raise SourceError(
                        f"{self.path}: column {field.name!r} holds {types.shown_type(before)} before row {first} and "
                        f"{types.shown_type(types.canonical(kind))} after: make it one type"
                    )
                chosen[field.name] = together
        if not rows:
            raise SourceError(f"{self.path}: no rows; leave this file out")
        return chosen

    def types(self, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, pa.DataType]:
        return {name: read_as(self._whole_schema[name], name, self.name, (), texts) for name in names}

    def stored_types(self) -> dict[str, pa.DataType]:
        return {name: types.canonical(kind) or kind for name, kind in self._whole_schema.items()}

    def batches(self, wanted: Types, start: int = 0) -> Iterator[pa.Table]:
        # Objects to be read as texts are parsed in their own type, then written as JSON.
        objects = {name: kind for name in wanted if types.is_nested(kind := self._whole_schema[name])}
        options = options_for({**wanted, **objects})
        row = 0
        for block in self._blocks():
            first, table = row, self._parsed(block, row, options)
            row = first + table.num_rows
            self._refuse_rounded(block, table, first)
            if row > start:
                yield typed(table.slice(max(0, start - first)), wanted, self.name, max(first, start))

    def _blocks(self) -> Iterator[bytes]:
        """Blocks of whole lines, each with at least one that is not empty."""
        try:
            with bounded(self.path) as stream:
                rest: list[bytes] = []
                line = 1
                for data in lines_of(self.path, stream, BLOCK):
                    cut = data.rfind(b"\n") + 1
                    if cut:
                        if (block := b"".join((*rest, data[:cut]))).strip():
                            yield block
                        rest = []
                    line += data.count(b"\n")
                    rest.append(data[cut:])
                    if sum(map(len, rest)) > LONGEST:
                        also = ", and this is one array" if rest[0].lstrip().startswith(b"[") else ""
                        raise SourceError(
                            f"{self.path} line {line} has more than {LONGEST >> 20} MiB: JSON lines hold one object "
                            f"in each{also}"
                        )
                if (block := b"".join(rest)).strip():
                    yield block
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error}") from error

    def _parsed(self, block: bytes, first: int, options: Any) -> pa.Table:
        # Deep nesting would overflow the parser's stack and end the process. Brackets within texts open nothing.
        if DEEP.search(block) and DEEP.search(TEXTS.sub(b'""', block)):
            raise SourceError(f"{self.path} {fault_in(block, first, 'a value is nested more than 200 deep')}")
        reading = arrow_json.ReadOptions(block_size=len(block) + 1)
        try:
            table = arrow_json.read_json(pa.BufferReader(block), reading, options)
            table.validate(full=True)  # the parser accepts bytes that are no UTF-8
            return table
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise SourceError(f"{self.path} {fault_in(block, first, str(error))}") from error

    def _refuse_rounded(self, block: bytes, table: pa.Table, first: int) -> None:
        """SourceError for a whole number that the parser rounded to a float, or that is beyond 64 bits."""
        long = {field.name: long_in(table[field.name]) for field in table.schema if holds_numbers(field.type)}
        suspects = np.unique(np.concatenate([np.zeros(0, np.int64), *long.values()]))
        if not len(suspects) or not LONG_NUMBER.search(block):
            return
        lines = [line for line in block.splitlines() if line.strip()]
        for row in suspects.tolist():
            record = json.loads(lines[row])
            for name in long:
                value = record.get(name)
                for number in value if isinstance(value, list) else [value]:
                    if not isinstance(number, int) or (int(float(number)) == number and -(2**63) <= number < 2**63):
                        continue
                    why = "which a float rounds" if -(2**63) <= number < 2**63 else "beyond 64 bits"
                    raise SourceError(
                        f"{self.path} row {first + row}: column {name!r} is {number}, {why}: write it as a text where "
                        "it is a code, or with a point where it is a quantity"
                    )


def merged(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type of objects with the fields of both; `other` where the two do not unify."""
    try:
        both = pa.unify_schemas([pa.schema([("x", one)]), pa.schema([("x", other)])], promote_options="permissive")
    except pa.ArrowException:
        return other
    return both.field("x").type


def without_dates(kind: pa.DataType) -> pa.DataType:
    """The type with texts in place of dates: the parser reads strings that look like dates as such."""
    if pa.types.is_timestamp(kind):
        return types.TEXT
    if pa.types.is_struct(kind):
        return pa.struct(
            [(kind.field(place).name, without_dates(kind.field(place).type)) for place in range(kind.num_fields)]
        )
    return pa.large_list(without_dates(kind.value_type)) if types.is_list(kind) else kind


def options_for(wanted: Types) -> arrow_json.ParseOptions:
    """Options that parse these columns in these types, and no others."""
    return arrow_json.ParseOptions(
        explicit_schema=pa.schema([(name, parsed_as(kind)) for name, kind in wanted.items()]),
        unexpected_field_behavior="ignore",
    )


def parsed_as(kind: pa.DataType) -> pa.DataType:
    """The parser's type for values of a settled one: its lists have offsets of 32 bits."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, parsed_as(field.type)) for field in kind])
    return pa.list_(parsed_as(kind.value_type)) if types.is_list(kind) else kind


def long_in(values: pa.ChunkedArray) -> np.ndarray:
    """Rows, int64, with floats, or lists of them, from 2^53 on, where floats skip whole numbers."""
    flat = values.combine_chunks()
    rows = pc.list_parent_indices(flat).to_numpy() if types.is_list(values.type) else np.arange(len(flat))
    numbers = pc.list_flatten(flat) if types.is_list(values.type) else flat
    return np.asarray(rows[np.abs(numbers.to_numpy(zero_copy_only=False)) >= 2.0**53])


def holds_numbers(kind: pa.DataType) -> bool:
    """Whether cells are floats, or lists of them."""
    return bool(pa.types.is_floating(kind.value_type if types.is_list(kind) else kind))


def fault_in(block: bytes, first: int, reason: str) -> str:
    """Message with the faulty row of the file: the first that is no JSON object, else the one in the parser's error."""
    rows = (line for line in block.removeprefix(codecs.BOM_UTF8).splitlines() if line.strip())
    for row, line in enumerate(rows, start=first):
        try:
            if not isinstance(json.loads(line), dict):
                return f"row {row}: not a JSON object"
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            return f"row {row}: {error}"
        except RecursionError:
            return f"row {row}: a value is nested too deeply to be read"
    match = re.search(r"error: (Column\((?P<place>[^)]*)\) )?(?P<fault>.*) in row (?P<row>\d+)", reason)
    if match is None:
        return f"rows from {first}: {reason}"
    if match["place"] is None:
        return f"row {first + int(match['row'])}: {match['fault']}"
    column, *inner = match["place"].strip("/").split("/")
    within = " within a list" if inner else ""
    return f"row {first + int(match['row'])}: column {column!r} {match['fault']}{within}; a column is of one type"
