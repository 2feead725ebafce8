"""Division of rows between training and test."""

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
from secateur.trainers.modalities.spellings import one_spelling

ISO = (
    r"^(?P<day>\d{4}-\d\d-\d\d)(?:[Tt ](?P<clock>\d\d:\d\d)(?:(?P<second>:\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?"
    r" ?(?P<zone>[Zz]|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?)?$"
)
"""Days and times of ISO 8601."""
LIKE = "2026-01-31 or 2026-01-31T12:00:00+02:00"


@dataclass(frozen=True)
class Division:
    """Rule for the test rows of a batch.

    A hash of seed and group decides, or of seed and input without a group. So equal rows, and rows of one group, are on
    one side, and a row stays there whatever is appended to the file; the size of the test split varies by about the
    square root of the rows. With `column`, test rows are those with values at or above `after`. With `by_row`, a hash
    of seed, file and row decides, for data with so few distinct inputs that no share of them is a share of the rows.
    """

    share: float = 0.0
    seed: int = 0
    group: str | None = None
    column: str | None = None
    after: Any = None
    by_row: bool = False

    @classmethod
    def of(cls, source: SourceKind, columns: Columns) -> "Division":
        """The rule of a source without a test split of its own."""
        if isinstance(source, BundledSource):
            return cls(column=HELD_OUT, after=1)
        by_time = getattr(source, "split", None)
        if by_time is not None:
            return cls(column=by_time.column, after=by_time.after)
        return cls(source.held_out or 0.0, source.split_seed, columns.group)

    def misses(self, splits: Mapping[str, SplitRows]) -> bool:
        """Whether a draw by inputs cannot give its share, and may go by row.

        True where the test split would get fewer than two distinct inputs, and inputs repeat. An input of very many
        rows makes a split larger or smaller than its share; it stays on one side all the same.
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
                named = one_spelling(label_text(table[self.group]))
                # A row without a group is one of its own.
                keys = np.where(named.is_null().to_numpy(), keys, halves_of(named)[:, 0])
            hash_in_place(keys, self.seed)
            test = share_below(keys, self.share)
        return {"train": ~test, "test": test}

    def _after(self, values: pl.Series, rows: np.ndarray) -> Bool[np.ndarray, " n"]:
        held, after = values.dtype, self.after
        if held in (pl.Null, pl.String):
            after, texts = _moment(after), values.cast(pl.String)
            values = times_of(texts)
            self._refuse(texts, (values.is_null() & texts.is_not_null()), rows, f"which is no time like {LIKE}")
        elif isinstance(held, pl.Datetime):
            after = _moment(after)
            values = values.dt.replace_time_zone("UTC") if held.time_zone is None else values
        elif isinstance(after, str | date) or not held.is_numeric():
            after = None
        if after is None:
            raise ValueError(
                f"source.split: column {self.column!r} holds {held}, and after is {self.after!r}: write a number for "
                f"a column of numbers, or a time like {LIKE}"
            )
        self._refuse(values, missing_in(values), rows, "which is on neither side")
        return np.asarray((values >= after).to_numpy())

    def _refuse(self, values: pl.Series, wrong: pl.Series | np.ndarray, rows: np.ndarray, why: str) -> None:
        places = np.flatnonzero(wrong)
        if len(places):
            value = values[int(places[0])]
            raise ValueError(
                f"source.split: column {self.column!r} is {'null' if value is None else repr(value)[:100]} in row "
                f"{rows[places[0]]}, {why}"
            )


def times_of(texts: pl.Series) -> pl.Series:
    """Times of texts in ISO 8601, in UTC to the microsecond; null for any other text.

    A time without a zone is UTC, seconds may be left out, and a day stands for its beginning.
    """
    parts = pl.Series("texts", texts).str.strip_chars().str.extract_groups(ISO).struct.unnest()
    zone = pl.col("zone").str.replace("(?i)z", "+").str.replace(":", "", literal=True).str.pad_end(5, "0")
    clock = pl.coalesce(pl.col("clock") + pl.coalesce("second", pl.lit(":00")), pl.lit("00:00:00"))
    # Digits beyond the microsecond move no time to the other side of a limit without them.
    fraction = pl.coalesce(pl.col("fraction").str.slice(0, 6).str.pad_end(6, "0"), pl.lit("000000"))
    whole = pl.concat_str("day", pl.lit(" "), clock, pl.lit("."), fraction)
    moment = whole.str.to_datetime("%Y-%m-%d %H:%M:%S%.6f", time_unit="us", strict=False)
    minutes = zone.str.slice(1, 2).cast(pl.Int64) * 60 + zone.str.slice(3, 2).cast(pl.Int64)
    ahead = pl.when(zone.str.starts_with("-")).then(-minutes).otherwise(minutes).fill_null(0)
    return parts.select(moment.sub(pl.duration(minutes=ahead)).dt.replace_time_zone("UTC")).to_series()


def _moment(after: Any) -> datetime | None:
    """A time to compare with those of a column; one without a zone is UTC. None for any other value."""
    if isinstance(after, str):
        after = times_of(pl.Series([after]))[0]
    if isinstance(after, date) and not isinstance(after, datetime):
        after = datetime.combine(after, time())
    if not isinstance(after, datetime):
        return None
    return after if after.tzinfo else after.replace(tzinfo=UTC)


def why_empty(split: str, rows: int, key: str) -> str:
    """Message with the remedy for a split without rows, where `key` of the source divides the training files."""
    if rows < 2:  # no share divides them
        return f"source.train: {rows} row{'s' * (rows != 1)}, and a study trains on one and tests on another"
    return f"source.{key}: no row is left for the {split} split; name another share, seed or time"
