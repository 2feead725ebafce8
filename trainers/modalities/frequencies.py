"""How often values or terms occur, counted in a fixed buffer whatever the number of rows and of distinct values."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

BLOCK = 1 << 17
"""Rows of counts that are added up at once."""


@dataclass
class Frequencies:
    """Sums of counts by `value`, exact while there are at most `most` distinct values.

    Beyond, the less frequent half is forgotten each time (lossy counting, Manku and Motwani 2002): what is frequent in
    the whole stays, and its sums lack at most what it had when it was rare.
    """

    most: int
    held: "list[pl.DataFrame]" = field(default_factory=list)

    def add(self, counts: "pl.DataFrame") -> None:
        """Further counts: `value` String, `count` and perhaps others of integers, each value once."""
        self.held.append(counts)
        if len(self.held) > 1 and sum(map(len, self.held[1:])) >= BLOCK:
            self.held = [self.sums()]

    def sums(self) -> "pl.DataFrame":
        """What was added, the most frequent values first, equally frequent ones in their order."""
        import polars as pl

        whole = pl.concat(self.held).group_by("value").agg(pl.all().sum())
        whole = whole.sort("count", "value", descending=[True, False])
        return whole.head(self.most // 2) if len(whole) > self.most else whole
