"""Targets of every kind from every kind of file: read, refused with column and row, hashed, drawn and stored."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from sample_tables import content_hashes

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.scan import ROW
from secateur.pipelines.data.sources import Loaded, Source, SourceError, load
from secateur.pipelines.data.stored_targets import as_columns, shown_targets, strata_in, targets_in
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.multi_label import MultiLabel
from secateur.trainers.tasks.regression import Regression

NUMBER = {"features": ["x"], "target": "numbers"}
SEED = 2
"""For draws that leave each label on both sides."""
LABELS = {"features": ["x"], "target": "labels"}


def read(
    folder: Path,
    table: dict[str, Any],
    columns: dict[str, Any],
    kind: str = "parquet",
    policy: DataPolicy | None = None,
    **source: Any,
) -> Loaded:
    """A table as a file of a kind, a fifth of it held out, loaded like a study's."""
    frame, path = pl.DataFrame(table), folder / f"rows.{kind}"
    {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[kind](path)
    where = {"kind": kind, "train": path.name, "test_fraction": 0.2} | source
    return load(TypeAdapter(Source).validate_python(where), Columns(**columns), folder, folder / "cache", policy)


def everything(loaded: Loaded) -> dict[float, list[Any]]:
    """Targets of both splits by `x`."""
    xs = [*loaded.train["x"], *loaded.test["x"]]
    return dict(zip(xs, np.concatenate([loaded.targets, loaded.test_targets]).tolist(), strict=True))


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_numbers_of_one_and_of_several_columns(kind: str, tmp_path: Path) -> None:
    table = {"x": [*range(20)], "hours": [*range(20, 40)], "pay": [row / 3 for row in range(20)]}
    one = read(tmp_path, table, NUMBER | {"label": "hours"}, kind)
    assert everything(one) == {row: [20.0 + row] for row in range(20)}
    assert (one.targets.dtype, one.targets.shape[1], one.label_names) == (np.float64, 1, ("hours",))
    both = read(tmp_path, table, NUMBER | {"label": ["pay", "hours"]}, kind)
    assert everything(both) == {row: [row / 3, 20.0 + row] for row in range(20)}
    assert both.label_names == ("pay", "hours")


def test_numbers_of_a_column_of_lists(tmp_path: Path) -> None:
    table = {"x": [*range(10)], "box": [[float(row), row / 2] for row in range(10)]}
    loaded = read(tmp_path, table, NUMBER | {"label": "box"})
    assert everything(loaded) == {row: [float(row), row / 2] for row in range(10)}
    assert loaded.label_names == ("box[0]", "box[1]")


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_sets_of_names_and_of_numbers(kind: str, tmp_path: Path) -> None:
    names = [["b", "a"], [], ["c"], ["a", "a"], ["b"]] * 4
    loaded = read(
        tmp_path,
        {"x": [*range(20)], "tags": names},
        LABELS | {"label": "tags"},
        kind,
        test_fraction=0.5,
        split_seed=SEED,
    )
    assert loaded.label_names == ("a", "b", "c")
    assert everything(loaded) == {row: [name in names[row] for name in "abc"] for row in range(20)}
    numbers = [[2, 0], [], [1], [3], [0]] * 4
    loaded = read(
        tmp_path,
        {"x": [*range(20)], "tags": numbers},
        LABELS | {"label": "tags"},
        kind,
        test_fraction=0.5,
        split_seed=SEED,
    )
    assert loaded.label_names == ("0", "1", "2", "3")
    assert everything(loaded) == {row: [label in numbers[row] for label in range(4)] for row in range(20)}


def test_sets_of_columns_of_0_and_1(tmp_path: Path) -> None:
    table = {"x": [*range(20)], "red": [0, 1] * 10, "round": [True, True, False, False] * 5}
    loaded = read(tmp_path, table, LABELS | {"label": ["red", "round"]})
    assert everything(loaded) == {row: [row % 2 == 1, row % 4 < 2] for row in range(20)}
    assert loaded.label_names == ("red", "round")


@pytest.mark.parametrize(
    ("table", "columns", "said"),
    [
        ({"y": [1.0, None, 2.0]}, NUMBER, r"label column 'y' is null at row 1 of rows\.parquet: correct or remove"),
        ({"y": [1.0, float("nan"), 2.0]}, NUMBER, "null at row 1"),
        ({"y": [1.0, float("inf"), 2.0]}, NUMBER, "'y' is NaN or infinite at row 1"),
        (
            {"y": ["a", "b", "c"]},
            NUMBER,
            r"'y' is '.' at row \d of rows\.parquet, and regression needs numbers: correct it, or write task: class",
        ),
        ({"y": [[1.0], [1.0, 2.0], [1.0]]}, NUMBER, "a list of 1 numbers in the first row and of 2 at row 1"),
        ({"y": [["a"], None, ["b"]]}, LABELS, r"'y' is null at row 1 of rows\.parquet: correct or remove"),
        ({"y": ["a;b", "a", "b"]}, LABELS, "'y' holds texts, and multi_label needs a column of lists"),
        ({"y": [[-1], [0], [1]]}, LABELS, "'y' holds -1: number labels from 0"),
        ({"y": [[0.5], [0.1], [1.0]]}, LABELS, "lists of neither names nor whole numbers"),
    ],
)
def test_targets_that_cannot_be_one_name_column_and_row(
    table: dict[str, Any], columns: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=said):
        read(
            tmp_path,
            {"x": [1, 2, 3]} | table,
            columns | {"label": "y"},
            test_fraction=None,
            split={"column": "x", "after": 3},
        )


def test_a_label_that_no_list_of_names_has(tmp_path: Path) -> None:
    table = {"x": [*range(10)], "y": [["a"], ["b"]] * 5}
    with pytest.raises(
        SourceError,
        match=r"'y' holds 'b' at rows? \d.* of rows\.parquet, which is none of the labels \(a\).*label_names",
    ):
        read(tmp_path, table, LABELS | {"label": "y"}, label_names=["a"])
    split = {"column": "x", "after": 3}
    table = {"x": [1, 2, 3], "y": [0, 2, 1], "z": [0, 1, 1]}
    with pytest.raises(
        SourceError, match=r"holds 2 at row 1 of rows\.parquet; of several label columns each is 0 or 1"
    ):
        read(tmp_path, table, LABELS | {"label": ["y", "z"]}, test_fraction=None, split=split)


def test_rows_without_a_label_are_left_out_where_the_study_says_so(tmp_path: Path) -> None:
    table = {"x": [*range(20)], "y": [None, float("nan"), *map(float, range(18))]}
    loaded = read(tmp_path, table, NUMBER | {"label": "y"}, policy=DataPolicy(unlabelled="drop"))
    assert sorted(everything(loaded)) == [*range(2, 20)]
    lost = [
        row
        for left in loaded.dropped
        for row in loaded.scanned[left.split].column(ROW).gather(left.found.rows).to_list()
    ]
    assert sorted(lost) == [0, 1]
    table = {"x": [*range(20)], "y": pl.Series([None] * 20, dtype=pl.Float64)}
    with pytest.raises(
        SourceError, match=r"no row is left, of \d+ \(label column 'y' is null; data: .*unlabelled: drop"
    ):
        read(tmp_path, table, NUMBER | {"label": "y"}, policy=DataPolicy(unlabelled="drop"))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=12))
