"""Counts of values or terms in a buffer of fixed size, for any number of rows and of distinct values."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

BLOCK = 1 << 17
"""Buffered rows of counts before they are summed."""


@dataclass
class Frequencies:
    """Sums of counts by `value`, exact while there are at most `most` distinct values.

    Beyond, each sum drops the less frequent half (lossy counting, Manku and Motwani 2002): values that are frequent
    overall stay, and their sums miss at most the counts from when they were rare.
    """

    most: int
    held: "list[pl.DataFrame]" = field(default_factory=list)

    def add(self, counts: "pl.DataFrame") -> None:
        """Add counts: `value` String, `count` and further integer columns, if any; each value once."""
        self.held.append(counts)
        if len(self.held) > 1 and sum(map(len, self.held[1:])) >= BLOCK:
            self.held = [self.sums()]

    def sums(self) -> "pl.DataFrame":
        """The sums, the most frequent values first, ties in the order of values."""
        import polars as pl

        whole = pl.concat(self.held).group_by("value").agg(pl.all().sum())
        whole = whole.sort("count", "value", descending=[True, False])
        return whole.head(self.most // 2) if len(whole) > self.most else whole
