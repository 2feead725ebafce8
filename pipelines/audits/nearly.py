"""Near copies of an audit's rows, by the measures of what they hold."""

from __future__ import annotations

import polars as pl

from secateur.pipelines.audits.contract import AuditRows
from secateur.scorers.copies.contract import Copies, Progress


def near_copies(rows: AuditRows, *, seed: int = 0, progress: Progress | None = None) -> list[Copies]:
    """Texts by words; none where there is a single readable row."""
    if rows.sound.sum() < 2:
        return []
    if rows.kind == "text":
        from secateur.scorers.copies.texts import text_copies

        sound = pl.Series(rows.sound)
        texts = pl.select(pl.when(sound).then(rows.texts())).to_series()
        return text_copies(texts, rows.part, seed=seed, progress=progress)
    return []
