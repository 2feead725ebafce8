"""The table of kept rows of a manifest: make it, write it as Parquet, check it on reading, find it in other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from secateur.pipelines.data.fingerprints import ends_of, text_of
from secateur.pipelines.data.lazy import pa, pl, pq
from secateur.scorers.contract import finite, rows_text

SCORE = "score_"
FIXED: dict[str, tuple[str, tuple[str, ...]]] = {
    "row": ("int64", ("cr:Int64",)),
    "content_hash": ("string", ("sc:Text",)),
    "label": ("int64", ("cr:Int64", "cr:Label")),
    "stratum": ("int64", ("cr:Int64",)),
    "file": ("int64", ("cr:Int64",)),
    "file_row": ("int64", ("cr:Int64",)),
    "path": ("string", ("sc:Text",)),
    "weight": ("float32", ("cr:Float32",)),
    "id": ("string", ("sc:Text",)),
    "group": ("string", ("sc:Text",)),
    "cost": ("float64", ("cr:Float64",)),
}
PLACES = ("file", "file_row", "path")
"""The user's place of a sample: a number among the manifest's files, the row in that file, the path of a picture."""
FLOAT: tuple[str, tuple[str, ...]] = ("float32", ("cr:Float32",))
OWN = ("id", "group", "cost")
"""Columns from the user's data: a sample's id, its group, which stays together, its cost in a budget."""
HASH = r"^[0-9a-f]{32}$"
WIDTHS = {"content_hash": 36, "path": 200, "id": 200, "group": 200}
"""Largest average of bytes per cell of text in a genuine file."""
ROWS_PER_GROUP = 1 << 20
ROWS_PER_BYTE = 2
"""Largest number of rows per byte of a genuine file: row numbers are stored plain, so each takes a byte or more."""
SLACK = 2**20


def croissant_types(column: str) -> tuple[str, ...]:
    """Croissant data types of a column."""
    return FIXED.get(column, FLOAT)[1]


def group_of(columns: Sequence[str]) -> str:
    """The column of the group that counts a sample: its class, or the stratum of another target."""
    return "stratum" if "stratum" in columns else "label"


def check_samples(samples: pl.DataFrame, keep: np.ndarray) -> None:
    """Raise ValueError unless the table describes all rows of a data set and the mask has one entry per row."""
    group = group_of(samples.columns)
    expected = {"row": pl.Int64, "content_hash": pl.String, group: pl.Int64}
    for name, dtype in expected.items():
        if samples.schema.get(name) != dtype:
            raise ValueError(f"samples need a column {name!r} of {dtype}, got {samples.schema.get(name)}")
    if keep.dtype != np.bool_ or keep.shape != (samples.height,):
        raise ValueError(f"keep must be bool [{samples.height}], got {keep.dtype} {list(keep.shape)}")
    if not np.array_equal(samples["row"].to_numpy(), np.arange(samples.height)):
        raise ValueError("the column 'row' must count 0, 1, 2, … in the order of the data set")
    _refuse_bad_hashes(~samples["content_hash"].str.contains(HASH).fill_null(False).to_numpy())
    if samples[group].null_count():
        raise ValueError(f"{group} is missing at {rows_text(np.flatnonzero(samples[group].is_null()))}")


def kept_table(
    samples: pl.DataFrame, keep: np.ndarray, weights: np.ndarray | None, scores: Mapping[str, np.ndarray]
) -> pl.DataFrame:
    """Kept rows with their weights and scores; raises ValueError for arrays of another length, NaN and infinity."""
    columns = {} if weights is None else {"weight": weights}
    columns |= {SCORE + name: values for name, values in scores.items()}
    for name, values in columns.items():
        if values.shape != keep.shape:
            raise ValueError(f"{name} must be float32 [{len(keep)}], got {list(values.shape)}")
        finite(values.astype(np.float32), name)
    floats = [pl.Series(name, values.astype(np.float32)) for name, values in columns.items()]
    located = [pl.col(name).cast(pl.Int64) for name in PLACES[:2] if name in samples.columns]
    if "path" in samples.columns and (samples["path"].fill_null("") != "").any():
        located.append(pl.col("path").fill_null(""))
    own = [name for name in OWN if name in samples.columns]
    table = samples.select("row", "content_hash", group_of(samples.columns), *located, *own)
    return table.with_columns(*floats).filter(pl.Series(keep))


def write(table: pl.DataFrame, path: Path) -> None:
    """Write the table as Parquet: zstd, and nothing in it that depends on the machine or the time."""
    schema = pa.schema([pa.field(name, _arrow_type(name), nullable=False) for name in table.columns])
    pq.write_table(
        pa.table([table[name].to_arrow().cast(_arrow_type(name)) for name in table.columns], schema=schema),
        path,
        compression="zstd",
        row_group_size=ROWS_PER_GROUP,
        use_dictionary=False,
        store_schema=False,
    )


def read(path: Path, columns: Sequence[str], count: int) -> pa.Table:
    """Read `count` rows of exactly these columns.

    Raises ValueError for anything else, and for a file that would unpack to far more than its size, before allocating
    memory for it.
    """
    try:
        table = _read(path, columns, count)
    except (pa.ArrowException, OSError, OverflowError) as error:
        raise ValueError(f"{path.name} is no readable Parquet file ({error})") from error
    if table.num_rows != count or any(column.null_count for column in table.columns):
        raise ValueError(f"{path.name} has empty cells or fewer rows than it says")
    return table


def _read(path: Path, columns: Sequence[str], count: int) -> pa.Table:
    with pq.ParquetFile(path) as file:
        described, schema = file.metadata, file.schema_arrow
        if list(schema.names) != list(columns):
            raise ValueError(f"{path.name} has the columns {schema.names[:20]}, but {list(columns)[:20]} are listed")
        for name in columns:
            if schema.field(name).type != _arrow_type(name):
                raise ValueError(f"{path.name}: column {name} is {schema.field(name).type}, not {_arrow_type(name)}")
        if described.num_rows != count:
            raise ValueError(f"{path.name} has {described.num_rows} rows, but {count} are kept")
        groups = [described.row_group(index) for index in range(described.num_row_groups)]
        unpacked = sum(group.total_byte_size for group in groups)
        width = sum(WIDTHS.get(name) or _arrow_type(name).byte_width for name in columns)
        if count > ROWS_PER_BYTE * path.stat().st_size or unpacked > 2 * width * count + SLACK:
            raise ValueError(f"{path.name} would unpack {count} rows to {unpacked} bytes, too many for its size")
        table = file.read()
    table.validate(full=True)
    return table


def check_columns(columns: Sequence[str], scores: Sequence[str]) -> None:
    """Raise ValueError unless the columns are those of a manifest with these scores."""
    allowed = [*FIXED, *(SCORE + name for name in scores)]
    if len(set(scores)) != len(scores):
        raise ValueError("it defines a score twice")
    plain = list(columns[:3]) == ["row", "content_hash", group_of(columns)] and len(set(columns)) == len(columns)
    plain &= not {"label", "stratum"} <= set(columns)
    plain &= ("file" in columns) == ("file_row" in columns) and ("file" in columns or "path" not in columns)
    if not plain or not set(columns) <= set(allowed):
        raise ValueError(f"it lists the columns {list(columns)[:20]}, but may only list {allowed[:20]}")


def check(table: pa.Table, count: int) -> None:
    """Raise ValueError unless rows ascend within 0 … count-1, hashes are hashes, and weights and scores are finite."""
    rows = numbers_of(table["row"])
    if len(rows) and (rows[0] < 0 or rows[-1] >= count or np.any(rows[1:] <= rows[:-1])):
        raise ValueError(f"its rows are not ascending, each once, within 0 … {count - 1}")
    _refuse_bad_hashes(no_hashes(table["content_hash"]))
    for name in table.column_names:
        if _arrow_type(name) == pa.float32():
            finite(numbers_of(table[name]), name)


def locate(rows: np.ndarray, hashes: pl.Series, found: pl.Series) -> np.ndarray:
    """Row in data with the content hashes `found` of each kept sample, -1 where it is missing, int64 `[kept]`.

    A sample at its original row keeps that row; the others take the remaining rows of equal content, in order, one
    each.
    """
    located = np.full(len(rows), -1, dtype=np.int64)
    near = np.flatnonzero(rows < found.len())
    stayed = near[(found.gather(rows[near]) == hashes.gather(near)).to_numpy()] if len(near) else near
    located[stayed] = rows[stayed]
    free = np.ones(found.len(), dtype=np.bool_)
    free[located[stayed]] = False
    moved = pl.DataFrame({"hash": hashes, "position": np.arange(len(rows))}).filter(pl.Series(located < 0))
    there = pl.DataFrame({"hash": found, "there": np.arange(found.len())}).filter(pl.Series(free))
    keys = ["hash"]
    # Numbering equal samples costs several joins, and most data has none.
    if any(table["hash"].n_unique() < table.height for table in (moved, there)):
        ordinal = pl.int_range(pl.len()).over("hash").alias("ordinal")
        there = there.join(moved.select("hash").unique(), on="hash", how="semi", maintain_order="left")
        moved, there, keys = moved.with_columns(ordinal), there.with_columns(ordinal), ["hash", "ordinal"]
    pairs = moved.join(there, on=keys)
    located[pairs["position"].to_numpy()] = pairs["there"].to_numpy()
    return located


def _arrow_type(column: str) -> pa.DataType:
    return pa.type_for_alias(FIXED.get(column, FLOAT)[0])


def numbers_of(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers without null, as NumPy; Arrow's own conversion would import pandas."""
    return np.concatenate([np.empty(0, column.type.to_pandas_dtype()), *map(np.from_dlpack, column.chunks)])


def no_hashes(texts: pa.ChunkedArray) -> np.ndarray:
    """Texts without null that are not 32 hexadecimal digits, bool `[n]`; by numpy, which is loaded already."""
    digits = np.zeros(256, np.bool_)
    digits[list(b"0123456789abcdef")] = True
    wrong = []
    for chunk in texts.chunks:
        letters = digits[np.frombuffer(text_of(chunk), np.uint8)]
        lengths = np.diff(ends_of(chunk))
        if (lengths == 32).all():
            wrong.append(~letters.reshape(-1, 32).all(axis=1))
        else:
            starts = np.concatenate([[0], np.cumsum(lengths)])
            inside = np.concatenate([[0], np.cumsum(letters)])
            wrong.append((lengths != 32) | (inside[starts[1:]] - inside[starts[:-1]] != lengths))
    return np.concatenate(wrong) if wrong else np.zeros(0, np.bool_)


def _refuse_bad_hashes(bad: np.ndarray) -> None:
    if bad.any():
        raise ValueError(f"content_hash is not 32 hexadecimal digits at {rows_text(np.flatnonzero(bad))}")