def test_sets_come_back_from_the_table_of_samples(sets: list[set[int]]) -> None:
    targets = np.array([[label in one for label in range(5)] for one in sets])
    strata = np.arange(len(sets))
    table = pl.DataFrame(as_columns(targets, strata))
    names = [f"label {label}" for label in range(5)]
    np.testing.assert_array_equal(targets_in(table, names), targets)
    np.testing.assert_array_equal(strata_in(table), strata)
    state = MultiLabel(5, names, counts=targets.sum(axis=0).tolist()).state()
    assert shown_targets(table, state) == [", ".join(names[i] for i in sorted(one)) or "no label" for one in sets]


def test_numbers_and_classes_come_back_from_the_table_of_samples() -> None:
    for width in (1, 3):
        targets = np.random.default_rng(0).normal(size=(7, width))
        table = pl.DataFrame(as_columns(targets, np.zeros(7, np.int64)))
        np.testing.assert_array_equal(targets_in(table, ()), targets)
        task = Regression(units=["g"] * width).fitted(targets)
        assert shown_targets(table, task.state())[3] == ", ".join(f"{number:.6g} g" for number in targets[3])
    labels = np.array([2, 0, 1])
    table = pl.DataFrame(as_columns(labels, labels))
    assert table.columns == ["label"]
    np.testing.assert_array_equal(targets_in(table, "abc"), labels)
    assert shown_targets(table, Classification(3, "abc").state()) == ["c", "a", "b"]


