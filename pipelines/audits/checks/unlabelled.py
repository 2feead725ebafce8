"""Rows without a label, or with a number that no model can learn; the audit does not check their labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from secateur.pipelines.audits.checks.contract import Odd, check
from secateur.pipelines.audits.contract import AuditRows


@check()
def no_label(rows: AuditRows) -> Iterator[Odd]:
    """Rows with a readable input and no label, in parts with columns of labels."""
    having = [part for part, columns in rows.columns.items() if columns.labels]
    if rows.targets is None or not having:
        return
    found = np.flatnonzero(np.isin(rows.part, having) & rows.sound & ~rows.labelled)
    numbers = rows.task is not None and rows.task.target == "numbers"
    what = "a number that is missing, NaN or infinite" if numbers else "no label"
    yield Odd("no label", f"{what}; correct or drop such rows before training", found)
