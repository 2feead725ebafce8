"""What becomes of rows that cannot be used, or should not: a study's `data`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict, Field

from secateur.pipelines.data.classes import Say
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import Hashes, missing_in
from secateur.pipelines.data.scan import CONTENT, FAULT, INPUT, SplitRows
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.types import series_of

MOST_LISTED = 10_000
"""Dropped rows that are listed; all are counted."""


class DataPolicy(BaseModel):
    """What becomes of rows; the first of each is the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bad_rows: Literal["reject", "drop"] = Field(
        default="reject",
        description="rows without input, or of one that cannot be decoded or is infinite: an error that names them, or "
        "left out",
    )
    unlabelled: Literal["reject", "drop"] = Field(
        default="reject", description="rows whose label is missing: an error that names them, or left out"
    )
    duplicates: Literal["keep", "drop"] = Field(
        default="keep", description="rows of equal input and target within a split: all, or the first of the file alone"
    )
    leaked: Literal["keep", "drop_from_training"] = Field(
        default="keep", description="training rows whose input is in the test split too: kept, or left out of training"
    )


@dataclass(frozen=True)
class Dropped:
    """Rows of a split that a policy left out: numbers of the scan's rows, int64, and why."""

    split: str
    policy: str
    rows: np.ndarray
    reasons: Sequence[str]


def decide(
    splits: Mapping[str, SplitRows], columns: Columns, policy: DataPolicy, say: Say
) -> tuple[dict[str, Bool[np.ndarray, " n"]], list[Dropped]]:
    """Which rows of each split stay, and those that do not, in the order of the policies.

    Raises SourceError that names split, file and rows for what the policy rejects.
    """
    keep, dropped = {}, []
    for split, rows in splits.items():
        keep[split] = np.ones(len(rows), np.bool_)
        for name, wrong, reasons in _wrong(rows, columns):
            found = np.flatnonzero(wrong & keep[split])
            if not len(found):
                continue
            if getattr(policy, name) == "reject":
                where = say(split, found)
                raise SourceError(
                    f"{split} split: {reasons(found[0])} at {where}: correct or remove "
                    f"{'this row' if len(found) == 1 else f'these {len(found)} rows'}, or write data: {{{name}: drop}}"
                )
            keep[split][found] = False
            dropped.append(Dropped(split, name, found, [reasons(row) for row in found[:MOST_LISTED]]))
        if policy.duplicates == "drop":
            again = np.flatnonzero(keep[split] & ~firsts(rows.words(CONTENT), keep[split]))
            keep[split][again] = False
            if len(again):
                dropped.append(
                    Dropped(split, "duplicates", again, ["equals an earlier row"] * min(len(again), MOST_LISTED))
                )
    if policy.leaked == "drop_from_training" and "test" in splits:
        tested = pl.Series(splits["test"].words(INPUT)[keep["test"]][:, 1])
        leaks = np.flatnonzero(
            keep["train"] & pl.Series(splits["train"].words(INPUT)[:, 1]).is_in(tested.implode()).to_numpy()
        )
        keep["train"][leaks] = False
        if len(leaks):
            dropped.append(
                Dropped("train", "leaked", leaks, ["its input is in the test split"] * min(len(leaks), MOST_LISTED))
            )
    for split, mask in keep.items():
        if not mask.any():
            first = next(left for left in dropped if left.split == split)
            settings = ", ".join(f"{name}: {value}" for name, value in policy.model_dump().items())
            raise SourceError(f"{split} split: no row is left, of {len(mask)} ({first.reasons[0]}; data: {settings})")
    return keep, dropped


def _wrong(rows: SplitRows, columns: Columns) -> Iterator[tuple[str, Bool[np.ndarray, " n"], Callable[[int], str]]]:
    """Policies of single rows: name, mask of the rows that are wrong, and why one is."""
    parts = [
        (missing_in(series_of(table[FAULT])), absent_in(table, columns))
        for table in rows.batches([FAULT, *columns.labels])
    ]
    whole, absent = (np.concatenate([np.zeros(0, np.bool_), *(part[place] for part in parts)]) for place in (0, 1))
    faults = rows.column(FAULT) if not whole.all() else pl.Series(FAULT, [])
    yield "bad_rows", ~whole, lambda row: str(faults[int(row)])
    names = ", ".join(map(repr, columns.labels))
    yield "unlabelled", absent, lambda row: f"label column {names} is null"


def absent_in(table: pa.Table, columns: Columns) -> Bool[np.ndarray, " n"]:
    """Rows of which a label column is null or NaN."""
    absent = np.zeros(table.num_rows, np.bool_)
    for name in columns.labels:
        absent |= missing_in(series_of(table[name]))
    return absent


def firsts(hashes: Hashes, among: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Which rows are the first of their hash among those of a mask."""
    rows = np.flatnonzero(among)
    table = pl.DataFrame({"upper": hashes[rows, 0], "lower": hashes[rows, 1]})
    mask = np.zeros(len(hashes), np.bool_)
    mask[rows] = table.select(pl.struct("upper", "lower").is_first_distinct()).to_series().to_numpy()
    return mask
