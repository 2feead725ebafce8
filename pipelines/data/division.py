"""How rows are divided between training and test, and how some of many are drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Bool

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import Hashes, halves_of, label_text, missing_in
from secateur.pipelines.data.scan import FILE, INPUT, ROW, SplitRows, share_below, words_of
from secateur.pipelines.data.source_kinds.contract import HELD_OUT, BundledSource, SourceKind
from secateur.pipelines.data.types import series_of
from secateur.selectors.draws.ranks import hash_in_place


@dataclass(frozen=True)
class Division:
    """Which rows of a batch are test rows.

    By a hash of seed and group, or of seed and input where no group is named: rows that are equal, or of one group, are
    on one side, and a row stays there whatever is appended to the file. So the size of the test split holds to about
    the square root of the rows. Or, with `column`, those of values after (at or above) `after`; or, with `by_row`, by a
    hash of seed, file and row, for data of so few distinct inputs that no share of them is a share of the rows.
    """

    share: float = 0.0
    seed: int = 0
    group: str | None = None
    column: str | None = None
    after: Any = None
    by_row: bool = False

    @classmethod
    def of(cls, source: SourceKind, columns: Columns) -> "Division":
        """As a source without a test split of its own says."""
        if isinstance(source, BundledSource):
            return cls(column=HELD_OUT, after=1)
        by_time = getattr(source, "split", None)
        if by_time is not None:
            return cls(column=by_time.column, after=by_time.after)
        return cls(source.held_out or 0.0, source.split_seed, columns.group)

    def misses(self, splits: Mapping[str, SplitRows]) -> bool:
        """Whether a draw by inputs cannot give its share, and may go by row.

        So it is where fewer than two distinct inputs would be in the test split, for each is of many rows. An input of
        very many rows makes a split larger or smaller than its share; it stays on one side all the same.
        """
        if self.column is not None or self.group is not None:
            return False
        rows = sum(map(len, splits.values()))
        distinct: set[int] = set()
        for part in splits.values():
            for table in part.batches([INPUT]):
                distinct |= set(words_of(table[INPUT])[:, 0].tolist())
                if len(distinct) * self.share >= 2:
                    return False
        return len(distinct) < rows

    def __call__(self, table: pa.Table, hashes: Hashes) -> Mapping[str, Bool[np.ndarray, " n"]]:
        """Masks of a batch by split; ValueError for a value that cannot be compared with `after`."""
        if self.column is not None:
            test = self._after(series_of(table[self.column]), table[ROW].to_numpy())
        else:
            keys = hashes[:, 0].copy()
            if self.by_row:
                keys = table[ROW].to_numpy().astype(np.uint64) + (
                    table[FILE].to_numpy().astype(np.uint64) << np.uint64(40)
                )
            if self.group is not None:
                named = label_text(table[self.group])
                # A row without a group is one of its own.
                keys = np.where(named.is_null().to_numpy(), keys, halves_of(named)[:, 0])
            hash_in_place(keys, self.seed)
            test = share_below(keys, self.share)
        return {"train": ~test, "test": test}

    def _after(self, values: pl.Series, rows: np.ndarray) -> Bool[np.ndarray, " n"]:
        after, dated = self.after, isinstance(self.after, date)
        if values.dtype == pl.Null:
            values = values.cast(pl.String)
        if values.dtype == pl.String:
            if dated:
                # Texts in the order of time, whichever of T and a space stands between day and hour.
                after = after.isoformat().replace("T", " ")
                wrong = ~values.str.contains(r"^\d{4}-\d{2}-\d{2}")
                values = values.str.replace("T", " ", literal=True)
                self._refuse(values, wrong.fill_null(False), rows, "which does not begin like 2026-01-31")
            after = str(after)
        elif isinstance(values.dtype, pl.Datetime):
            after = _moment(after, zoned=values.dtype.time_zone is not None)
        elif isinstance(after, str | date) or not values.dtype.is_numeric():
            after = None
        if after is None:
            raise ValueError(f"source.split: column {self.column!r} holds {values.dtype}, and after is {self.after!r}")
        self._refuse(values, missing_in(values), rows, "which is on neither side")
        return np.asarray((values >= after).to_numpy())

    def _refuse(self, values: pl.Series, wrong: pl.Series | np.ndarray, rows: np.ndarray, why: str) -> None:
        places = np.flatnonzero(wrong)
        if len(places):
            value = values[int(places[0])]
            raise ValueError(
                f"source.split: column {self.column!r} is {'null' if value is None else repr(value)} in row "
                f"{rows[places[0]]}, {why}"
            )


def _moment(after: Any, *, zoned: bool) -> datetime | None:
    """A time to compare with those of a column; one without a zone is UTC where the column's have one."""
    try:
        whole = datetime.fromisoformat(after) if isinstance(after, str) else after
    except ValueError:
        return None
    if not isinstance(whole, date):
        return None
    if not isinstance(whole, datetime):
        whole = datetime.combine(whole, time())
    if zoned:
        return whole.astimezone(UTC) if whole.tzinfo else whole.replace(tzinfo=UTC)
    return whole.astimezone(UTC).replace(tzinfo=None) if whole.tzinfo else whole
