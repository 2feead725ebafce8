"""Findings of an audit, each with its rows: sentences for people, and a table of all rows for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int64

from secateur.pipelines.audits.contract import AuditRows
from secateur.pipelines.data.check import LISTED, Finding, view_of
from secateur.pipelines.files.shown_text import one_line, visible

MOST = 100_000
"""Most rows of a finding in the table, beside those drawn for marking; a finding counts all of its rows."""
LONGEST = 300
"""Most characters of a row in the table."""
BY_EMBEDDINGS = " by embeddings"
"""Suffix of the kind of a finding that only vectors make."""
ORDER = (
    "leaked",
    "near leaked",
    "near leaked by embeddings",
    "overlap",
    "label leak",
    "groups",
    "duplicates",
    "near duplicates",
    "near duplicates by embeddings",
    "shared",
    "near shared",
    "near shared by embeddings",
    "conflicts",
    "wrong labels",
    "unreadable",
)
"""Kinds of findings, the most severe first; those of further checks follow in the order of their names."""
SCHEMA = {
    "finding": pl.String, "importance": pl.Int64, "count": pl.Int64, "group": pl.Int64, "group_rows": pl.Int64,
    "stays": pl.Boolean, "split": pl.String, "file": pl.String, "row": pl.Int64, "path": pl.String, "id": pl.String,
    "given": pl.String, "suggested": pl.String, "disputed": pl.String, "score": pl.Float64, "measure": pl.String,
    "similarity": pl.Float64,
    "other_split": pl.String, "other_file": pl.String, "other_row": pl.Int64, "other_path": pl.String,
    "other_given": pl.String, "to_mark": pl.Boolean, "at": pl.Int64, "other_at": pl.Int64, "text": pl.String,
    "other_text": pl.String,
}  # fmt: skip
"""Columns of the table of findings."""


@dataclass(frozen=True)
class Found:
    """A finding, its rows int64 `[m]` in the order in which people should look at them, and further columns of the
    table.

    `other` is the row that each is compared with, -1 for none.
    """

    kind: str
    split: str
    text: str
    rows: Int64[np.ndarray, " m"]
    count: int | None = None
    """The count, where it is not the number of rows."""
    groups: int = 0
    other: Int64[np.ndarray, " m"] | None = None
    more: Mapping[str, pl.Series] = field(default_factory=dict)
    """Columns of `SCHEMA` for its rows."""

    @property
    def listed(self) -> Int64[np.ndarray, " k"]:
        """Places of its rows in the table, ascending."""
        marked = self.more.get("to_mark")
        drawn = np.empty(0, np.int64) if marked is None else marked.arg_true().to_numpy().astype(np.int64)
        return np.union1d(np.arange(min(MOST, len(self.rows)), dtype=np.int64), drawn)

    def finding(self, audited: AuditRows) -> Finding:
        """The finding as the data check of a study stores it."""
        rows = self.rows[:LISTED]
        places = audited.at(rows)
        paths = tuple(filter(None, places["path"])) if "path" in places.columns else ()
        pairs = tuple(zip(places["file"].to_list(), places["row"].to_list(), strict=True))
        count = len(self.rows) if self.count is None else self.count
        return Finding(self.kind, self.split, 0, count, self.text, pairs, paths, self.groups)


def in_order(found: Sequence[Found]) -> list[Found]:
    """Findings, the most severe first."""
    return sorted(found, key=lambda one: (ORDER.index(one.kind) if one.kind in ORDER else len(ORDER), one.kind))


def as_findings(found: Sequence[Found], audited: AuditRows) -> list[dict[str, Any]]:
    """Findings as in `runs.findings`: `kind`, `split`, `importance`, `count`, `text`, `rows`, `paths`, …"""
    every = [replace(one.finding(audited), importance=place) for place, one in enumerate(found)]
    told = [asdict(one) for one in every]
    return [one | {"rows": [list(pair) for pair in one["rows"]], "view": view_of(one)} for one in told]


def table_of(found: Sequence[Found], audited: AuditRows, *, samples: bool = True) -> pl.DataFrame:
    """A line for each row of each finding, at most the first `MOST` and the drawn ones, with the columns of `SCHEMA`.

    Without `samples` the table has no contents of rows.
    """
    ids = audited.column("id")
    parts = [pl.DataFrame(schema=SCHEMA)]
    for importance, one in enumerate(found):
        listed = one.listed
        lines = described(audited, one.rows[listed], ids, samples=samples)
        if one.other is not None:
            other = one.other[listed]
            there = np.flatnonzero(other >= 0)
            told = described(audited, other[there], None, samples=samples).select(
                *(pl.col(name).alias(f"other_{name}") for name in ("split", "file", "row", "given")),
                pl.col("at").alias("other_at"),
                *([pl.col("path").alias("other_path")] if "path" in lines.columns else []),
                *([pl.col("text").alias("other_text")] if samples else []),
            )
            told = told.with_columns(place=pl.Series(there, dtype=pl.UInt32))
            lines = lines.with_row_index("place").join(told, on="place", how="left", maintain_order="left")
            lines = lines.drop("place")
        count = len(one.rows) if one.count is None else one.count
        lines = lines.with_columns(
            finding=pl.lit(one.kind), importance=pl.lit(importance), count=pl.lit(count),
            **{name: column.gather(listed) for name, column in one.more.items()},
        )  # fmt: skip
        parts.append(lines.cast({name: kind for name, kind in SCHEMA.items() if name in lines.columns}))  # type: ignore[arg-type]
    whole = pl.concat(parts, how="diagonal_relaxed").select(*SCHEMA)
    return whole.with_columns(pl.col("to_mark").fill_null(False))


def described(
    audited: AuditRows, rows: Int64[np.ndarray, " m"], ids: pl.Series | None, *, samples: bool
) -> pl.DataFrame:
    """Places of rows, their targets, and their contents."""
    places = audited.at(rows).rename({"part": "split"})
    more = {"at": pl.Series(rows), "given": pl.Series(map(one_line, audited.given(rows)), dtype=pl.String)}
    if ids is not None:
        more["id"] = ids.gather(rows)
    if samples:
        more["text"] = pl.Series(views(audited, rows), dtype=pl.String)
    return places.with_columns(**more)


def views(audited: AuditRows, rows: Int64[np.ndarray, " m"]) -> list[str]:
    """Contents of rows, in a line each: a text, features with their names, nothing for pictures."""
    if audited.kind == "image":
        return [""] * len(rows)
    held = audited.held(rows)
    if audited.kind == "features":
        held = [", ".join(f"{name}={value}" for name, value in (one or {}).items()) for one in held]
    return [one_line(visible(str(one or ""))[: 4 * LONGEST], LONGEST) for one in held]
