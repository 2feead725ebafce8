"""The finding of labels that may be wrong: their number, the rows, and for rows with several labels the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from secateur.pipelines.audits.contract import AuditRows
from secateur.pipelines.audits.listed import Found
from secateur.pipelines.audits.suspects import Suspects
from secateur.pipelines.files.shown_text import one_line, quoted

SURE = 0.8
"""Least accuracy of the model for a good estimate."""
NAMED = 5
"""Most labels in a sentence."""


def wrongly_labelled(rows: AuditRows, suspects: Mapping[int, Suspects]) -> Iterator[Found]:
    """A finding for each part with suspects."""
    assert rows.task is not None
    for part, some in suspects.items():
        order = some.listed
        order = order[rows.fresh[some.rows[order]]]
        if not len(order):
            continue
        wrong, suggested = some.wrong, some.wrong.suggested
        disputed = [disputed_in(rows, some, place) for place in order.tolist()]
        more = {
            "suggested": pl.Series([rows.task.shown(suggested[place]) for place in order.tolist()], dtype=pl.String),
            "disputed": pl.Series([", ".join(names) or None for names in disputed], dtype=pl.String),
            "score": pl.Series(wrong.score[order].astype(np.float64)),
        }
        text = sentence_of(rows, some, rows.names[part], len(order)) + most_disputed(disputed)
        yield Found("wrong labels", rows.names[part], text, some.rows[order], more=more)


def sentence_of(rows: AuditRows, some: Suspects, name: str, listed: int) -> str:
    """The number of wrong labels of a part, and of listed rows."""
    assert rows.task is not None
    wrong = some.wrong
    entries = "entries" if some.in_entries else "labels"
    if some.uncounted:
        return (
            f"unknown how many of {some.counted:,} {name} {entries} are wrong: {some.uncounted}; "
            f"the {listed:,} likeliest rows are listed"
        )
    interval = "by cleanlab" if np.isnan(wrong.low) else f"{wrong.low:,.0f} to {wrong.high:,.0f} at {wrong.level:.0%}"
    which = f"{listed:,} rows that hold the likeliest" if some.in_entries else f"{listed:,} likeliest rows"
    text = (
        f"about {wrong.count:,.0f} of {some.counted:,} {name} {entries} are wrong ({interval}); the {which} are listed"
    )
    if wrong.accuracy < SURE:
        numbers = rows.task.target == "numbers"
        share = f"{wrong.accuracy:.0%} of {'the spread' if numbers else f'the {entries}'}"
        text += f". The model {'explains' if numbers else 'predicts'} only {share}, so its own mistakes may count"
    return text


def disputed_in(rows: AuditRows, some: Suspects, place: int) -> list[str]:
    """For a row with several labels or numbers those that may be wrong, the likeliest first: the most suspicious label
    and others that differ from the prediction, or the number farthest from its prediction. Empty for one class or
    number.
    """
    assert rows.task is not None
    assert rows.targets is not None
    wrong = some.wrong
    if wrong.entries is None or wrong.entries.shape[1] < 2:
        return []
    differs, width = wrong.suggested[place] != rows.targets[some.rows[place]], wrong.entries.shape[1]
    first, *others = np.argsort(-wrong.entries[place], kind="stable").tolist()
    names = rows.label_names if len(rows.label_names) == width else [str(each) for each in range(width)]
    found = [first, *(each for each in others if differs[each] and rows.task.target == "labels")]
    return [one_line(names[each]) for each in found]


def most_disputed(disputed: Sequence[Sequence[str]]) -> str:
    """The labels disputed in most of the rows, as the end of a sentence; empty where rows have one label."""
    counts = Counter(name for names in disputed for name in names).most_common()
    told = ", ".join(f"{quoted(name)} in {count:,}" for name, count in counts[:NAMED])
    more = f" and {len(counts) - NAMED:,} more" if len(counts) > NAMED else ""
    return f"; disputed are {told}{more}" if counts else ""
