"""Tables as one float32 array `[n, columns]`: standardised numbers, indicators of missing numbers, category codes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64
from pydantic import ConfigDict, Field

from secateur.scorers.settings import Settings
from secateur.trainers.contract import UNKNOWN
from secateur.trainers.modalities.frequencies import Frequencies
from secateur.trainers.modalities.rows import Batches, RowFault, batches_of, results_of
from secateur.trainers.modalities.spellings import marks_of, one_spelling, text_of_number

if TYPE_CHECKING:
    import datasets
    import polars as pl
    import pyarrow as pa

DISTINCT = 1 << 17
"""Distinct values of a column up to which counts are exact."""
FLOAT32 = float(np.finfo(np.float32).max)
MISSING, FIRST = 1, 2
"""Code of a missing category, and of the first training category."""


class TableEncoding(Settings):
    """Settings of the encoding of tables."""

    model_config = ConfigDict(frozen=True)

    kind: Annotated[
        Literal["codes", "one_hot"] | None, Field(description="default: the models' kind of input, codes or numbers")
    ] = None
    missing: list[str] | dict[str, list[str]] = Field(
        default_factory=lambda: ["?"],
        description="texts that mean a missing value, besides empty ones: for all columns, or by column",
    )
    categorical: list[str] = Field(default_factory=list, description="columns of numbers to treat as categories")
    max_categories: Annotated[int, Field(ge=1, description="per column; rarer ones count as unknown")] = 1000


@dataclass(frozen=True)
class Number:
    """A numeric column: mean and standard deviation in training, and whether a column of missing marks follows.

    The mean is that of the values minus `origin`, a whole number that is 0 unless whole numbers are too large for
    floats. A missing value becomes the mean. The deviation of a constant column is 0, and the encoder divides by 1.
    """

    name: str
    mean: float
    deviation: float
    marked: bool
    origin: int = 0


@dataclass(frozen=True)
class Category:
    """A categorical column: its values in the order of their codes, from `FIRST` on."""

    name: str
    values: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.values) + FIRST


@dataclass(frozen=True)
class TableEncoder:
    """Encodes columns by the training rows; texts, booleans and the numbers named in the settings are categories."""

    columns: tuple[Number | Category, ...]
    missing: Sequence[str] | Mapping[str, Sequence[str]]
    kind: Literal["codes", "one_hot"]

    @classmethod
    def fit(cls, rows: "Batches | datasets.Dataset", names: Sequence[str], encoding: TableEncoding) -> "TableEncoder":
        """Fit to the training columns; raises ValueError for a name in `categorical` that is no input."""
        astray = [name for name in encoding.categorical if name not in names]
        if astray:
            raise ValueError(f"encoding.categorical: {astray[0]!r} is not among the features {', '.join(names)}")
        moments: dict[str, Moments] = {}
        counts: dict[str, Frequencies] = {}
        work = partial(parts_of, tuple(names), encoding, origins_of(rows, names, encoding))
        for parts in results_of(rows, names, work):
            for name, part in parts.items():
                if isinstance(part, Part):
                    moments.setdefault(name, Moments(name, part.origin)).add(part)
                else:
                    counts.setdefault(name, Frequencies(DISTINCT)).add(part)
        described: list[Number | Category] = []
        for name in names:
            if name in moments:
                described.append(moments[name].column())
            else:
                kept = counts[name].sums()["value"].head(encoding.max_categories)
                described.append(Category(name, tuple(kept.sort())))
        return cls(tuple(described), encoding.missing, encoding.kind or "codes")

    @property
    def categories(self) -> list[int]:
        """Per column of codes: 0 for numbers and marks, the number of codes otherwise."""
        sizes: list[int] = []
        for column in self.columns:
            sizes += [column.size] if isinstance(column, Category) else [0] * (1 + column.marked)
        return sizes

    @property
    def model_settings(self) -> dict[str, Any]:
        """Facts about the columns for networks."""
        return {"kind": "numbers"} if self.kind == "one_hot" else {"kind": "codes", "categories": self.categories}

    @property
    def names(self) -> tuple[str, ...]:
        """Columns that it reads."""
        return tuple(column.name for column in self.columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an encoded row."""
        sizes = self.categories
        return (sum(size - UNKNOWN - 1 if size else 1 for size in sizes) if self.kind == "one_hot" else len(sizes),)

    sparse, spared = False, ()
    dtype = np.dtype(np.float32)

    def encode_batch(self, table: "pa.Table", first: int = 0) -> Float32[np.ndarray, "b columns"]:
        """Rows from `first` on; raises RowFault that names column and rows of infinite or too large numbers."""
        categories = self.categories
        codes, place = np.empty((table.num_rows, len(categories)), np.float32), 0
        for column in self.columns:
            values = column_of(table, column.name)
            if isinstance(column, Category):
                codes[:, place] = codes_of(values, column, marks_of(self.missing, column.name))
                place += 1
                continue
            numbers = numbers_of(values, column.origin, first)
            absent = np.isnan(numbers)
            # In float64 until here: float32 rounds seconds since 1970 to minutes.
            standard = (numbers - column.mean) / (column.deviation or 1.0)
            if absent.any():
                standard[absent] = 0.0
            if max(standard.max(initial=0.0), -standard.min(initial=0.0)) > FLOAT32:
                wrong = np.abs(standard) > FLOAT32
                refuse(values.name, wrong, "more deviations from the mean than float32 holds", first)
            codes[:, place] = standard
            if column.marked:
                codes[:, place + 1] = absent
            place += 1 + column.marked
        return one_hot(codes, categories) if self.kind == "one_hot" and any(categories) else codes

    def facts(self, rows: "Batches | datasets.Dataset", inputs: Any = None) -> dict[str, Any]:
        """Number of columns of each kind, and the share of values with unknown categories."""
        described = [column for column in self.columns if isinstance(column, Category)]
        names = [column.name for column in described]
        unknown = sum(results_of(rows, names, partial(self.unknown_in, described))) if described else 0
        return {
            "numeric columns": len(self.columns) - len(described),
            "categorical columns": len(described),
            "share of unknown categories": unknown / len(described) / len(rows) if described else 0.0,
        }

    def unknown_in(self, described: Sequence[Category], table: "pa.Table", first: int) -> list[int]:
        """Number of cells of a batch with unknown categories."""
        marks = (marks_of(self.missing, column.name) for column in described)
        codes = (codes_of(column_of(table, c.name), c, missing) for c, missing in zip(described, marks, strict=True))
        return [sum(int((values == UNKNOWN).sum()) for values in codes)]

    def save(self, folder: Path) -> None:
        """Write `encoding.json`."""
        columns = [{"is": type(column).__name__} | asdict(column) for column in self.columns]
        learned = {"encoder": "table", "kind": self.kind, "missing": self.missing, "columns": columns}
        (folder / "encoding.json").write_text(json.dumps(learned, indent=1) + "\n")


