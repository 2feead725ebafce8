"""Tables as one float32 array `[n, columns]`: numbers, marks of missing numbers, and codes of categories."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from jaxtyping import Float32, Float64
from pydantic import BaseModel, ConfigDict, Field

from secateur.scorers.contract import rows_text
from secateur.trainers.contract import UNKNOWN

if TYPE_CHECKING:
    import datasets
    import polars as pl

MISSING, FIRST = 1, 2
"""Code of a missing category, and of the first of those that training had."""


class TableEncoding(BaseModel):
    """How tables become arrays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Annotated[
        Literal["codes", "one_hot"] | None, Field(description="what the models read, if left out: codes or numbers")
    ] = None
    missing: Annotated[list[str], Field(description="texts that stand for a missing value, besides empty ones")] = ["?"]
    categorical: Annotated[list[str], Field(description="columns of numbers that are categories")] = []
    max_categories: Annotated[int, Field(ge=1, description="per column; rarer ones count as unknown")] = 1000


@dataclass(frozen=True)
class Number:
    """A numeric column: what stands in for missing values, and whether a column that marks them follows it."""

    name: str
    mean: float
    marked: bool


@dataclass(frozen=True)
class Category:
    """A categorical column: its values in the order of their codes, from `FIRST` on."""

    name: str
    values: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many codes there are."""
        return len(self.values) + FIRST


@dataclass(frozen=True)
class TableEncoder:
    """Columns as training had them. Strings and booleans are categories, and so are the numbers that the settings name.

    A column of strings that are numbers but for the setting's texts of missing values is a column of numbers.
    """

    columns: tuple[Number | Category, ...]
    missing: tuple[str, ...]
    kind: Literal["codes", "one_hot"]

    @classmethod
    def fit(cls, rows: "datasets.Dataset", names: Sequence[str], encoding: TableEncoding) -> "TableEncoder":
        """Describe the training columns; raises ValueError for a name in `categorical` that is no input."""
        astray = [name for name in encoding.categorical if name not in names]
        if astray:
            raise ValueError(f"encoding.categorical: {astray[0]!r} is not among the features {', '.join(names)}")
        table, missing = table_of(rows, names), tuple(encoding.missing)
        described = tuple(describe(table[name], encoding, missing) for name in names)
        return cls(described, missing, encoding.kind or "codes")

    @property
    def categories(self) -> list[int]:
        """Per column of codes: 0 for numbers and marks, the number of codes otherwise."""
        sizes: list[int] = []
        for column in self.columns:
            sizes += [column.size] if isinstance(column, Category) else [0] * (1 + column.marked)
        return sizes

    @property
    def model_settings(self) -> dict[str, Any]:
        """What a network must know of the columns."""
        return {"kind": "numbers"} if self.kind == "one_hot" else {"kind": "codes", "categories": self.categories}

    def encode(self, rows: "datasets.Dataset") -> Float32[np.ndarray, "n columns"]:
        """Every row; raises ValueError that names column and rows where a number is infinite."""
        table = table_of(rows, [column.name for column in self.columns])
        parts: list[np.ndarray] = []
        for column in self.columns:
            values = table[column.name]
            if isinstance(column, Category):
                parts.append(codes_of(values, column, self.missing))
            else:
                numbers = numbers_of(values, self.missing)
                absent = np.isnan(numbers)
                parts.append(np.where(absent, column.mean, numbers).astype(np.float32))
                parts += [absent.astype(np.float32)] if column.marked else []
        codes = np.stack(parts, axis=1).astype(np.float32)
        return one_hot(codes, self.categories) if self.kind == "one_hot" else codes

    def facts(self, rows: "datasets.Dataset") -> dict[str, Any]:
        """How many columns of which kind, and the share of categories that training did not have."""
        described = [column for column in self.columns if isinstance(column, Category)]
        table = table_of(rows, [column.name for column in self.columns])
        unknown = [float((codes_of(table[c.name], c, self.missing) == UNKNOWN).mean()) for c in described]
        return {
            "numeric columns": len(self.columns) - len(described),
            "categorical columns": len(described),
            "share of unknown categories": float(np.mean(unknown)) if unknown else 0.0,
        }

    def save(self, folder: Path) -> None:
        """Write `encoding.json`."""
        columns = [{"is": type(column).__name__} | asdict(column) for column in self.columns]
        learned = {"encoder": "table", "kind": self.kind, "missing": self.missing, "columns": columns}
        (folder / "encoding.json").write_text(json.dumps(learned, indent=1) + "\n")


def table_of(rows: "datasets.Dataset", names: Sequence[str]) -> "pl.DataFrame":
    """Input columns as they are stored."""
    import polars as pl

    found = pl.from_arrow(rows.select_columns(list(names)).with_format("arrow")[:])
    assert isinstance(found, pl.DataFrame)
    return found


def describe(values: "pl.Series", encoding: TableEncoding, missing: tuple[str, ...]) -> Number | Category:
    """A training column as number or category."""
    import polars as pl

    named = values.name in encoding.categorical
    if not named and values.dtype != pl.Boolean and (values.dtype != pl.String or is_numeric(values, missing)):
        numbers = numbers_of(values, missing)
        there = numbers[~np.isnan(numbers)]
        return Number(values.name, float(there.mean()) if len(there) else 0.0, len(there) < len(numbers))
    counts = plain(values, missing).drop_nulls().value_counts()
    kept = counts.sort(["count", values.name], descending=[True, False]).head(encoding.max_categories)
    return Category(values.name, tuple(sorted(kept[values.name].to_list())))


def plain(values: "pl.Series", missing: tuple[str, ...]) -> "pl.Series":
    """Values as texts that are the same for equal values of any type, null where missing."""
    import polars as pl

    if values.dtype.is_numeric():
        # 1, 1.0 and True are one category whatever a split stores.
        wide = values.cast(pl.Float64).fill_nan(None)
        whole = wide.cast(pl.Int64, strict=False)
        texts = pl.when(whole.cast(pl.Float64) == wide).then(whole.cast(pl.String)).otherwise(wide.cast(pl.String))
        return pl.select(texts).to_series().alias(values.name)
    stripped = values.cast(pl.String).str.strip_chars()
    absent = stripped.is_in(["", *missing])
    return pl.select(pl.when(~absent).then(stripped)).to_series().alias(values.name)


def is_numeric(values: "pl.Series", missing: tuple[str, ...]) -> bool:
    """Whether strings are numbers but for texts of missing values, of which there is at least one."""
    import polars as pl

    texts = plain(values, missing)
    there = texts.drop_nulls()
    if not len(there) or texts.null_count() == values.null_count():
        return False
    return there.cast(pl.Float64, strict=False).null_count() == 0


def numbers_of(values: "pl.Series", missing: tuple[str, ...]) -> Float64[np.ndarray, " n"]:
    """Numbers with NaN where missing; raises ValueError for what float32 takes for infinite."""
    import polars as pl

    texts = plain(values, missing) if values.dtype == pl.String else values
    numbers = texts.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy().astype(np.float64)
    wrong = np.flatnonzero(np.abs(numbers) > np.finfo(np.float32).max)
    if len(wrong):
        raise ValueError(
            f"column {values.name!r} is infinite or beyond float32 at {rows_text(wrong)}: "
            "correct these or make them missing"
        )
    return numbers


def codes_of(values: "pl.Series", column: Category, missing: tuple[str, ...]) -> Float32[np.ndarray, " n"]:
    """Codes, exact as floats: `UNKNOWN`, `MISSING`, then the training categories."""
    import polars as pl

    texts = plain(values, missing)
    codes = dict(zip(column.values, range(FIRST, column.size), strict=True))
    known = texts.replace_strict(codes, default=UNKNOWN, return_dtype=pl.Int64) if codes else texts.is_null() * UNKNOWN
    return np.where(texts.is_null().to_numpy(), MISSING, known.fill_null(MISSING).to_numpy()).astype(np.float32)


def one_hot(codes: Float32[np.ndarray, "n columns"], categories: Sequence[int]) -> Float32[np.ndarray, "n features"]:
    """Numbers as they are, each code as a row of an identity matrix; an unknown category is all zeros."""
    parts = [
        np.eye(size, dtype=np.float32)[codes[:, column].astype(np.int64), UNKNOWN + 1 :] if size else codes[:, [column]]
        for column, size in enumerate(categories)
    ]
    return np.concatenate(parts, axis=1)
