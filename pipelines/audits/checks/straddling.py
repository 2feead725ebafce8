"""Groups with rows in several parts: a model that learned a group's rows in training knows the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from secateur.pipelines.audits.checks.contract import Odd, check
from secateur.pipelines.audits.contract import TRAIN, AuditRows
from secateur.pipelines.data.check import many


@check()
def straddling_groups(rows: AuditRows) -> Iterator[Odd]:
    """Rows of other parts whose group is also in training, where the audit knows a column of groups."""
    groups = rows.column("group")
    if groups is None:
        return
    name = rows.columns[TRAIN].group
    found, shared = straddling(groups, rows.part)
    says = f"their group (column {name!r}) has rows in training, too; {many(shared, 'such group')}"
    yield Odd("groups", says, found)


def straddling(groups: pl.Series, part: np.ndarray) -> tuple[np.ndarray, int]:
    """Rows outside training whose group is in training, group by group, and the number of such groups."""
    frame = pl.DataFrame({"group": groups, "part": part}).with_row_index("row")
    known = frame.filter((pl.col("part") == TRAIN) & pl.col("group").is_not_null()).select("group").unique()
    beyond = frame.filter(pl.col("part") != TRAIN).join(known, on="group", how="semi").sort("group", "row")
    return beyond["row"].to_numpy().astype(np.int64), beyond["group"].n_unique()