@dataclass(frozen=True)
class Part:
    """Moments of consecutive values of a column minus the `origin`, float64; without any value they are 0."""

    origin: int
    absent: int
    count: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    mean: float = 0.0
    squares: float = 0.0
    """Sum of the squared deviations from `mean`."""

    @classmethod
    def of(cls, values: "pl.Series", origin: int, first: int) -> "Part":
        """Moments of the values of rows from `first` on; RowFault for infinite ones."""
        numbers = numbers_of(values, origin, first)
        absent = np.isnan(numbers)
        there = numbers[~absent] if absent.any() else numbers
        missing = len(numbers) - len(there)
        if not len(there):
            return cls(origin, missing)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(there.mean())
            squares = float(np.square(there - mean).sum())
        return cls(origin, missing, len(there), float(there.min()), float(there.max()), mean, squares)


@dataclass
class Moments:
    """Mean and squared deviations of a column over parts (Chan et al. 1979), float64."""

    name: str
    origin: int = 0
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    absent: int = 0
    low: float = float("inf")
    high: float = float("-inf")

    def add(self, part: Part) -> None:
        """Add a part; another order of the parts may change the last bits."""
        self.absent += part.absent
        if not part.count:
            return
        self.low, self.high = min(self.low, part.low), max(self.high, part.high)
        with np.errstate(over="ignore", invalid="ignore"):
            count = self.count + part.count
            gap = part.mean - self.mean
            squares = part.squares + gap * gap * self.count * part.count / count
        self.squares += squares
        self.mean += gap * part.count / count
        self.count = count

    def column(self) -> Number:
        """The fitted column; raises ValueError if float64 cannot hold the squares of its deviations."""
        if not np.isfinite(self.squares):
            raise ValueError(f"column {self.name!r}: deviations from the mean are beyond 1e154: scale the column")
        if self.low == self.high:  # The rounded mean could differ from the one value.
            return Number(self.name, self.low, 0.0, self.absent > 0, self.origin)
        deviation = float(np.sqrt(self.squares / max(1, self.count)))
        if self.count and not deviation:
            raise ValueError(f"column {self.name!r}: deviations from the mean are below 1e-162: scale the column")
        return Number(self.name, self.mean, deviation, self.absent > 0, self.origin)


def parts_of(
    names: Sequence[str], encoding: TableEncoding, origins: Mapping[str, int], table: "pa.Table", first: int
) -> "list[dict[str, Part | pl.DataFrame]]":
    """Summands of `fit` of a batch, by column: moments of numbers, counts of each category (`value`, `count`)."""
    found: dict[str, Part | pl.DataFrame] = {}
    for name in names:
        values = column_of(table, name)
        if is_category(values, name, encoding):
            texts = plain(values, marks_of(encoding.missing, name)).drop_nulls()
            found[name] = texts.alias("value").value_counts(name="count")
        else:
            found[name] = Part.of(values, origins.get(name, 0), first)
    return [found]


