"""Groups of equal rows for a report, and the rows of all findings as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int64

from secateur.pipelines.data.equal_groups import MOST, TABLE
from secateur.pipelines.data.stored_targets import shown_targets
from secateur.pipelines.files.shown_text import one_line, visible
from secateur.pipelines.pages.extremes import encoded, picture_of
from secateur.pipelines.pages.formulas import unformulated
from secateur.pipelines.pages.previews import Previews, files_and_rows, previewed, rows_at
from secateur.pipelines.pages.suspects import Shown, Suspects

GROUPS, ROWS = 10, 10
"""Groups of a finding on the page, and rows of each; findings.csv lists the others."""
HEAD = {
    "finding": pl.String, "importance": pl.Int64, "count": pl.Int64, "group": pl.Int64, "group_rows": pl.Int64,
    "split": pl.String, "file": pl.String, "row": pl.Int64, "sample": pl.Int64, "id": pl.String,
    "given": pl.String, "predicted": pl.String, "certainty": pl.Float64,
}  # fmt: skip
"""Columns of findings.csv; those of scores follow."""


@dataclass(frozen=True)
class Samples:
    """The samples of a split and the means to show them: table, inputs, file names, `Task.state`."""

    split: str
    table: pl.LazyFrame
    inputs: np.ndarray
    files: Sequence[str]
    task: Mapping[str, Any]
    previews: Previews | None = None
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Values by name, of training samples."""

    def described(self, rows: Int64[np.ndarray, " m"]) -> pl.DataFrame:
        """`split`, `file`, `row`, `sample`, `id`, `given` and scores of the samples at `rows`, in their order."""
        shown = rows_at(self.table, rows)
        addresses, own = files_and_rows(shown, self.files, self.split), "preview" in shown.columns
        return pl.DataFrame(
            {
                "split": pl.repeat(self.split, len(shown), eager=True),
                "file": pl.Series([visible(file) for file, _ in addresses], dtype=pl.String),
                "row": pl.Series([row for _, row in addresses], dtype=pl.Int64),
                "sample": shown["row"],
                "id": shown["preview"] if own else pl.repeat(None, len(shown), dtype=pl.String, eager=True),
                "given": pl.Series([one_line(target) for target in shown_targets(shown, self.task)], dtype=pl.String),
            }
            | {f"score_{name}": np.asarray(values)[rows] for name, values in self.scores.items()}
        )

    def sample(self, row: int) -> tuple[str, bytes]:
        """A sample as text or as picture; the other one is empty."""
        if self.inputs.ndim == 4 and self.inputs.dtype == np.uint8:
            return "", encoded(picture_of(np.asarray(self.inputs[row])))
        shown = self.table.filter(pl.col("row") == row).collect()
        return visible(previewed(shown, self.previews)[0] or ""), b""


@dataclass(frozen=True)
class Group(Shown):
    """Rows of equal input: their number, the first of them as in `report.json`, and their content."""

    number: int
    count: int
    rows: Sequence[Mapping[str, Any]]
    text: str = ""
    picture: bytes = b""

    def content(self) -> dict[str, Any]:
        """JSON-able content, without the sample itself."""
        return {"number": self.number, "count": self.count, "rows": list(self.rows)}


Found = tuple[str, str]
"""Kind and split of a finding."""


@dataclass(frozen=True)
class Grouped:
    """Groups by finding: those on the page, and in `listed` the number of rows in findings.csv."""

    shown: Mapping[Found, Sequence[Group]] = field(default_factory=dict)
    listed: Mapping[Found, int] = field(default_factory=dict)
    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=TABLE))
    """All listed rows, in the format of `equal_groups.table_of`."""

    def of(self, finding: Mapping[str, Any]) -> Sequence[Group]:
        """Groups of a finding on the page."""
        return self.shown.get((finding["kind"], finding["split"]), ())

    def listed_of(self, finding: Mapping[str, Any]) -> int:
        """Number of the finding's rows in findings.csv."""
        return self.listed.get((finding["kind"], finding["split"]), 0)

    def cut(self, finding: Mapping[str, Any]) -> bool:
        """Whether findings.csv lacks some of its rows."""
        return self.listed_of(finding) >= MOST

    @property
    def embedded(self) -> int:
        """Number of groups shown with their content."""
        return sum(bool(group.text or group.picture) for groups in self.shown.values() for group in groups)


