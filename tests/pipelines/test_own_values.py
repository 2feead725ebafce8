"""A user's numbers joined to the rows of the data: a changed file is refused or joined, never misapplied."""

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from secateur.pipelines.data.own_values import DataRows, Join, NumbersFile, numbers_for
from secateur.pipelines.data.own_vectors import not_finite, vectors_for
from secateur.pipelines.data.source_kinds.files import SourceError

IDS = [f"u{place}" for place in range(12)]


def data_rows(ids: list[Any] | None = None, places: list[int] | None = None, count: int | None = None) -> DataRows:
    """Rows of one file, `places` of `count` of them."""
    named = pl.Series("uuid", IDS if ids is None else ids)
    at = np.arange(len(named)) if places is None else np.array(places)
    return DataRows(
        name="prompts.parquet",
        revision="abc",
        count=count or len(named),
        places=at,
        hashes=pl.Series([f"{place % 10:032x}" for place in range(len(named))]),  # two rows equal earlier ones
        ids=named,
        id_column="uuid",
        column=lambda name: {"uuid": named, "other": named.cast(pl.String) + "!"}.get(name),
        shown=lambda rows, count: f"rows {rows.tolist()} of prompts.parquet",
    )


def written(folder: Path, table: dict[str, Any], ending: str = "parquet") -> NumbersFile:
    path = folder / f"grades.{ending}"
    frame = pl.DataFrame(table)
    {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[ending](path)
    return NumbersFile(path, "scores.judge")


changes = st.tuples(
    st.permutations(range(len(IDS))),
    st.lists(st.integers(0, len(IDS) - 1), max_size=2, unique=True),
    st.lists(st.integers(0, len(IDS) - 1), max_size=2),
    st.lists(st.integers(0, len(IDS) - 1), max_size=2, unique=True),
    st.sampled_from(["parquet", "csv", "jsonl"]),
)


@given(changes)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_file_is_refused_or_joined(tmp_path: Path, changed: Any) -> None:
    """Rows in any order, dropped, repeated and renamed: either every row gets its own number, or none does."""
    order, dropped, repeated, renamed, ending = changed
    rows = [place for place in order if place not in dropped] + repeated
    names = [f"x{place}" if place in renamed else IDS[place] for place in rows]
    file = written(tmp_path, {"uuid": names, "grade": [float(place) / 7 for place in rows]}, ending)
    whole = sorted(names) == sorted(IDS)
    if not whole:
        with pytest.raises(SourceError, match=r"grades\.|uuid"):
            numbers_for(file, data_rows(), Join(), "grade")
        return
    found = numbers_for(file, data_rows(), Join(), "grade")
    assert found.tolist() == [place / 7 for place in range(len(IDS))]


@pytest.mark.parametrize(
    ("table", "join", "message"),
    [
        ({"uuid": IDS[:10], "grade": [0.5] * 10}, Join(), r"no row of key 'uuid' \('u10', 'u11'\) for 2 of 12 rows of "
         r"the data, rows \[10, 11\] of prompts"),
        ({"uuid": [*IDS, "u1"], "grade": [0.5] * 13}, Join(), r"'uuid' is that of an earlier row in 1 of 13.*: row 12"),
        ({"uuid": [*IDS, "z"], "grade": [0.5] * 13}, Join(), r"of no row of prompts.parquet \('z'; unmatched: drop"),
        ({"uuid": [*IDS[1:], None], "grade": [0.5] * 12}, Join(), r"key 'uuid' is empty in 1 of 12 rows.*: row 11"),
        ({"uuid": IDS, "grade": [0.5] * 11 + [None]}, Join(), r"'grade' is empty in 1 of 12 rows.*: row 11"),
        ({"uuid": IDS, "grade": [0.5] * 11 + [np.nan]}, Join(), r"'grade' is NaN, infinite or beyond .*: row 11"),
        ({"uuid": IDS, "grade": [-np.inf] + [0.5] * 11}, Join(), r"'grade' is NaN, infinite or beyond .*: row 0"),
        ({"uuid": IDS, "grade": ["good"] * 12}, Join(), "'grade' is String in grades.parquet, and numbers are needed"),
        ({"uuid": IDS, "note": [1] * 12}, Join(), "no column 'grade'"),
        ({"name": IDS, "grade": [0.5] * 12}, Join(), "which row is which: .* write fingerprint: abc"),
        ({"name": IDS, "grade": [0.5] * 12}, Join(fingerprint="abd"), "made for other data: .* abc now.*says abd"),
        ({"name": IDS[1:], "grade": [0.5] * 11}, Join(fingerprint="abc"), "has 11 rows, and prompts.parquet has 12"),
        ({"uuid": IDS, "grade": [0.5] * 12}, Join(fingerprint="abc"), "fingerprint: rows are matched by 'uuid'"),
        ({"uuid": [0.5] * 12, "grade": [0.5] * 12}, Join(), "'uuid' of grades.parquet holds Float64; keys are texts"),
        ({"other": IDS, "grade": [0.5] * 12}, Join(key="other"), r"no row of key 'other' \('u0!'"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_named(table: Any, join: Join, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        numbers_for(written(tmp_path, table), data_rows(), join, "grade")


def test_rows_beyond_the_data_may_be_dropped_and_ids_may_be_numbers_or_texts(tmp_path: Path) -> None:
    ids = list(range(12))
    file = written(tmp_path, {"uuid": [*reversed(ids), 99], "grade": [*reversed(ids), 5]}, "csv")
    for kind in (pl.Int64, pl.String):
        rows = data_rows(pl.Series("uuid", ids).cast(kind).to_list())
        assert numbers_for(file, rows, Join(drop=True), "grade").tolist() == ids
    own = written(tmp_path, {"key": [f"{name}" for name in IDS], "grade": ids})
    assert numbers_for(own, data_rows(), Join(key="key"), "grade").tolist() == ids  # by columns.id, of another name


def test_tables_of_content_hashes_are_joined_and_contradictions_refused(tmp_path: Path) -> None:
    hashes = [f"{place:032x}" for place in range(10)]
    file = written(tmp_path, {"content_hash": [*reversed(hashes), hashes[3]], "grade": [*range(9, -1, -1), 3]})
    assert numbers_for(file, data_rows(), Join(), "grade").tolist() == [*range(10), 0, 1]
    file = written(tmp_path, {"content_hash": [*reversed(hashes), hashes[3]], "grade": [*range(9, -1, -1), 4]})
    with pytest.raises(SourceError, match=r"earlier row with another value in 1 of 11 rows of grades\.parquet: row 10"):
        numbers_for(file, data_rows(), Join(), "grade")


def test_rows_by_row_are_those_of_the_file_that_policies_left(tmp_path: Path) -> None:
    np.save(tmp_path / "grades.npy", np.arange(20) / 2)
    file = NumbersFile(tmp_path / "grades.npy", "scores.judge")
    rows = data_rows(IDS[:3], [4, 7, 19], 20)
    assert numbers_for(file, rows, Join(fingerprint="abc"), None).tolist() == [2.0, 3.5, 9.5]
    with pytest.raises(SourceError, match="leave column and key out"):
        numbers_for(file, rows, Join(fingerprint="abc"), "grade")
    np.save(tmp_path / "grades.npy", np.zeros((20, 2)))
    with pytest.raises(SourceError, match=r"holds float64 \[20, 2\], and one number per row is needed"):
        numbers_for(file, rows, Join(fingerprint="abc"), None)


def test_vectors_are_joined_like_numbers_and_an_unchanged_array_of_changed_data_is_refused(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    order = np.random.default_rng(1).permutation(12)
    file = written(tmp_path, {"uuid": [IDS[place] for place in order], "vector": vectors[order].tolist()})
    np.testing.assert_array_equal(vectors_for(file, data_rows(), Join(), "vector"), vectors)
    np.save(tmp_path / "vectors.npy", vectors)
    array = NumbersFile(tmp_path / "vectors.npy", "embeddings")
    for noted in ("", "abc"):
        np.testing.assert_array_equal(vectors_for(array, data_rows(), Join(noted=noted), None), vectors)
    assert isinstance(vectors_for(array, data_rows(), Join(noted=""), None), np.memmap)
    vectors[[3, 7], 1] = np.nan, np.inf
    assert not_finite(vectors).tolist() == [3, 7]
    with pytest.raises(SourceError, match=r"prompts\.parquet has changed since vectors\.npy was read"):
        vectors_for(array, data_rows(), Join(noted="before"), None)
    ragged = written(tmp_path, {"uuid": IDS, "vector": [[1.0]] * 11 + [[1.0, 2.0]]})
    with pytest.raises(SourceError, match="one length in every row; row 11 has 2 numbers, others 1"):
        vectors_for(ragged, data_rows(), Join(), "vector")
    gap = written(tmp_path, {"uuid": IDS, "vector": [None, *[[1.0]] * 11]})
    with pytest.raises(SourceError, match="one length in every row; row 0 has none"):
        vectors_for(gap, data_rows(), Join(), "vector")


def test_a_broken_file_is_named_with_its_key(tmp_path: Path) -> None:
    whole = written(tmp_path, {"uuid": IDS, "grade": range(12)})
    whole.path.write_bytes(whole.path.read_bytes()[:-9])
    with pytest.raises(SourceError, match=rf"^{whole.what}\.file: .*{whole.path.name} is not a readable Parquet file"):
        numbers_for(whole, data_rows(), Join(), "grade")