def is_category(values: "pl.Series", name: str, encoding: TableEncoding) -> bool:
    """Whether a column holds categories rather than numbers."""
    import polars as pl

    return name in encoding.categorical or values.dtype == pl.Boolean or values.dtype == pl.String


def origins_of(rows: "Batches | datasets.Dataset", names: Sequence[str], encoding: TableEncoding) -> Mapping[str, int]:
    """The origin of each column of whole numbers, from the first batch that has a value of it."""
    origins: dict[str, int] = {}
    left = list(names)
    for table in batches_of(rows, names):
        columns = {name: column_of(table, name) for name in left}
        for name, values in columns.items():
            whole = values.dtype.is_integer() and not is_category(values, name, encoding)
            if whole and values.null_count() < len(values):
                origins[name] = origin_of(values)
            elif whole:
                continue
            left.remove(name)
        if not left:
            break
    return origins


def column_of(table: "pa.Table", name: str) -> "pl.Series":
    """A column of a batch."""
    import polars as pl

    series = pl.from_arrow(table[name])
    assert isinstance(series, pl.Series)
    return series.alias(name)


def plain(values: "pl.Series", missing: Sequence[str]) -> "pl.Series":
    """Values as canonical texts, equal for equal values of any type, null where missing."""
    import polars as pl

    if values.dtype.is_integer():
        return values.cast(pl.String)
    if values.dtype.is_float():
        # 1 and 1.0 are one category for any type of column.
        wide = values.cast(pl.Float64).fill_nan(None)
        return pl.select(text_of_number(pl.lit(wide))).to_series().alias(values.name)
    stripped = values.cast(pl.String).str.strip_chars().str.normalize("NFC")
    absent = stripped.is_in(["", *missing])
    return pl.select(pl.when(~absent).then(one_spelling(stripped))).to_series().alias(values.name)


def origin_of(values: "pl.Series") -> int:
    """The number to subtract from each value before the conversion to float: 0 if floats are exact."""
    return int(values.drop_nulls()[0]) if values.dtype.is_integer() and not exact(values) else 0


def exact(values: "pl.Series") -> bool:
    """Whether float64 represents some whole numbers exactly."""
    low, high = values.min(), values.max()
    return not isinstance(low, int) or not isinstance(high, int) or (low >= -(2**53) and high <= 2**53)


def numbers_of(values: "pl.Series", origin: int = 0, first: int = 0) -> Float64[np.ndarray, " n"]:
    """Numbers minus the origin, with NaN where missing; raises RowFault for infinite ones."""
    import polars as pl

    if values.dtype.is_integer() and (origin or not exact(values)):
        wide = pl.lit(values.cast(pl.Int128)) - pl.lit(origin, pl.Int128)
        return pl.select(wide.cast(pl.Float64).fill_null(float("nan"))).to_series().to_numpy()
    floats = values.cast(pl.Float64)
    numbers = (floats.fill_null(float("nan")) if floats.null_count() else floats).to_numpy()
    refuse(values.name, np.isinf(numbers), "infinite", first)
    return numbers - float(origin) if origin else numbers


def refuse(name: str, wrong: Bool[np.ndarray, " n"], fault: str, first: int) -> None:
    """Raise RowFault for wrong rows, counted from `first`."""
    if wrong.any():
        rows = np.flatnonzero(wrong) + first
        raise RowFault(f"column {name!r} is {fault}", rows, "correct these or make them missing")


def codes_of(values: "pl.Series", column: Category, missing: Sequence[str]) -> Float32[np.ndarray, " n"]:
    """Codes, exact as floats: `UNKNOWN`, `MISSING`, then the training categories."""
    import polars as pl

    texts = plain(values, missing)
    if not column.values:
        return np.where(texts.is_null().to_numpy(), MISSING, UNKNOWN).astype(np.float32)
    codes = dict(zip(column.values, range(FIRST, column.size), strict=True))
    known = texts.replace_strict(codes, default=UNKNOWN, return_dtype=pl.Int64)
    return np.where(texts.is_null().to_numpy(), MISSING, known.fill_null(MISSING).to_numpy()).astype(np.float32)


def one_hot(codes: Float32[np.ndarray, "n columns"], categories: Sequence[int]) -> Float32[np.ndarray, "n features"]:
    """Unchanged numbers, and one-hot codes without a column for `UNKNOWN`: an unknown category is all zeros."""
    parts = [
        np.eye(size, dtype=np.float32)[codes[:, column].astype(np.int64), UNKNOWN + 1 :] if size else codes[:, [column]]
        for column, size in enumerate(categories)
    ]
    return np.concatenate(parts, axis=1)
