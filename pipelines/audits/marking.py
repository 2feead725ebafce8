"""Estimate the share of an audit's findings that are right, from a few that a person has marked.

Of each kind that may be wrong, twenty rows are drawn at random. A person who marks all of these, on the page or in a
CSV, gets the share of right ones with an exact binomial interval (Clopper and Pearson, 1934). Marks of other rows do
not count, as a person's own choice of rows is not a random sample.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from secateur.pipelines.audits.listed import BY_EMBEDDINGS, ORDER, Found
from secateur.pipelines.files.shown_text import one_line, quoted

NEAR = ("near leaked", "near duplicates", "near shared")
MARKED = (*NEAR, *(f"{kind}{BY_EMBEDDINGS}" for kind in NEAR), "wrong labels")
"""Kinds of findings that may be wrong."""
DRAWN = 20
"""Rows to draw of each kind."""
LEVEL = 0.95
YES, NO = ("yes", "y", "true", "1", "right"), ("no", "n", "false", "0", "wrong")
KEYS = ("finding", "split", "file", "row", "other_file", "other_row")
"""Columns of a CSV of marks that identify the row; `mark` says whether the finding is right."""


@dataclass(frozen=True)
class Precision:
    """Of the `marked` rows of a finding, drawn at random, `right` confirm it."""

    finding: str
    split: str
    marked: int
    right: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """The estimated share of right rows."""
        return self.right / self.marked

    @property
    def sentence(self) -> str:
        """The estimate in a sentence."""
        return (
            f"{self.finding.capitalize()} of {self.split}: {self.right} of {self.marked} marked are right, "
            f"{self.share:.0%} ({self.low:.0%} to {self.high:.0%})"
        )

    def content(self) -> dict[str, object]:
        """The estimate as JSON-able data."""
        return vars(self) | {"share": self.share, "sentence": self.sentence}


def with_draws(found: Sequence[Found], seed: int) -> list[Found]:
    """Findings with a random draw of rows to mark, in the column `to_mark`."""
    return [drawn(one, seed) if one.kind in MARKED else one for one in found]


def drawn(one: Found, seed: int) -> Found:
    """A finding with up to `DRAWN` of its rows drawn; of pairs only those with both rows."""
    able = np.flatnonzero(one.other >= 0) if one.other is not None else np.arange(len(one.rows))
    chosen = np.random.default_rng(seed).permutation(able)[:DRAWN]
    mask = np.zeros(len(one.rows), np.bool_)
    mask[chosen] = True
    return replace(one, more={**one.more, "to_mark": pl.Series(mask)})


def read_marks(path: Path) -> pl.DataFrame:
    """Marks of a CSV: the columns of `KEYS` and `mark`, bool. Rows without a mark are left out.

    Raises ValueError that names the file, and row and column, for a file that is not a CSV, a missing column, a mark
    other than yes and no, an unknown finding, a row that is not a number, and a finding that is marked yes and no.
    """
    if not path.is_file():
        raise ValueError(f"--marks {path}: there is no such file; the page of an audit saves marks.csv")
    try:
        table = pl.read_csv(path, infer_schema=False, encoding="utf8-lossy")
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"--marks {path}: it is no CSV of marks ({one_line(str(error))})") from error
    table = table.rename({name: name.removeprefix("\ufeff") for name in table.columns})
    if missing := [name for name in (*KEYS, "mark") if name not in table.columns]:
        raise ValueError(f"{path}: there is no column {missing[0]!r}; marks have: {', '.join((*KEYS, 'mark'))}")
    said, written = pl.col("mark").str.strip_chars().str.to_lowercase(), table
    table = table.with_columns(
        mark=pl.when(said.is_in(YES)).then(True).when(said.is_in(NO)).then(False),
        said=pl.when(said == "").then(None).otherwise(said),
        **{name: row_number(name) for name in ("row", "other_row")},
    )
    wrong = table.with_row_index().filter(pl.col("said").is_not_null() & pl.col("mark").is_null())
    if len(wrong):
        first = wrong.row(0, named=True)
        raise ValueError(f"{path}, row {first['index']}: column 'mark' is {quoted(first['said'])}; write yes or no")
    marks = table.with_row_index().drop_nulls("mark").select("index", *KEYS, "mark")
    refuse_unknown(path, marks, written)
    torn = marks.group_by(*KEYS, maintain_order=True).agg("index", differ=pl.col("mark").n_unique() > 1)
    for rows in torn.filter("differ")["index"].to_list():
        shown = ", ".join(map(str, rows))
        raise ValueError(f"{path}, rows {shown}: one finding is marked yes and no; leave one of the marks")
    return marks.drop("index")


def refuse_unknown(path: Path, marks: pl.DataFrame, written: pl.DataFrame) -> None:
    """Raise ValueError that names row and column for a mark of an unknown finding, or with a row that is not a number;
    `written` is the table with the file's own texts."""
    strange = {
        "finding": (~pl.col("finding").is_in(ORDER).fill_null(False), f"marks are of: {', '.join(MARKED)}"),
        "row": (pl.col("row").is_null(), "write the number of a row"),
        "other_row": (pl.col("other_row").is_null(), "write the number of a row, or nothing"),
    }
    for name, (wrong, what) in strange.items():
        for row in marks.filter(wrong)["index"].to_list():
            value = (written[name][row] or "").strip()
            if value or name != "other_row":
                raise ValueError(f"{path}, row {row}: column {name!r} is {quoted(value) if value else 'empty'}; {what}")


def row_number(name: str) -> pl.Expr:
    """Row numbers from a column of texts, int64, null where empty; pandas writes `12.0` where others are null."""
    number = pl.col(name).str.strip_chars().cast(pl.Float64, strict=False)
    return pl.when(number == number.floor()).then(number).cast(pl.Int64, strict=False)


def precisions(lines: pl.DataFrame, marks: pl.DataFrame) -> tuple[list[Precision], int]:
    """The precision of each finding in the table of findings, and the number of marks on rows outside the draw."""
    from scipy.stats import binomtest

    own = [key_of(name) for name in KEYS]
    keyed = lines.filter("to_mark").select("finding", "split", *(one.name.prefix("key ") for one in own)).unique()
    keys = [f"key {name}" for name in KEYS]
    said = marks.select(*(one.name.prefix("key ") for one in own), "mark").unique(keys, keep="last")
    known, found = keyed.join(said, on=keys), []
    for (finding, split), some in known.sort(keys).group_by("finding", "split", maintain_order=True):
        right, marked = int(some["mark"].sum()), len(some)
        interval = binomtest(right, marked).proportion_ci(LEVEL, method="exact")
        found.append(Precision(str(finding), str(split), marked, right, interval.low, interval.high))
    return found, len(said) - len(known)


def key_of(name: str) -> pl.Expr:
    """A column of `KEYS` as comparable texts; paths are resolved from the working folder."""
    text = pl.col(name).cast(pl.String).fill_null("")
    return text.map_elements(whole_path, pl.String) if name in ("split", "file", "other_file") else text


def whole_path(name: str) -> str:
    """A file name resolved from the working folder; an empty name stays empty."""
    return name and os.path.abspath(name)
