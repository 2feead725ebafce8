"""Rows that a study's `data` drops or rejects, before anything is computed from the others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Bool

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import missing_in
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.repeats import Found, repeated_rows
from secateur.pipelines.data.scan import CONTENT, FAULT, INPUT, SplitRows, on_disk
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.types import series_of

MOST_LISTED = 10_000
"""Most dropped rows that a list has; the count has all."""


@dataclass(frozen=True)
class Dropped:
    """Rows of a split that a policy left out, by the scan's row numbers, and the reason for each listed row."""

    split: str
    policy: str
    found: Found
    reasons: list[str]


def decide(
    splits: Mapping[str, SplitRows],
    columns: Columns,
    policy: DataPolicy,
    say: Callable[[str, np.ndarray, int], str],
    folder: Path,
) -> tuple[dict[str, Bool[np.ndarray, " n"]], list[Dropped]]:
    """Masks of the rows that stay, by split, and the dropped rows in the order of the policies.

    The masks are nameless files in `folder`. Raises SourceError that names split, file and rows for rows that the
    policy rejects, and for a split of which no row is left.
    """
    keep = {split: on_disk((len(rows),), np.bool_, folder) for split, rows in splits.items()}
    dropped: list[Dropped] = []
    for split, rows in splits.items():
        keep[split][:] = True
        for left in wrong_rows(split, rows, columns, keep[split]):
            if getattr(policy, left.policy) == "reject":
                count, where = left.found.count, say(split, left.found.rows, left.found.count)
                raise SourceError(
                    f"{split} split: {left.reasons[0]} at {where}: correct or remove "
                    f"{'this row' if count == 1 else f'these {count} rows'}, or write data: {{{left.policy}: drop}}"
                )
            dropped.append(left)
        if policy.duplicates == "drop":
            again = pl.col("row") != pl.col("first")
            dropped += left_out("duplicates", split, {split: rows}, CONTENT, keep, again, "equals an earlier row")
    if policy.leaked == "drop_from_training" and "test" in splits:
        both = {"train": splits["train"], "test": splits["test"]}
        leaks = (pl.col("split") == 0) & (pl.col("total") > pl.col("count"))
        dropped += left_out("leaked", "train", both, INPUT, keep, leaks, "its input is in the test split")
    for split, mask in keep.items():
        if not mask.any():
            first = next(left for left in dropped if left.split == split)
            settings = ", ".join(f"{name}: {value}" for name, value in policy.model_dump().items())
            raise SourceError(f"{split} split: no row is left, of {len(mask)} ({first.reasons[0]}; data: {settings})")
    return keep, dropped


def wrong_rows(split: str, rows: SplitRows, columns: Columns, keep: Bool[np.ndarray, " n"]) -> list[Dropped]:
    """Rows without a usable input, then rows without a label; `keep` becomes false for both."""
    label = f"label column {', '.join(map(repr, columns.labels))} is null"
    found = {name: Dropped(split, name, Found(MOST_LISTED), []) for name in ("bad_rows", "unlabelled")}
    start = 0
    for table in rows.batches([FAULT, *columns.labels]):
        faults = series_of(table[FAULT])
        sound = missing_in(faults)
        for name, wrong in (("bad_rows", ~sound), ("unlabelled", sound & absent_in(table, columns))):
            places, left = np.flatnonzero(wrong), found[name]
            some = places[: MOST_LISTED - len(left.reasons)]
            left.reasons.extend(faults.gather(some) if name == "bad_rows" else [label] * len(some))
            left.found.add(start + places)
            keep[start + places] = False
        start += table.num_rows
    return [left for left in found.values() if left.found.count]


def left_out(
    policy: str,
    split: str,
    splits: Mapping[str, SplitRows],
    key: str,
    keep: Mapping[str, Bool[np.ndarray, " n"]],
    chosen: pl.Expr,
    reason: str,
) -> list[Dropped]:
    """Rows of a split that an expression over `repeated_rows` chooses; `keep` becomes false for them."""
    found = Found(MOST_LISTED)
    for block in repeated_rows(splits, key, keep):
        rows = block.filter(chosen)["row"].to_numpy()
        found.add(rows)
        keep[split][rows] = False
    return [Dropped(split, policy, found, [reason] * len(found.rows))] if found.count else []


def absent_in(table: pa.Table, columns: Columns) -> Bool[np.ndarray, " n"]:
    """Mask of the rows with null or NaN in a label column."""
    absent = np.zeros(table.num_rows, np.bool_)
    for name in columns.labels:
        absent |= missing_in(series_of(table[name]))
    return absent
