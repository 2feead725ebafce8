"""The input of an audit: rows of training, test, target and benchmarks in one numbering, with their places in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Bool, Float32, Int16, Int64, Shaped

from secateur.pipelines.audits.seen import Seen, seen
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import Hashes
from secateur.pipelines.data.scan import CONTENT, FAULT, FILE, INPUT, ROW, SplitRows, words_of
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.types import series_of
from secateur.pipelines.files.shown_text import visible
from secateur.trainers.tasks.contract import Task

TRAIN, TEST, TARGET, BENCHMARK = range(4)
"""Numbers of the parts; benchmarks follow."""
WHOLE = "whole"
"""The kind of rows that are compared for equality alone."""
SHOWN = 5
"""Rows that a message lists."""
NEARLY_ALL, SEVERAL = 0.9, 10
"""Largest share of a part's distinct rows with one vector, and the least number of rows for that check."""
BLOCK = 1024
"""Vectors per block of work."""
Made = tuple[Float32[np.ndarray, "q d"], Bool[np.ndarray, " q"]]
"""Vectors of rows, and a mask of the rows that have one."""


@dataclass(frozen=True)
class AuditRows:
    """Rows of several parts, concatenated in the order of the parts' numbers; `n` of them.

    `splits` are their shards, `names` the parts' names, both by the part's number. `columns` name each part's columns,
    as a benchmark may have other names, and no labels. `files` are those of all parts by the numbers in the shards.
    `targets` are those of the `task` as in `data.targets`, `[n, …]`, undefined where a row is not `labelled`. Memory
    holds hashes, places and targets of all rows; texts, columns and thumbnails of pictures are read on first access,
    and kept.
    """

    name: str
    names: Mapping[int, str]
    splits: Mapping[int, SplitRows]
    columns: Mapping[int, Columns]
    files: tuple[str, ...]
    labelled: Bool[np.ndarray, " n"]
    task: Task | None = None
    targets: Shaped[np.ndarray, "n ..."] | None = None
    label_names: tuple[str, ...] = ()
    unlabelled: str = ""
    """Reason why no labels are known, if it needs an explanation."""
    pictures: Path | None = None
    """The folder to which paths of pictures are relative in messages, where pictures are files."""
    bases: Mapping[int, Path] = field(default_factory=dict)
    """The same for parts whose pictures lie elsewhere."""
    notes: tuple[str, ...] = ()
    """Guesses of the reader, in words."""
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    """Types of the columns of training rows on reading."""
    separator: str = ","
    charset: str = "utf-8"
    chat: str | None = None
    """The column of training rows that holds conversations, which are read as texts."""
    offsets: Mapping[int, int] = field(default_factory=dict)
    """Place among `files` of a part's first file, where its shards count their files by themselves."""
    known: Bool[np.ndarray, " n"] | None = None
    """Rows of an earlier audit; its findings about them are not repeated."""
    whole: bool = False
    """Whether rows are compared for equality alone; people see the text of each instead of its contents."""
    besides: pl.DataFrame | None = field(default=None, repr=False)
    """Columns of the training rows that could be features and that the reader excluded, in their order."""
    vectors: Vectors | None = field(default=None, repr=False)
    """Vectors of the rows, where the user or a study names their source."""
    alive: Any = field(default=None, repr=False)
    """Keeps a reference to the temporary folder of the shards."""

    def __len__(self) -> int:
        return len(self.part)

    @property
    def kind(self) -> str:
        """`text`, `image`, `features` or `WHOLE`."""
        return WHOLE if self.whole else self.columns[TRAIN].kind

    @cached_property
    def starts(self) -> Mapping[int, int]:
        """Number of the first row of each part."""
        found, start = {}, 0
        for number, rows in self.splits.items():
            found[number] = start
            start += len(rows)
        return found

    @cached_property
    def part(self) -> Int16[np.ndarray, " n"]:
        """The part of each row."""
        return np.concatenate([np.full(len(rows), number, np.int16) for number, rows in self.splits.items()])

    @cached_property
    def fresh(self) -> Bool[np.ndarray, " n"]:
        """Rows that no earlier audit has seen; all of them without an earlier audit."""
        return np.ones(len(self), np.bool_) if self.known is None else np.asarray(~self.known)

    def span(self, part: int) -> slice:
        """The rows of a part."""
        start = self.starts[part]
        return slice(start, start + len(self.splits[part]))

    @cached_property
    def inputs(self) -> Hashes:
        """Hashes of the inputs."""
        return self._hashes(INPUT)

    @cached_property
    def contents(self) -> Hashes:
        """Hashes of inputs and targets."""
        return self._hashes(CONTENT)

    def _hashes(self, key: str) -> Hashes:
        return np.concatenate([words_of(table[key]) for rows in self.splits.values() for table in rows.batches([key])])

    @cached_property
    def faults(self) -> pl.Series:
        """Reason why a row's input is unusable for a model, or null, String `[n]`."""
        return self._column([FAULT] * len(self.splits))

    @cached_property
    def sound(self) -> Bool[np.ndarray, " n"]:
        """Rows whose input can be read."""
        return self.faults.is_null().to_numpy()

    @cached_property
    def file(self) -> Int64[np.ndarray, " n"]:
        """The place of each row's file among `files`."""
        own = self._column([FILE] * len(self.splits)).to_numpy().astype(np.int64)
        for part, offset in self.offsets.items():
            own[self.part == part] += offset
        return own

    @cached_property
    def row(self) -> Int64[np.ndarray, " n"]:
        """Row of each row in its file, from 0, a header not counted."""
        return self._column([ROW] * len(self.splits)).to_numpy().astype(np.int64)

    def _column(self, names: Sequence[str]) -> pl.Series:
        """One column of all rows, by its name in each part."""
        parts = [
            series_of(table[name]).rename("")
            for name, rows in zip(names, self.splits.values(), strict=True)
            for table in rows.batches([name])
        ]
        return pl.concat(parts)

    @cached_property
    def texts(self) -> pl.Series:
        """Texts of all rows, String `[n]`, empty where a row has none."""
        return self._column([self.columns[part].inputs[0] for part in self.splits]).fill_null("")

    def texts_at(self, rows: Int64[np.ndarray, " m"]) -> pl.Series:
        """Texts of some rows, in their order; reads only these unless all texts are in memory."""
        if "texts" in self.__dict__:
            return self.texts.gather(rows)
        return pl.Series(self.held(rows), dtype=pl.String).fill_null("")

    def cells(self) -> Iterator[tuple[int, list[Any]]]:
        """Pictures as undecoded cells of `data.types.PICTURE`, in batches with the number of their first row."""
        start = 0
        for part, rows in self.splits.items():
            name = self.columns[part].inputs[0]
            for table in rows.batches([name]):
                yield start, table[name].to_pylist()
                start += table.num_rows

    @cached_property
    def seen(self) -> Seen:
        """Thumbnails and measures of the pictures."""
        return seen(self.cells(), self.sound)

    @cached_property
    def features(self) -> pl.DataFrame:
        """Feature columns of all rows, `[n]`, in their types."""
        names = self.columns[TRAIN].inputs
        tables = [pl.DataFrame(table) for rows in self.splits.values() for table in rows.batches(list(names))]
        return pl.concat(tables, how="vertical_relaxed")

    def column(self, role: str) -> pl.Series | None:
        """The `group` or `id` of all rows as texts, null where a part has no such column; None if training lacks it."""
        if getattr(self.columns[TRAIN], role) is None:
            return None
        parts = []
        for part, rows in self.splits.items():
            name = getattr(self.columns[part], role)
            if name is None:
                parts.append(pl.Series([None] * len(rows), dtype=pl.String))
            else:
                parts.append(rows.column(name).cast(pl.String).rename(""))
        return pl.concat(parts)

    def at(self, rows: Int64[np.ndarray, " m"]) -> pl.DataFrame:
        """Places of rows, in their order: `part` by name, `file`, `row` in it, `path` of a picture that is a file."""
        files = pl.Series([visible(name) for name in self.files], dtype=pl.String)
        places = {
            "part": pl.Series([self.names[part] for part in self.part[rows].tolist()], dtype=pl.String),
            "file": files.gather(self.file[rows]),
            "row": pl.Series(self.row[rows]),
        }
        if self.pictures is not None:
            cells = self.held(rows)
            folders = [self.bases.get(part, self.pictures) for part in self.part[rows].tolist()]
            paths = [
                str((cell or {}).get("path") or "").removeprefix(f"{folder}/")
                for cell, folder in zip(cells, folders, strict=True)
            ]
            places["path"] = pl.Series(map(visible, paths), dtype=pl.String)
        return pl.DataFrame(places)

    def held(self, rows: Int64[np.ndarray, " m"]) -> list[Any]:
        """Contents of rows, in their order: a text, a picture's cell, or features by name."""
        found: list[Any] = [None] * len(rows)
        for part in np.unique(self.part[rows]).tolist():
            wanted, names = np.flatnonzero(self.part[rows] == part), self.columns[part].inputs
            table = self.splits[part].mapped(names, rows[wanted] - self.starts[part])
            held = table.to_pylist() if self.kind == "features" else table[names[0]].to_pylist()
            for place, value in zip(wanted.tolist(), held, strict=True):
                found[place] = value
        return found

    def given(self, rows: Int64[np.ndarray, " m"]) -> list[str]:
        """The targets of rows for people, empty where there is none."""
        if self.targets is None or self.task is None:
            return [""] * len(rows)
        return [self.task.shown(self.targets[row]) if self.labelled[row] else "" for row in rows.tolist()]


