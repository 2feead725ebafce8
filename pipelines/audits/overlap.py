"""Contamination: how much of other parts' texts is in training, by the two common measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int64

from secateur.pipelines.audits.contract import BENCHMARK, TRAIN, AuditRows
from secateur.pipelines.audits.listed import Found
from secateur.pipelines.data.check import many

WORST, SAID = 20, 3
"""Most rows of a part in JSON, and in the sentence."""


def overlaps_in(rows: AuditRows) -> dict[int, pl.DataFrame]:
    """`contamination` of the rows of each part but training, by the part's number; empty for data other than texts."""
    others = [part for part in rows.splits if part != TRAIN]
    if rows.kind != "text" or not others:
        return {}
    from secateur.scorers.copies.contamination import contamination

    texts = rows.texts
    size = len(rows.splits[TRAIN])
    # One call for all parts: each call hashes and sorts the words of training.
    table = contamination(texts.head(size), texts.slice(size))
    return {part: table.slice(rows.starts[part] - size, len(rows.splits[part])) for part in others}


def worst_first(rows: AuditRows, part: int, table: pl.DataFrame) -> Int64[np.ndarray, " m"]:
    """Places within a part of its overlapping rows, those with the largest share of covered words first; only rows that
    no earlier audit has seen."""
    hit = np.flatnonzero(table["overlap_13"].to_numpy() & rows.fresh[rows.span(part)])
    return np.asarray(hit[np.argsort(-table["covered"].to_numpy()[hit], kind="stable")])


def contaminated(rows: AuditRows, overlaps: Mapping[int, pl.DataFrame]) -> Iterator[Found]:
    """A finding for each benchmark with an overlapping row, the rows with the largest share of covered words first.

    Test rows and targets get no finding, only their entry in `summed`: short texts of one subject share half their
    words by chance.
    """
    for part, table in overlaps.items():
        hit = worst_first(rows, part, table)
        if part < BENCHMARK or not len(hit):
            continue
        name, covered = rows.names[part], table["covered"].to_numpy()
        text = (
            f"{many(len(hit), f'{name} row')} of {len(table):,} share 13 words in a row (half their words, where "
            f"they are short) with a row of train; on average {covered.mean():.1%} of a row's words lie in runs of "
            "8 that train has"
        )
        more = {"score": pl.Series(covered[hit]), "measure": pl.Series(["covered tokens"] * len(hit))}
        yield Found("overlap", name, text, rows.starts[part] + hit, more=more)


def summed(rows: AuditRows, overlaps: Mapping[int, pl.DataFrame]) -> dict[str, Any]:
    """JSON-able, by the part's name: `rows`, the number with an `overlap_13`, the mean share of `covered` words, the
    `worst` rows, and a `sentence` of it."""
    return {rows.names[part]: told(rows, part, table) for part, table in overlaps.items()}


def told(rows: AuditRows, part: int, table: pl.DataFrame) -> dict[str, Any]:
    """Both measures of one part."""
    worst = worst_first(rows, part, table)[:WORST]
    places = rows.at(rows.starts[part] + worst).select("file", "row")
    listed = pl.concat([places, table[worst].select("covered", "overlap_n", "longest")], how="horizontal")
    hits, covered = int(table["overlap_13"].sum()), float(table["covered"].fill_null(0.0).to_numpy().mean())
    sentence = (
        f"Contamination of {rows.names[part]}: 13-gram overlap in {many(hits, 'row')} of {len(table):,} "
        f"({hits / len(table):.1%}), covered tokens {covered:.1%} on average"
    )
    if len(worst):
        sentence += f"; most of all {named(listed.head(SAID), rows.names[part])}"
    return {
        "rows": len(table), "overlap_13": hits, "covered": covered, "worst": listed.to_dicts(), "sentence": sentence
    }  # fmt: skip


def named(listed: pl.DataFrame, part: str) -> str:
    """Rows with their share of covered tokens; with their files unless the part's name is the file."""
    alone = listed["file"].n_unique() == 1
    each = [
        f"{'' if alone else one['file'] + ' '}row {one['row']} ({one['covered']:.0%})"
        for one in listed.iter_rows(named=True)
    ]
    file = listed["file"][0]
    return ", ".join(each) + (f" of {file}" if alone and file != part else "")
