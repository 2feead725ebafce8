"""Rows of equal hashes, found in a fixed buffer whatever the number of rows and of repeats.

The range of the hashes is divided into parts of about `PART` distinct ones. Each part reads the shards once, and twice
more for every `SEVERAL` repeated hashes. Memory holds one part, or the facts about so many repeated hashes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Bool, Int64, UInt64

from secateur.pipelines.data.identity import halves_of, label_text
from secateur.pipelines.data.scan import CONTENT, SplitRows, words_of
from secateur.selectors.draws.ranks import random_keys

PART, SEVERAL, BLOCK = 1 << 21, 1 << 17, 1 << 18
"""Distinct hashes of a part, repeated hashes of one round, and rows of one block."""
HASHED = ("upper", "lower")


@dataclass
class Found:
    """Rows of a split: their number, and the first `most` of them, int64 ascending."""

    most: int
    count: int = 0
    rows: Int64[np.ndarray, " first"] = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, rows: Int64[np.ndarray, " n"]) -> None:
        """Add rows."""
        self.count += len(rows)
        if len(self.rows) < self.most or rows.min(initial=self.rows[-1]) < self.rows[-1]:
            self.rows = np.sort(np.concatenate([self.rows, rows]))[: self.most]


def repeated_rows(
    splits: Mapping[str, SplitRows],
    key: str,
    keep: Mapping[str, Bool[np.ndarray, " n"]] | None = None,
    group: str | None = None,
) -> Iterator[pl.DataFrame]:
    """Rows that share their hash in the column `key` with another row of any split, among those that the masks `keep`.

    Tables of `split` (its place among the splits) and `row`. Facts about the rows of the same hash in the same split:
    `count`, the `first` of them, and whether they differ in content (`varied`). Facts about those of all splits:
    `total`, whether they differ in the column `group` (`across`; a row without a group is a group of its own), and the
    first row of the last split that has any (`lead`).
    """
    parts = max(1, -(-sum(map(len, splits.values())) // PART))
    ends = [(2**64 * part // parts, 2**64 * (part + 1) // parts - 1) for part in range(parts)]
    for low, high in ends:
        halves = (words[:, 1] for _, words, _, _ in _hashes(splits, key, keep, low, high))
        several = repeated(halves)
        for start in range(0, len(several), SEVERAL):
            some = several[start : start + SEVERAL]
            yield from _with_facts(lambda some=some: _blocks(splits, key, keep, some, group))  # type: ignore[misc]


def _with_facts(read: Callable[[], Iterator[pl.DataFrame]]) -> Iterator[pl.DataFrame]:
    """Blocks with facts about the hash of each row; `read` is called twice."""
    facts = pl.DataFrame()
    for block in read():
        told = block.group_by("split", *HASHED).agg(
            pl.len().cast(pl.Int64).alias("count"),
            pl.min("row").alias("first"),
            *(end(name).alias(f"{at}_{name}") for name in ("content", "group") for at, end in ENDS.items()),
        )
        facts = _together([facts, told]) if len(facts) else told
    totals = facts.group_by(HASHED).agg(
        pl.sum("count").alias("total"),
        across=pl.min("low_group") != pl.max("high_group"),
        lead=pl.col("first").sort_by("split").last(),
    )
    facts = facts.join(totals.filter(pl.col("total") > 1), on=HASHED).select(
        "split",
        *HASHED,
        "count",
        "first",
        "total",
        "across",
        "lead",
        varied=pl.col("low_content") != pl.col("high_content"),
    )
    for block in read():
        yield block.select("split", "row", *HASHED).join(facts, on=["split", *HASHED]).drop(HASHED)


ENDS = {"low": pl.min, "high": pl.max}


def _together(facts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Facts about hashes, merged over several blocks."""
    ends = [end(f"{at}_{name}") for name in ("content", "group") for at, end in ENDS.items()]
    return pl.concat(facts).group_by("split", *HASHED).agg(pl.sum("count"), pl.min("first"), *ends)


def repeated(parts: Iterable[UInt64[np.ndarray, " n"]]) -> UInt64[np.ndarray, " m"]:
    """Each value that occurs more than once, ascending; memory holds the distinct ones and a block."""
    once = several = np.zeros(0, np.uint64)
    for block in _gathered(parts):
        ordered = np.sort(np.concatenate([once, block]))
        new = np.append(True, ordered[1:] != ordered[:-1])
        if not new.all():
            once, several = ordered[new], np.sort(np.concatenate([several, ordered[~new]]))
            several = several[np.append(True, several[1:] != several[:-1])]
        else:
            once = ordered
    return several


def _gathered(parts: Iterable[UInt64[np.ndarray, " n"]]) -> Iterator[UInt64[np.ndarray, " m"]]:
    held: list[np.ndarray] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= BLOCK:
            yield np.concatenate(held)
            held, size = [], 0
    if size:
        yield np.concatenate(held)


def _hashes(
    splits: Mapping[str, SplitRows],
    key: str,
    keep: Mapping[str, np.ndarray] | None,
    low: int,
    high: int,
    others: tuple[str, ...] = (),
) -> Iterator[tuple[int, UInt64[np.ndarray, "b 2"], Int64[np.ndarray, " b"], pa.Table]]:
    """Split, hashes whose lower half is within bounds, their rows and further columns, batch by batch."""
    for place, (split, rows) in enumerate(splits.items()):
        start = 0
        for table in rows.batches(list(dict.fromkeys([key, *others]))):
            words = words_of(table[key])
            wanted = (words[:, 1] >= np.uint64(low)) & (words[:, 1] <= np.uint64(high))
            if keep is not None:
                wanted &= keep[split][start : start + len(words)]
            if not wanted.all():
                words, table = words[wanted], table.filter(pa.array(wanted))
            yield place, words, start + np.flatnonzero(wanted), table
            start += len(wanted)


def _blocks(
    splits: Mapping[str, SplitRows],
    key: str,
    keep: Mapping[str, np.ndarray] | None,
    some: UInt64[np.ndarray, " m"],
    group: str | None,
) -> Iterator[pl.DataFrame]:
    """Rows whose lower half is in `some`: `split`, `row`, the hash, and half a hash each for content and group."""
    held: list[pl.DataFrame] = []
    others = (CONTENT, *([group] if group else []))
    for place, words, rows, table in _hashes(splits, key, keep, int(some[0]), int(some[-1]), others):
        among = some[np.minimum(np.searchsorted(some, words[:, 1]), len(some) - 1)] == words[:, 1]
        words, rows, table = words[among], rows[among], table.filter(pa.array(among))
        groups = np.zeros(len(rows), np.uint64)
        if group:
            named = label_text(table[group])
            groups = np.where(named.is_null().to_numpy(), random_keys(rows, place), halves_of(named)[:, 1])
        values = {"row": rows, "upper": words[:, 0], "lower": words[:, 1], "content": words_of(table[CONTENT])[:, 1]}
        held.append(pl.DataFrame(values | {"group": groups}).with_columns(split=pl.lit(place, pl.Int8)))
        if sum(map(len, held)) >= BLOCK:
            yield pl.concat(held)
            held = []
    if held:
        yield pl.concat(held)
