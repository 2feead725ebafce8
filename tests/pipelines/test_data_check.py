"""Findings equal those of a brute-force search and name the faults planted in a data set."""

import io
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from secateur.pipelines.data.check import DataReport, check_data, report_of
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.equal_groups import Groups
from secateur.pipelines.data.own_samples import own_findings, own_groups
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.source_kinds.parquet import Parquet
from secateur.pipelines.data.sources import load

DATA = Path(os.environ.get("SECATEUR_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
TEXT = Columns(text="text", label="label")
Rows = list[tuple[str | None, int]]


def texts(rows: Rows) -> pl.DataFrame:
    return pl.DataFrame(rows, {"text": pl.String, "label": pl.Int64}, orient="row")


def check(
    folder: Path, train: pl.DataFrame, test: pl.DataFrame, columns: Columns, classes: int, **policy: Any
) -> DataReport:
    train.write_parquet(folder / "train.parquet")
    test.write_parquet(folder / "test.parquet")
    names = [str(number) for number in range(classes)]
    source = Parquet(kind="parquet", train=["train.parquet"], test=["test.parquet"], label_names=names)
    return check_data(load(source, columns, folder, folder / "cache", DataPolicy(**policy)))


SPLIT = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", "", " ", None]), st.integers(0, 2)), min_size=1)


@settings(max_examples=20, deadline=None)
@given(SPLIT, SPLIT, st.sampled_from([1, 3, 1 << 18]))
def test_findings_equal_brute_force(
    tmp_path_factory: pytest.TempPathFactory, train: Rows, test: Rows, buffer: int
) -> None:
    train, test = [*train, ("x", 0)], [*test, ("y", 1)]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PART", "SEVERAL", "BLOCK"):
            patch.setattr(f"secateur.pipelines.data.repeats.{name}", buffer)
        report = check(tmp_path_factory.mktemp("check"), texts(train), texts(test), TEXT, 3, bad_rows="drop")
    kept = {}
    for part, rows in ((report.train, train), (report.test, test)):
        usable = [(place, text, label) for place, (text, label) in enumerate(rows) if text is not None and text.strip()]
        kept[part.split] = [(text, label) for _, text, label in usable]
        lost = {place for left in report.dropped if left.split == part.split for place in left.found.rows.tolist()}
        assert lost == set(range(len(rows))) - {place for place, *_ in usable}
        same, alike = defaultdict(list), defaultdict(list)
        for number, (text, label) in enumerate(kept[part.split]):
            same[text, label].append(number)
            alike[text].append((number, label))
        several = [group for group in same.values() if len(group) > 1]
        assert part.duplicates.rows.tolist() == sorted(row for group in several for row in group)
        assert (part.duplicate_groups, part.duplicate_rows) == (len(several), sum(len(group) - 1 for group in several))
        torn = [group for group in alike.values() if len({label for _, label in group}) > 1]
        assert part.conflicts.rows.tolist() == sorted(number for group in torn for number, _ in group)
        assert part.class_counts == tuple(sum(label == c for _, label in kept[part.split]) for c in range(3))
    shared = {text for text, _ in kept["train"]} & {text for text, _ in kept["test"]}
    assert groups_in(report) == groups_by_hand(kept, shared)
    for part in (report.train, report.test):
        common = [i for i, (text, _) in enumerate(kept[part.split]) if text in shared]
        assert (part.shared.rows.tolist(), part.shared.count) == (common, len(common))
    assert report.relabelled_test_rows == sum(row[0] in shared and row not in kept["train"] for row in kept["test"])


Grouping = dict[tuple[str, str], list[list[tuple[str, int]]]]
"""Rows of each group as pairs of split and number, by kind and split of the finding."""


def groups_in(report: DataReport) -> Grouping:
    table, found = report.groups(), Grouping()
    for (kind, side, number, size), rows in table.group_by("kind", "side", "group", "size", maintain_order=True):
        assert size == len(rows)
        groups = found.setdefault((str(kind), str(side)), [])
        assert number == len(groups) + 1
        groups.append(rows.select("split", "row").rows())
    return found


def groups_by_hand(kept: dict[str, Rows], shared: set[str | None]) -> Grouping:
    found = Grouping()
    for split, rows in kept.items():
        same, alike = defaultdict(list), defaultdict(list)
        for number, row in enumerate(rows):
            same[row].append((split, number))
            alike[row[0]].append((split, number))
        torn = {text for text in alike if len({label for other, label in rows if other == text}) > 1}
        for kind, groups in (
            ("duplicates", [group for group in same.values() if len(group) > 1]),
            ("conflicts", [group for text, group in alike.items() if text in torn]),
        ):
            if groups:
                found[kind, split] = groups
    if shared:  # ordered by the first test row: the test split comes first
        order = dict.fromkeys(text for text, _ in kept["test"] if text in shared)
        both = [(split, number, text) for split in ("test", "train") for number, (text, _) in enumerate(kept[split])]
        found["leaked", "test"] = [[(split, number) for split, number, t in both if t == text] for text in order]
    return found


@pytest.mark.parametrize("most", [1, 7, 40])
def test_of_many_groups_the_first_are_listed_and_all_are_counted(most: int) -> None:
    rng, equal = np.random.default_rng(most), pl.DataFrame({"row": np.arange(300), "hash": np.arange(300) % 120})
    split = pl.lit(0, pl.Int8)
    whole = equal.with_columns(split=split, first=pl.min("row").over("hash"), count=pl.len().over("hash"))
    found = Groups(most)
    for rows in np.array_split(rng.permutation(300), 11):
        found.add(whole[rows.tolist()], 0, "first", "count")
    assert found.count == 120
    expected = whole.sort("first", "row").head(most)
    assert found.rows.rows() == expected.select("first", "count", "split", "row").rows()


def test_samples_of_a_task_of_ones_own_are_grouped_alike() -> None:
    hashes = {"train": ["a", "b", "a", "c", "d"], "test": ["x", "c", "c", "a", "x", "x"]}
    tables = {s: pl.DataFrame({"row": np.arange(len(of)), "content_hash": of}) for s, of in hashes.items()}
    found = {(finding.kind, finding.split): finding.group_count for finding in own_findings(tables)}
    assert found == {("leaked", "test"): 2, ("duplicates", "train"): 1, ("duplicates", "test"): 2}
    listed: dict[tuple[str, str], list[list[tuple[str, int]]]] = {}
    for (kind, side, _), rows in own_groups(tables).group_by("kind", "side", "group", maintain_order=True):
        listed.setdefault((str(kind), str(side)), []).append(rows.select("split", "row").rows())
    leaks = [[("test", 1), ("test", 2), ("train", 3)], [("test", 3), ("train", 0), ("train", 2)]]
    assert listed == {
        ("leaked", "test"): leaks,
        ("duplicates", "train"): [[("train", 0), ("train", 2)]],
        ("duplicates", "test"): [[("test", 0), ("test", 4), ("test", 5)], [("test", 1), ("test", 2)]],
    }


def test_a_sound_data_set_has_no_problems(tmp_path: Path) -> None:
    train, test = [("a", 0), ("b", 0), ("c", 1), ("d", 1)], [("e", 0), ("f", 0), ("g", 1), ("h", 1)]
    report = check(tmp_path, texts(train), texts(test), TEXT, 2)
    assert report.problems() == []
    assert {name for name, count in report.counts().items() if count} == {"train_samples", "test_samples"}
    assert report_of(report)["dropped"] == []


def test_what_is_planted_is_said_in_sentences(tmp_path: Path) -> None:
    train = [("a", 0), ("a", 0), ("b", 0), ("b", 1), ("a", 0), ("", 1), (None, 1), ("z", 3)]
    test = [("q", 0), ("a", 0), ("b", 2), ("r", 1), ("s", 0), ("t", 1)]
    report = check(tmp_path, texts(train), texts(test), TEXT, 4, bad_rows="drop")
    assert report.problems() == [
        "2 test rows of 6 also in train, 1 with another label: results on test are too good (rows 1, 2 of test.parquet)"
        "; data: {leaked: drop_from_training} leaves them out of training",
        "1 group of equal train rows, 2 more than needed (rows 0, 1, 4 of train.parquet)",
        "2 train rows with an input that another row labels differently (rows 2, 3 of train.parquet)",
        "2 train rows left out by data.bad_rows (text is empty) (rows 5, 6 of train.parquet)",
        "1 class absent from train: 2",
        "1 class absent from test: 3",
        "2 classes with one train sample: 1, 3",
        "1 class with one test sample: 2",
    ]
    counts = report.counts()
    assert counts["train_duplicate_rows"] == 2
    assert counts["train_conflicting_rows"] == 2
    assert counts["train_dropped"] == 2
    assert counts["train_classes_below_two"] == 3
    assert counts["shared_train_rows"] == 5
    assert counts["shared_test_rows"] == 2
    assert counts["relabelled_test_rows"] == 1
    assert report_of(report)["dropped"] == [
        {
            "split": "train",
            "policy": "bad_rows",
            "count": 2,
            "rows": [["train.parquet", 5, "text is empty"], ["train.parquet", 6, "text is missing"]],
        }
    ]


def test_a_finding_counts_all_rows_and_lists_the_first(tmp_path: Path) -> None:
    train = [("same", 0)] * 250 + [(f"{row}", row % 2) for row in range(50)]
    report = check(tmp_path, texts(train), texts([("p", 0), ("q", 0), ("r", 1), ("s", 1)]), TEXT, 2, duplicates="drop")
    (left,) = report.findings()
    assert (left.count, [row for _, row in left.rows]) == (249, [*range(1, 101)])
    assert left.text.endswith("(rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 (249 in all) of train.parquet)")
    (dropped,) = report_of(report)["dropped"]
    assert (dropped["count"], len(dropped["rows"])) == (249, 249)


def test_equal_inputs_of_different_groups_are_told(tmp_path: Path) -> None:
    rows = [("a", 0, "u1"), ("b", 1, "u1"), ("a", 0, "u2"), ("c", 1, "u3"), ("c", 1, "u3"), ("d", 0, None)]
    train = pl.DataFrame(rows, {"text": pl.String, "label": pl.Int64, "user": pl.String}, orient="row")
    test = pl.DataFrame({"text": ["b", "q"], "label": [1, 0], "user": ["u9", "u9"]})
    report = check(tmp_path, train, test, Columns(text="text", label="label", group="user"), 2)
    assert [finding.text for finding in report.findings() if finding.kind == "groups"] == [
        "3 train rows with an input that a row of another group has (rows 0, 1, 2 of train.parquet)",
        "1 test row with an input that a row of another group has (row 0 of test.parquet)",
    ]


def test_undecodable_images_are_left_out_and_named(tmp_path: Path) -> None:
    def cell(seed: int, how: str = "PNG") -> dict[str, Any]:
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 4), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format=how)
        return {"bytes": buffer.getvalue(), "path": None}

    def pictures(cells: list[Any]) -> pl.DataFrame:
        kind = pl.Struct({"bytes": pl.Binary, "path": pl.String})
        return pl.DataFrame({"image": pl.Series(cells, dtype=kind), "label": [i % 2 for i in range(len(cells))]})

    train = pictures([cell(0), cell(1), cell(2), {"bytes": b"junk", "path": "cat/3.png"}, cell(4), cell(7)])
    # The same pixels in another encoding are the same sample.
    test = pictures([cell(4, "BMP"), cell(5), None, cell(6), cell(8), cell(9)])
    report = check(tmp_path, train, test, Columns(image="image", label="label"), 2, bad_rows="drop")
    assert report.problems() == [
        "1 test row of 5 also in train: results on test are too good (row 0 of test.parquet)"
        "; data: {leaked: drop_from_training} leaves them out of training",
        "1 train row left out by data.bad_rows (image 'cat/3.png' cannot be decoded) (row 3 of train.parquet)",
        "1 test row left out by data.bad_rows (image is missing) (row 2 of test.parquet)",
    ]


def test_features_are_empty_where_every_value_is_missing(tmp_path: Path) -> None:
    rows = pl.DataFrame({"a": [1.0, None, np.nan, None], "b": ["x", None, None, "y"], "label": [0, 0, 1, 1]})
    report = check(tmp_path, rows, rows, Columns(features=["a", "b"], label="label"), 2, bad_rows="drop")
    assert [left.found.rows.tolist() for left in report.dropped] == [[1, 2], [1, 2]]
    assert report.dropped[0].reasons == ["every feature is missing"] * 2
    assert report.test.shared.rows.tolist() == [0, 1]


def test_banking77_shares_sentences_between_train_and_test(tmp_path: Path) -> None:
    if not (DATA / "banking77").is_dir():
        pytest.skip(f"no {DATA}/banking77: set SECATEUR_DATA to the folder of real data")
    train, test = (pl.read_parquet(DATA / "banking77" / f"{split}.parquet") for split in ("train", "test"))
    report = check(tmp_path, train, test, TEXT, 77)
    known = set(train["text"])
    assert report.test.shared.rows.tolist() == [i for i, text in enumerate(test["text"]) if text in known]
    assert report.train.duplicate_rows == len(train) - train.n_unique(["text", "label"])
