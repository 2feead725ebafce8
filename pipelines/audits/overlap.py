"""How much of the texts of other parts stands in training, by the two measures of contamination that people report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.audits.contract import BENCHMARK, TRAIN, AuditRows
from secateur.pipelines.audits.listed import Found
from secateur.pipelines.data.check import many


def overlaps_in(rows: AuditRows) -> dict[int, pl.DataFrame]:
    """`contamination` of the rows of each part but training, by the part's number; none of other data than texts."""
    if rows.kind != "text":
        return {}
    from secateur.scorers.copies.contamination import contamination

    texts = rows.texts()
    train = texts.gather(np.arange(len(rows))[rows.span(TRAIN)])
    others = [part for part in rows.splits if part != TRAIN]
    return {part: contamination(train, texts.gather(np.arange(len(rows))[rows.span(part)])) for part in others}


def contaminated(rows: AuditRows, overlaps: Mapping[int, pl.DataFrame]) -> Iterator[Found]:
    """A finding for each benchmark with a row that overlaps, the rows with the largest share of their words first."""
    for part, table in overlaps.items():
        hit = np.flatnonzero(table["overlap_13"].to_numpy())
        if part < BENCHMARK or not len(hit):
            continue
        covered = table["covered"].to_numpy()
        hit = hit[np.argsort(-covered[hit], kind="stable")]
        found = rows.starts[part] + hit
        found, hit = found[rows.fresh[found]], hit[rows.fresh[found]]
        if len(found):
            name = rows.names[part]
            text = (
                f"{many(len(found), f'{name} row')} of {len(table):,} share 13 words in a row (half their words, where "
                f"they are short) with a row of train; on average {covered.mean():.1%} of a row's words lie in runs of "
                "8 that train has"
            )
            more = {"score": pl.Series(covered[hit]), "measure": pl.Series(["covered words"] * len(hit))}
            yield Found("overlap", name, text, found, more=more)


def summed(rows: AuditRows, overlaps: Mapping[int, pl.DataFrame]) -> dict[str, Any]:
    """JSON-able: rows with an overlap, and the mean share of covered words, by the part's name."""
    return {
        rows.names[part]: {
            "rows": len(table),
            "overlap_13": int(table["overlap_13"].sum()),
            "covered": float(table["covered"].mean() or 0.0),  # type: ignore[arg-type]
        }
        for part, table in overlaps.items()
    }