def grouped(rows: pl.DataFrame, splits: Mapping[str, Samples], *, embedded: bool) -> Grouped:
    """Groups of a data check, with their samples if `embedded`."""
    shown, listed = dict[Found, list[Group]](), dict[Found, int]()
    for (kind, side), table in rows.group_by("kind", "side", maintain_order=True):
        listed[str(kind), str(side)] = len(table)
        parts = table.filter(pl.col("group") <= GROUPS).partition_by("group", maintain_order=True)
        shown[str(kind), str(side)] = [group_of(part, splits, embedded=embedded) for part in parts]
    return Grouped(shown, listed, rows)


def group_of(part: pl.DataFrame, splits: Mapping[str, Samples], *, embedded: bool) -> Group:
    """One group from its rows in that table."""
    first = part.row(0, named=True)
    described = [
        splits[str(split)].described(some["row"].to_numpy()).select("split", "file", "row", "sample", "id", "given")
        for (split,), some in part.head(ROWS).group_by("split", maintain_order=True)
    ]
    group = Group(first["group"], first["size"], pl.concat(described).fill_null("").to_dicts())
    if not embedded:
        return group
    text, picture = splits[first["split"]].sample(first["row"])
    return replace(group, text=text, picture=picture)


def table_of_findings(
    findings: Sequence[Mapping[str, Any]],
    groups: Grouped,
    suspects: Suspects | None,
    splits: Mapping[str, Samples],
    audited: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """A line for each listed row of each finding, followed by the samples to inspect.

    Rows of an audit's findings come from its table `audited`. Columns are those of `HEAD` and one per score, filled for
    training samples. A finding without rows has one line.
    """
    parts = [pl.DataFrame(schema=HEAD)]
    for finding in findings:
        own = groups.rows.filter(pl.col("kind") == finding["kind"], pl.col("side") == finding["split"])
        lines = of_groups(own, splits) if len(own) else of_audit(finding, audited)
        told = {"finding": finding["kind"], "importance": finding["importance"], "count": finding["count"]}
        parts.append(lines.with_columns(pl.lit(value).alias(name) for name, value in told.items()))
    if suspects and "train" in splits:
        lines = splits["train"].described(np.array([one.row for one in suspects.listed], np.int64))
        told = suspects.finding() | {"importance": len(findings)}
        parts.append(
            lines.with_columns(
                pl.Series("predicted", [one.predicted for one in suspects.listed], dtype=pl.String),
                pl.Series("certainty", [one.certainty for one in suspects.listed], dtype=pl.Float64),
                finding=pl.lit(told["kind"]),
                importance=pl.lit(told["importance"]),
                count=pl.lit(told["count"]),
            )
        )
    whole = pl.concat(parts, how="diagonal_relaxed")
    return whole.with_columns(unformulated(pl.col(pl.String)))


def of_groups(rows: pl.DataFrame, splits: Mapping[str, Samples]) -> pl.DataFrame:
    """Lines of the rows of groups, in their order."""
    parts = [
        some.select("at", "group", group_rows="size").hstack(splits[str(split)].described(some["row"].to_numpy()))
        for (split,), some in rows.with_row_index("at").group_by("split", maintain_order=True)
    ]
    return pl.concat(parts, how="diagonal_relaxed").sort("at").drop("at")


def of_audit(finding: Mapping[str, Any], audited: pl.DataFrame | None) -> pl.DataFrame:
    """All lines of an audit's finding from its table; for another finding, the rows that it lists."""
    if audited is None or finding.get("source") != "audit":
        return of_rows(finding)
    own = audited.filter(pl.col("finding") == finding["kind"], pl.col("split") == finding["split"])
    if not len(own):
        return of_rows(finding)
    return own.select("split", "file", "row", "id", "given", "group", "group_rows", predicted="suggested")


def of_rows(finding: Mapping[str, Any]) -> pl.DataFrame:
    """Lines of a finding's rows or files; one line if it has neither."""
    rows = list(finding.get("rows", ())) or [(path, None) for path in finding.get("paths", ())] or [("", None)]
    return pl.DataFrame(
        {
            "split": [finding["split"]] * len(rows),
            "file": [visible(file) for file, _ in rows],
            "row": pl.Series([row for _, row in rows], dtype=pl.Int64),
        }
    )
