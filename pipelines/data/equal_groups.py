"""Groups of equal rows, with a list of the first rows: memory holds a fixed number of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

MOST = 100_000
"""Most rows in the list for groups of one kind; the count has all groups."""
MEMBER = {"lead": pl.Int64, "size": pl.Int64, "split": pl.Int8, "row": pl.Int64}
TABLE = {"kind": pl.String, "side": pl.String, "group": pl.Int64, "size": pl.Int64, "split": pl.String, "row": pl.Int64}
"""Columns of `table_of`: the kind of finding, the split that it is about, the group's number from 1, the size of the
group, and split and row of one of its rows."""


@dataclass
class Groups:
    """Number of groups, and their first `most` rows.

    Groups are in the order of `lead`, their first row in the split that the finding is about, which no two share.
    Within a group the rows of that split come first.
    """

    most: int = MOST
    count: int = 0
    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=MEMBER))

    def add(self, block: pl.DataFrame, side: int, lead: str, size: str) -> None:
        """Add a block of `repeated_rows`, whose groups may have rows in other blocks.

        `lead` and `size` name columns of the block; `side` is the place of the split that the finding is about.
        """
        more = block.select(lead=pl.col(lead), size=pl.col(size), split="split", row="row").cast(MEMBER)  # type: ignore[arg-type]
        self.count += len(more.filter((pl.col("split") == side) & (pl.col("row") == pl.col("lead"))))
        if len(self.rows) >= self.most:
            more = more.filter(pl.col("lead") <= self.rows["lead"][-1])
        if len(more):
            both = pl.concat([self.rows, more])
            self.rows = both.sort("lead", "split", "row", descending=[False, side == 1, False]).head(self.most)


def table_of(found: Mapping[tuple[str, int], Groups], splits: tuple[str, ...]) -> pl.DataFrame:
    """Rows of groups, by kind of finding and place of its split among `splits`, in a table with the columns `TABLE`."""
    tables = [pl.DataFrame(schema=TABLE)]
    for (kind, side), groups in found.items():
        facts = {
            "kind": pl.lit(kind),
            "side": pl.lit(splits[side]),
            "group": pl.col("lead").rank("dense").cast(pl.Int64),
            "split": pl.col("split").replace_strict(dict(enumerate(splits)), return_dtype=pl.String),
        }
        tables.append(groups.rows.with_columns(**facts).select(*TABLE))
    return pl.concat(tables)