def test_hashes_are_of_the_typed_target_alike_in_every_format(tmp_path: Path) -> None:
    table = {"x": [1.5, 2.5, 3.5, 4.5, 1.5], "y": [0, 1, 0, 1, 1], "tags": [["b", "a"], ["a", "b"], [], ["a"], ["c"]]}
    hashes = {}
    for kind in ("parquet", "jsonl"):
        for columns in (
            NUMBER | {"label": "y"},
            LABELS | {"label": "tags"},
            NUMBER | {"label": "y", "target": "class"},
        ):
            loaded = read(tmp_path, table, columns, kind, test_fraction=None, split={"column": "x", "after": 3})
            rows = dict(zip(loaded.train["x"], content_hashes(loaded.train, Columns(**columns)), strict=True))
            hashes[kind, columns["target"]] = rows
    for target in ("numbers", "labels", "class"):
        both = hashes["parquet", target].keys() & hashes["jsonl", target].keys()
        assert both
        assert all(hashes["parquet", target][x] == hashes["jsonl", target][x] for x in both)


def test_the_hash_follows_the_set_and_not_its_order() -> None:
    import datasets

    columns = Columns(features=["x"], label="y", target="labels")
    rows = {"x": [1, 1, 1, 1], "y": [["a", "b"], ["b", "a", "b"], ["ab"], []]}
    first, second, joined, empty = content_hashes(datasets.Dataset.from_dict(rows), columns)
    assert first == second
    assert len({first, joined, empty}) == 3
    numbers = Columns(features=["x"], label="y", target="numbers")
    floats = datasets.Dataset.from_dict({"x": [1, 1, 1], "y": [0.0, -0.0, 1.0]})
    zero, minus, one = content_hashes(floats, numbers)
    assert zero == minus != one
    whole = datasets.Dataset.from_dict({"x": [1], "y": [1]})
    assert content_hashes(whole, numbers)[0] == one != content_hashes(whole, Columns(features=["x"], label="y"))[0]


def test_limit_keeps_the_quantiles_of_a_number(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).lognormal(sigma=2, size=2000)
    loaded = read(tmp_path, {"x": np.arange(2000), "y": numbers}, NUMBER | {"label": "y"}, limit=400)
    whole = read(tmp_path, {"x": np.arange(2000), "y": numbers}, NUMBER | {"label": "y"}).targets[:, 0]
    edges = np.quantile(whole, np.arange(1, 10) / 10)
    counts = np.bincount(np.searchsorted(edges, loaded.targets[:, 0]), minlength=10)
    assert counts.sum() == 400
    assert np.abs(counts - 40).max() <= 2


def test_limit_keeps_the_share_of_rare_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    has = rng.random((1000, 6)) < [0.5, 0.3, 0.1, 0.05, 0.02, 0.01]
    table = {"x": np.arange(1000), "y": [np.flatnonzero(row).tolist() for row in has]}
    whole = read(tmp_path, table, LABELS | {"label": "y"}, split_seed=SEED).targets
    loaded = read(tmp_path, table, LABELS | {"label": "y"}, limit=200, split_seed=SEED)
    assert loaded.targets.shape == (200, 6)
    assert np.abs(loaded.targets.sum(axis=0) - 200 / len(whole) * whole.sum(axis=0)).max() <= 2


def test_columns_of_several_labels() -> None:
    assert Columns(text="t", label=["a", "b"]).labels == ("a", "b")
    for columns, said in (
        ({"label": []}, "label names no column"),
        ({"label": ["a", "a"]}, "label names 'a' twice"),
        ({"label": ["a", "t"]}, "'t' is the label"),
        ({"label": ["a", "b"], "target": "class"}, "names 2 columns, and classification reads one"),
    ):
        with pytest.raises(ValidationError, match=said):
            Columns(text="t", **columns)  # type: ignore[arg-type]


def test_lists_as_classes_are_told_the_tasks_of_lists(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="write task: multi_label for sets of labels"):
        read(tmp_path, {"x": [*range(3)], "tags": [["a"], ["b"], []]}, {"features": ["x"], "label": "tags"}, "parquet")
