"""Findings of an audit's checks, besides copies and wrong labels, for each part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from secateur.pipelines.audits.checks.contract import Odd, checks
from secateur.pipelines.audits.contract import TRAIN, AuditRows
from secateur.pipelines.audits.listed import Found
from secateur.pipelines.data.check import many


def odd(rows: AuditRows) -> Iterator[Found]:
    """Findings of every check for this kind of rows, in the order of the checks' names."""
    for kinds, one in checks().values():
        if rows.kind in kinds:
            for found in one(rows):
                yield from findings_of(rows, found)


def findings_of(rows: AuditRows, found: Odd) -> Iterator[Found]:
    """A finding for each part that has such rows; one for training where it concerns no rows."""
    if found.rows is None:
        yield Found(found.kind, rows.names[TRAIN], found.says, np.zeros(0, np.int64), count=1)
        return
    for part, name in rows.names.items():
        mine = found.rows[rows.part[found.rows] == part]
        if len(mine):
            text = f"{many(len(mine), f'{name} row')} of {len(rows.splits[part]):,}: {found.says}"
            yield Found(found.kind, name, text, mine.astype(np.int64))
