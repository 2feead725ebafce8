"""Drawn splits: equal rows and groups share a side, rows do not move, sizes and classes hold, times divide."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from secateur.pipelines.data.division import times_of
from secateur.pipelines.data.scan import ROW
from secateur.pipelines.data.sources import Columns, Loaded, Source, SourceError, load

FEATURES = {"features": ["x"], "label": "label"}


def read(folder: Path, frame: pl.DataFrame, columns: dict[str, Any], kind: str = "parquet", **source: Any) -> Loaded:
    path = folder / f"rows.{kind}"
    {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[kind](path)
    where = TypeAdapter(Source).validate_python({"kind": kind, "train": path.name} | source)
    return load(where, Columns(**columns), folder, folder / "cache")


def rows(loaded: Loaded, split: str = "test") -> list[int]:
    return loaded.rows[split].column(ROW).to_list()


def table(count: int, distinct: int | None = None) -> pl.DataFrame:
    x = np.arange(count) % (distinct or count)
    return pl.DataFrame({"x": x, "label": x % 2, "user": [f"u{row // 7}" for row in range(count)]})


def test_equal_inputs_are_on_one_side(tmp_path: Path) -> None:
    loaded = read(tmp_path, table(3000, 300), FEATURES, test_fraction=0.2)
    train, test = set(loaded.train["x"]), set(loaded.test["x"])
    assert not train & test
    assert train | test == set(range(300))
    assert sorted([*rows(loaded, "train"), *rows(loaded)]) == [*range(3000)]


def test_groups_are_on_one_side_and_equal_inputs_of_two_groups_stay_with_them(tmp_path: Path) -> None:
    frame = table(2000, 500)
    loaded = read(tmp_path, frame, FEATURES | {"group": "user"}, test_fraction=0.3)
    users = [set(frame["user"].gather(rows(loaded, split))) for split in ("train", "test")]
    assert not users[0] & users[1]
    assert set(loaded.train["x"]) & set(loaded.test["x"])
    # A missing value is no group: such rows do not share a side.
    alone = frame.with_columns(user=pl.lit(None, pl.String))
    loaded = read(tmp_path, alone.with_columns(x=pl.int_range(2000)), FEATURES | {"group": "user"}, test_fraction=0.3)
    assert 400 < len(loaded.test) < 800
    numbers = frame.with_columns(user=pl.col("user").str.slice(1).cast(pl.Int64))
    again = read(tmp_path, numbers, FEATURES | {"group": "user"}, test_fraction=0.3, kind="csv")
    assert rows(again) == rows(read(tmp_path, numbers, FEATURES | {"group": "user"}, test_fraction=0.3, kind="jsonl"))
    with pytest.raises(SourceError, match="group column 'user' holds lists of whole numbers"):
        read(tmp_path, frame.with_columns(user=pl.lit([1])), FEATURES | {"group": "user"}, test_fraction=0.3)


@pytest.mark.parametrize("group", [{}, {"group": "user"}])
def test_appended_rows_move_nobody(group: dict[str, str], tmp_path: Path) -> None:
    frame = table(1500)
    first = read(tmp_path, frame[:1000], FEATURES | group, test_fraction=0.2)
    for kind in ("parquet", "csv"):
        more = read(tmp_path, frame, FEATURES | group, kind, test_fraction=0.2)
        assert [row for row in rows(more) if row < 1000] == rows(first)
    # Another order of the rows moves none either.
    turned = read(tmp_path, frame[:1000].reverse(), FEATURES | group, test_fraction=0.2)
    assert sorted(turned.test["x"]) == sorted(first.test["x"])


FLAGS: dict[str, Callable[[int], str]] = {"flags": lambda n: str(n % 2 == 0), "reals": lambda n: f"{n % 40}.0"}


@pytest.mark.parametrize(
    ("spell", "last", "group"),
    [
        (FLAGS["flags"], "unknown", {}),
        (FLAGS["reals"], "g7", {}),
        (FLAGS["reals"], "g7", {"group": "b"}),
        (lambda n: str(n % 40), "0.5", {"group": "b"}),
    ],
)
def test_an_appended_row_that_changes_a_type_moves_nobody(
    spell: Callable[[int], str], last: str, group: dict[str, str], tmp_path: Path
) -> None:
    columns = {"features": ["b", "x"], "label": "label"} | group
    frame = pl.DataFrame([{"b": spell(n), "x": n % 90, "label": n % 2} for n in range(1000)])
    first = rows(read(tmp_path, frame, columns, "csv", test_fraction=0.3))
    more = pl.concat([frame, pl.DataFrame([{"b": last, "x": 5, "label": 1}])])
    assert [row for row in rows(read(tmp_path, more, columns, "csv", test_fraction=0.3)) if row < 1000] == first


def test_sizes_hold_to_the_root_of_the_rows_and_seeds_differ(tmp_path: Path) -> None:
    sizes, members = [], []
    for seed in range(5):
        loaded = read(tmp_path, table(4000), FEATURES, test_fraction=0.1, split_seed=seed)
        sizes.append(len(loaded.test))
        members.append(set(rows(loaded)))
    assert np.abs(np.array(sizes) - 400).max() < 6 * np.sqrt(4000 * 0.1 * 0.9)
    overlap = [len(a & b) for place, a in enumerate(members) for b in members[:place]]
    assert np.abs(np.array(overlap) - 40).max() < 6 * np.sqrt(40)
    # Each class has its share, with an error of the order of the root of its rows.
    assert np.abs(np.bincount(loaded.test_targets) - 200).max() < 6 * np.sqrt(200)


def test_data_of_few_distinct_inputs_are_divided_by_row(tmp_path: Path) -> None:
    frame = table(2000, 4)
    loaded = read(tmp_path, frame, FEATURES, test_fraction=0.2)
    assert abs(len(loaded.test) - 400) < 6 * np.sqrt(2000 * 0.2 * 0.8)


def test_a_class_that_is_left_empty_is_rejected(tmp_path: Path) -> None:
    frame = table(200).with_columns(label=pl.when(pl.col("x") == 77).then(pl.lit("rare")).otherwise(pl.lit("usual")))
    with pytest.raises(SourceError, match=r"split that was drawn has no row of class 'rare', which has 1 row, for"):
        read(tmp_path, frame, FEATURES, test_fraction=0.2)


@pytest.mark.parametrize("several", [False, True])
def test_a_label_that_is_left_without_a_row_is_rejected(several: bool, tmp_path: Path) -> None:
    frame = table(200).with_columns(
        a=pl.lit(1),
        rare=(pl.col("x") == 77).cast(pl.Int64),
        label=pl.when(pl.col("x") == 77).then(["a", "rare"]).otherwise(["a"]),
    )
    columns = FEATURES | {"target": "labels"} | ({"label": ["a", "rare"]} if several else {})
    with pytest.raises(SourceError, match=r"has no row of label 'rare', which has 1 row, for one split alone: name"):
        read(tmp_path, frame, columns, test_fraction=0.2)


DAYS = [date(2026, 1, 1) + timedelta(days=day) for day in range(20)]
MOMENTS = [datetime(2026, 1, 1, 12) + timedelta(days=day) for day in range(20)]
NEW = [*range(12, 20)]


@pytest.mark.parametrize(
    ("values", "after"),
    [
        ([*range(20)], 12),
        ([row + 0.5 for row in range(20)], 12.5),
        ([f"2026-01-{row + 1:02}" for row in range(20)], "2026-01-13"),
        ([f"2026-01-{row + 1:02}" for row in range(20)], date(2026, 1, 13)),
        ([f"2026-01-{row + 1:02}T12:00:00Z" for row in range(20)], date(2026, 1, 13)),
        ([f"2026-01-{row + 1:02} 12:00:00" for row in range(20)], datetime(2026, 1, 12, 12, 30)),
        (DAYS, date(2026, 1, 13)),
        (DAYS, "2026-01-13"),
        (MOMENTS, datetime(2026, 1, 13, 12)),
        (MOMENTS, "2026-01-12T13:00:00"),
        (MOMENTS, date(2026, 1, 13)),
        (MOMENTS, datetime(2026, 1, 13, 14, tzinfo=UTC) - timedelta(hours=2)),
        ([moment.replace(tzinfo=UTC) for moment in MOMENTS], datetime(2026, 1, 13, 12)),
        ([moment.replace(tzinfo=UTC) for moment in MOMENTS], "2026-01-13T14:00:00+02:00"),
        ([f"2026-01-{row + 1:02}T01:00:00+02:00" for row in range(20)], datetime(2026, 1, 12, 22, 30, tzinfo=UTC)),
        ([f"2026-01-{row + 1:02}T23:00{zone}" for row in range(20) for zone in ["-0130"]], "2026-01-14T00:30"),
    ],
    ids=range(16),
)
def test_a_split_by_time(values: list[Any], after: Any, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(20)
    frame = pl.DataFrame({"x": np.arange(20), "label": np.arange(20) % 2, "when": values})[order]
    for kind in ("parquet", "csv", "jsonl"):
        if kind != "parquet" and not isinstance(values[0], int | float | str):
            continue
        loaded = read(tmp_path, frame, FEATURES, kind, split={"column": "when", "after": after})
        assert sorted(loaded.test["x"]) == NEW
        assert sorted(loaded.train["x"]) == [*range(12)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.datetimes(datetime(1950, 1, 1), datetime(2050, 1, 1)), min_size=1, max_size=9), st.data())
def test_texts_of_times_are_the_times_that_python_reads(moments: list[datetime], data: st.DataObject) -> None:
    texts = []
    for moment in moments:
        zone = data.draw(st.sampled_from([None, UTC, timezone(timedelta(hours=2)), timezone(timedelta(minutes=-570))]))
        precision = data.draw(st.sampled_from(["auto", "minutes", "seconds", "milliseconds", "microseconds"]))
        texts.append(moment.replace(tzinfo=zone).isoformat(data.draw(st.sampled_from("T ")), precision))
    read = [datetime.fromisoformat(text) for text in texts]
    expected = [moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in read]
    assert times_of(pl.Series([*texts, "2026-02-30", "2026-01-01T25:00", "soon", None])).to_list() == [
        *expected,
        *[None] * 4,
    ]


def test_times_of_nanoseconds_and_of_pandas(tmp_path: Path) -> None:
    import pandas as pd

    # Between two microseconds, as with clocks of nanoseconds.
    moments = pd.to_datetime(MOMENTS).astype("datetime64[ns]") + pd.Timedelta(1, "ns")
    pd.DataFrame({"x": range(20), "label": [0, 1] * 10, "when": moments}).to_parquet(tmp_path / "rows.parquet")
    where = {"kind": "parquet", "train": "rows.parquet", "split": {"column": "when", "after": "2026-01-13"}}
    loaded = load(TypeAdapter(Source).validate_python(where), Columns(**FEATURES), tmp_path, tmp_path / "cache")
    assert list(loaded.test["x"]) == NEW


@pytest.mark.parametrize(
    ("values", "after", "message"),
    [
        ([1, None, 3], 2, r"rows\.parquet: source\.split: column 'when' is null in row 1, which is on neither side"),
        ([1.0, float("nan"), 3.0], 2, r"column 'when' is nan in row 1"),
        ([1, 2, 3], "2026-01-01", r"column 'when' holds Int64, and after is '2026-01-01'"),
        ([1, 2, 3], date(2026, 1, 1), r"column 'when' holds Int64, and after is datetime\.date"),
        (["31.12.2025", "1.1.2026", "2.1.2026"], date(2026, 1, 1), r"'31\.12\.2025' in row 0, which is no time like"),
        ([True, False, True], 1, r"column 'when' holds Boolean"),
        (DAYS[:3], 5, r"column 'when' holds Datetime.*, and after is 5"),
        (["2026-01-01", "soon", None], "2026-01-01", r"'soon' in row 1, which is no time like"),
        (["2026-01-01", None, "2026-01-02"], "2026-01-01", r"is null in row 1, which is on neither side"),
        (["2026-01-01"] * 3, "b", r"column 'when' holds String, and after is 'b': write a number"),
        (DAYS[:3], "yesterday", r"column 'when' holds Datetime.*, and after is 'yesterday'"),
        (DAYS[:3], date(2027, 1, 1), r"source\.split: no row is left for the test split"),
        (DAYS[:3], date(2025, 1, 1), r"source\.split: no row is left for the train split"),
    ],
)
def test_values_that_divide_nothing(values: list[Any], after: Any, message: str, tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [0, 1, 2], "label": [0, 1, 0], "when": values})
    with pytest.raises(SourceError, match=message):
        read(tmp_path, frame, FEATURES, split={"column": "when", "after": after})


def test_settings_of_a_split_by_time(tmp_path: Path) -> None:
    for split in ({"column": "when"}, {"column": "when", "after": 1, "before": 2}):
        with pytest.raises(ValidationError):
            TypeAdapter(Source).validate_python({"kind": "csv", "train": "a.csv", "split": split})
    frame = pl.DataFrame({"x": [0, 1], "label": [0, 1], "when": [1, 2]})
    with pytest.raises(SourceError, match=r"there is no column 'wen'; did you mean 'when'\?"):
        read(tmp_path, frame, FEATURES, split={"column": "wen", "after": 1})
