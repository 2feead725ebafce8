"""Signals for selectors from a study's target and its data: orders and weights of the rows of the data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int64

from secateur.pipelines.data.codes import codes_of
from secateur.pipelines.data.fingerprints import fingerprint
from secateur.pipelines.data.identity import hex_of
from secateur.pipelines.data.scan import CONTENT, SplitRows, words_of
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.target_rows import without_gaps
from secateur.pipelines.files.whole_files import write_bytes
from secateur.pipelines.studies.target import StudyTarget
from secateur.scorers.target.cosines import Cosines
from secateur.scorers.target.target_places import target_places
from secateur.selectors.contract import resolve_keep

FACTS, ROWS = "target.json", "rows"


@dataclass(frozen=True)
class StoredTarget:
    """The rows of a target in the folder of the asset `target`."""

    folder: Path

    @property
    def rows(self) -> SplitRows:
        """The rows, with the columns that a study reads."""
        return SplitRows(tuple(sorted((self.folder / ROWS).glob("*.arrow"))))

    @property
    def facts(self) -> dict[str, Any]:
        """`rows`, their number; their `fingerprint`; `files`, by name and number of rows; the `revision` of the files;
        `from`, their origin in words; and `task`, the column whose values take turns, if the study names one."""
        found: dict[str, Any] = json.loads((self.folder / FACTS).read_text())
        return found

    def column(self, name: str, what: str) -> pl.Series:
        """A column without gaps; SourceError that names the rows with a gap."""
        return without_gaps(self.rows, name, f"target.{what}", [name for name, _ in self.facts["files"]])

    def tasks(self, target: StudyTarget) -> Int64[np.ndarray, " queries"] | None:
        """Number of the task of each row; None where there is only one task."""
        return None if target.task is None else codes_of(self.column(target.task, "task"))[0]

    def own_sources(self, target: StudyTarget) -> list[Any]:
        """Values of the column of sources that are the target's own."""
        assert target.source is not None
        return list(target.own) if target.own else self.column(target.source, "source").unique().sort().to_list()


def facts_of(
    rows: SplitRows, files: Sequence[tuple[str, int]], revision: str, told: str, task: str | None = None
) -> dict[str, Any]:
    """See `StoredTarget.facts`."""
    hashes = [hex_of(words_of(table[CONTENT])) for table in rows.batches([CONTENT])]
    identity = fingerprint(pl.concat([pl.Series(each) for each in hashes]))
    return {
        "rows": len(rows),
        "fingerprint": identity,
        "files": files,
        "revision": revision,
        "from": told,
        "task": task,
    }


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the facts beside the rows."""
    write_bytes(folder / FACTS, (json.dumps(facts, indent=1) + "\n").encode())


def places_for(
    stored: StoredTarget, target: StudyTarget, cosines: Cosines, depth: int | None
) -> Int64[np.ndarray, " n"]:
    """The order in which the rows of the target, or its tasks, take rows of the data."""
    return target_places(cosines, stored.tasks(target), depth=depth)


def depth_of(budgets: Sequence[Any], count: int, *, whole: bool) -> int | None:
    """Number of places of an order that budgets need: the largest; None, for all, where `whole` or by a column."""
    if whole or any(isinstance(keep, Mapping) for keep in budgets):
        return None
    return max(resolve_keep(keep, count) for keep in budgets)


def in_sources(column: pl.Series, own: Sequence[Any], *, written: bool) -> Int64[np.ndarray, " n"]:
    """1 for rows of the target's own sources, 0 for others; SourceError where the column has none of these.

    `written` is true if the study names the sources, false if they come from the rows of the target.
    """
    texts = column.cast(pl.String)
    found = texts.is_in(pl.Series([str(value) for value in own], dtype=pl.String).implode()).fill_null(False)
    if not found.any():
        there = ", ".join(texts.drop_nulls().unique().sort().head(10).to_list())
        named = ", ".join(map(str, own))
        if written:
            raise SourceError(f"target.own: no row of the data is of source {named}; there are: {there}")
        raise SourceError(
            f"target.source: no row of the data is of the target's own source ({named}); there are: {there}: correct "
            "the values of one side, or write target.own"
        )
    return found.to_numpy().astype(np.int64)