@dataclass(frozen=True)
class Vectors:
    """One vector for each row, read or computed on first access."""

    name: str
    """Their source, for people."""
    made_of: str
    """A key that is equal for equal vectors, as far as it is known without computing them."""
    make: Callable[[AuditRows, Int64[np.ndarray, " q"]], Made] = field(repr=False)
    counts: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    """For existing vectors, their number in each part and their name in messages; empty for vectors that a network
    computes."""
    kept: dict[str, Made] = field(default_factory=dict, repr=False, compare=False)

    def of(self, rows: AuditRows, asked: Int64[np.ndarray, " q"]) -> Made:
        """Vectors of some rows with readable inputs; raises SourceError that counts and names rows with values that are
        not finite, and rows of zeros, which have no direction.
        """
        if not len(asked):
            return np.empty((0, 0), np.float32), np.empty(0, np.bool_)
        values, given = self.make(rows, asked)
        blocks = [values[start : start + BLOCK] for start in range(0, len(values), BLOCK)]
        finite = np.concatenate([np.isfinite(block).all(axis=1) for block in blocks])
        somewhere = np.concatenate([block.any(axis=1) for block in blocks])
        for fine, fault in ((finite, "NaN or infinite"), (somewhere, "all zeros and have no cosine,")):
            if len(wrong := np.flatnonzero(given & ~fine)):
                refuse(self.name, rows, asked[wrong], int(given.sum()), fault)
        return values, given

    @property
    def held(self) -> bool:
        """Whether the vectors exist already, so that no network computes them."""
        return bool(self.counts)

    def check(self, rows: AuditRows) -> None:
        """Raise SourceError for existing vectors that do not match the rows."""
        for number, (count, said) in self.counts.items():
            if count != (size := len(rows.splits[number])):
                raise SourceError(
                    f"embeddings: {said} has {count:,} rows, and {rows.names[number]} has {size:,}: give one vector "
                    "for each row, in the order of the rows"
                )
        if self.held:
            self.refuse_constant(rows, *self.of_sound(rows))

    def refuse_constant(
        self, rows: AuditRows, values: Float32[np.ndarray, "q d"], given: Bool[np.ndarray, " q"]
    ) -> None:
        """Raise SourceError where nearly all vectors of a part are equal though its inputs differ."""
        from secateur.scorers.copies.points import row_keys

        part, inputs = rows.part[rows.sound], rows.inputs[rows.sound, 1]
        for number, (_, said) in self.counts.items():
            mine = given & (part == number)
            distinct = pl.DataFrame({"input": inputs[mine], "vector": row_keys(values[mine])}).unique("input")
            most = distinct["vector"].value_counts()["count"].max() or 0
            if len(distinct) >= SEVERAL and int(most) >= NEARLY_ALL * len(distinct):  # type: ignore[arg-type]
                raise SourceError(
                    f"embeddings: {'all' if most == len(distinct) else 'nearly all'} vectors of {said} are equal, and "
                    "its rows are not: make these vectors again"
                )

    def of_sound(self, rows: AuditRows) -> Made:
        """Vectors of all rows with readable inputs, in their order; cached."""
        if "sound" not in self.kept:
            self.kept["sound"] = self.of(rows, np.flatnonzero(rows.sound))
        return self.kept["sound"]


def refuse(name: str, rows: AuditRows, wrong: Int64[np.ndarray, " k"], of: int, fault: str) -> None:
    """Raise SourceError that counts rows and names the first."""
    places = rows.at(wrong[:SHOWN])
    named = ", ".join(f"row {one['row']} of {one['file']}" for one in places.iter_rows(named=True))
    more = ", …" if len(wrong) > SHOWN else ""
    raise SourceError(
        f"embeddings: {name} are {fault} for {len(wrong):,} of {of:,} rows ({named}{more}): make these vectors "
        "again, or leave the rows out of the data"
    )
