"""Tables as one float32 array `[n, columns]`: standardised numbers, marks of missing numbers, codes of categories."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from jaxtyping import Float32, Float64
from pydantic import BaseModel, ConfigDict, Field

from secateur.scorers.contract import rows_text
from secateur.trainers.modalities.rows import Batches, batches_of
from secateur.trainers.models.tabular_mlp import UNKNOWN

if TYPE_CHECKING:
    import datasets
    import polars as pl
    import pyarrow as pa

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
    """A numeric column: mean and standard deviation in training, and whether a column of marks follows.

    A missing value becomes the mean.
    """

    name: str
    mean: float
    deviation: float
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
    """Columns as training had them; texts, booleans and the numbers that the settings name are categories."""

    columns: tuple[Number | Category, ...]
    missing: tuple[str, ...]
    kind: Literal["codes", "one_hot"]

    @classmethod
    def fit(cls, rows: "Batches | datasets.Dataset", names: Sequence[str], encoding: TableEncoding) -> "TableEncoder":
        """Describe the training columns; raises ValueError for a name in `categorical` that is no input."""
        astray = [name for name in encoding.categorical if name not in names]
        if astray:
            raise ValueError(f"encoding.categorical: {astray[0]!r} is not among the features {', '.join(names)}")
        import polars as pl

        missing = tuple(encoding.missing)
        moments: dict[str, Moments] = {}
        counts: dict[str, Counter[str]] = {}
        for table in batches_of(rows, names):
            for name in names:
                values = column_of(table, name)
                if name in encoding.categorical or values.dtype == pl.Boolean or values.dtype == pl.String:
                    texts = plain(values, missing).drop_nulls()
                    counts.setdefault(name, Counter()).update(dict(texts.value_counts().iter_rows()))
                else:
                    moments.setdefault(name, Moments()).add(numbers_of(values))
        described: list[Number | Category] = []
        for name in names:
            if name in moments:
                described.append(moments[name].column(name))
            else:
                kept = sorted(counts[name].items(), key=lambda item: (-item[1], item[0]))[: encoding.max_categories]
                described.append(Category(name, tuple(sorted(value for value, _ in kept))))
        return cls(tuple(described), missing, encoding.kind or "codes")

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

    @property
    def names(self) -> tuple[str, ...]:
        """Columns that it reads."""
        return tuple(column.name for column in self.columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row as an array."""
        sizes = self.categories
        return (sum(size - UNKNOWN - 1 if size else 1 for size in sizes) if self.kind == "one_hot" else len(sizes),)

    dtype = np.dtype(np.float32)

    def encode_batch(self, table: "pa.Table", first: int = 0) -> Float32[np.ndarray, "b columns"]:
        """Rows from `first` on; raises ValueError that names column and rows where a number is infinite."""
        parts: list[np.ndarray] = []
        for column in self.columns:
            values = column_of(table, column.name)
            if isinstance(column, Category):
                parts.append(codes_of(values, column, self.missing))
                continue
            numbers = numbers_of(values, first)
            absent = np.isnan(numbers)
            # In float64 until here: of seconds since 1970 float32 keeps minutes.
            standard = (numbers - column.mean) / (column.deviation or 1.0)
            parts.append(np.where(absent, 0.0, standard).astype(np.float32))
            parts += [absent.astype(np.float32)] if column.marked else []
        codes = np.stack(parts, axis=1)
        return one_hot(codes, self.categories) if self.kind == "one_hot" else codes

    def facts(self, rows: "Batches | datasets.Dataset") -> dict[str, Any]:
        """How many columns of which kind, and the share of categories that training did not have."""
        described = [column for column in self.columns if isinstance(column, Category)]
        unknown = dict.fromkeys((column.name for column in described), 0)
        for table in batches_of(rows, list(unknown)) if described else ():
            for column in described:
                codes = codes_of(column_of(table, column.name), column, self.missing)
                unknown[column.name] += int((codes == UNKNOWN).sum())
        return {
            "numeric columns": len(self.columns) - len(described),
            "categorical columns": len(described),
            "share of unknown categories": float(np.mean(list(unknown.values()))) / len(rows) if unknown else 0.0,
        }

    def save(self, folder: Path) -> None:
        """Write `encoding.json`."""
        columns = [{"is": type(column).__name__} | asdict(column) for column in self.columns]
        learned = {"encoder": "table", "kind": self.kind, "missing": self.missing, "columns": columns}
        (folder / "encoding.json").write_text(json.dumps(learned, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "TableEncoder":
        """Read back what `save` wrote."""
        learned = json.loads((folder / "encoding.json").read_text())
        columns = tuple(
            Category(entry["name"], tuple(entry["values"]))
            if entry["is"] == "Category"
            else Number(entry["name"], entry["mean"], entry["deviation"], entry["marked"])
            for entry in learned["columns"]
        )
        return cls(columns, tuple(learned["missing"]), learned["kind"])


@dataclass
class Moments:
    """Mean and squared deviations of a column that comes in parts (Chan et al. 1979), float64."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    absent: int = field(default=0)

    def add(self, numbers: Float64[np.ndarray, " n"]) -> None:
        """Take in a part, NaN where missing."""
        there = numbers[~np.isnan(numbers)]
        self.absent += len(numbers) - len(there)
        if not len(there):
            return
        mean, count = float(there.mean()), self.count + len(there)
        gap = mean - self.mean
        self.squares += float(np.square(there - mean).sum()) + gap * gap * self.count * len(there) / count
        self.mean += gap * len(there) / count
        self.count = count

    def column(self, name: str) -> Number:
        """The column as training had it."""
        return Number(name, self.mean, float(np.sqrt(self.squares / max(1, self.count))), self.absent > 0)


def column_of(table: "pa.Table", name: str) -> "pl.Series":
    """A column of a batch."""
    import polars as pl

    series = pl.from_arrow(table[name])
    assert isinstance(series, pl.Series)
    return series.alias(name)


def plain(values: "pl.Series", missing: tuple[str, ...]) -> "pl.Series":
    """Values as texts that are the same for equal values of any type, null where missing."""
    import polars as pl

    if values.dtype.is_integer():
        return values.cast(pl.String)
    if values.dtype.is_float():
        # 1, 1.0 and True are one category whatever a split stores.
        wide = values.cast(pl.Float64).fill_nan(None)
        whole = wide.cast(pl.Int64, strict=False)
        texts = pl.when(whole.cast(pl.Float64) == wide).then(whole.cast(pl.String)).otherwise(wide.cast(pl.String))
        return pl.select(texts).to_series().alias(values.name)
    stripped = values.cast(pl.String).str.strip_chars()
    absent = stripped.is_in(["", *missing])
    return pl.select(pl.when(~absent).then(stripped)).to_series().alias(values.name)


def numbers_of(values: "pl.Series", first: int = 0) -> Float64[np.ndarray, " n"]:
    """Numbers with NaN where missing; raises ValueError for infinite ones."""
    import polars as pl

    wide = values.cast(pl.Float64)
    numbers = (wide.fill_null(float("nan")) if wide.null_count() else wide).to_numpy()
    wrong = np.flatnonzero(np.isinf(numbers))
    if len(wrong):
        raise ValueError(
            f"column {values.name!r} is infinite at {rows_text(wrong + first)}: correct these or make them missing"
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
