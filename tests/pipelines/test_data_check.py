"""Findings equal those of a brute-force search, and what is planted in a data set is found and named."""

import io
import os
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_tables import samples_table

from secateur.pipelines.data.check import DataReport, check_data
from secateur.pipelines.data.columns import Columns

DATA = Path(os.environ.get("SECATEUR_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
TEXT = Columns(text="text", label="label")
Rows = list[tuple[str | None, int]]


def texts(rows: Rows) -> datasets.Dataset:
    return datasets.Dataset(
        pa.table({"text": pa.array([text for text, _ in rows], pa.string()), "label": [label for _, label in rows]})
    )


def check(train: datasets.Dataset, test: datasets.Dataset, columns: Columns, classes: int) -> DataReport:
    samples = (inspect_samples(rows, columns) for rows in (train, test))
    return check_data(train, test, columns, *samples, [f"class {i}" for i in range(classes)])


SPLIT = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", "", " ", None]), st.integers(0, 2)), min_size=1)


@settings(max_examples=60, deadline=None)
@given(SPLIT, SPLIT)
def test_findings_equal_brute_force(train: Rows, test: Rows) -> None:
    report = check(texts(train), texts(test), TEXT, 3)
    for part, rows in ((report.train, train), (report.test, test)):
        usable = [(i, text, label) for i, (text, label) in enumerate(rows) if text is not None and text.strip()]
        assert [row for row, _ in part.faults] == [i for i, (text, _) in enumerate(rows) if not (text or "").strip()]
        same, alike = defaultdict(list), defaultdict(list)
        for i, text, label in usable:
            same[text, label].append(i)
            alike[text].append((i, label))
        assert set(part.duplicates) == {tuple(group) for group in same.values() if len(group) > 1}
        assert set(part.conflicts) == {
            tuple(i for i, _ in group) for group in alike.values() if len({label for _, label in group}) > 1
        }
        assert part.class_counts == tuple(sum(label == c for _, label in rows) for c in range(3))
        assert all(a < b for a, b in pairwise(part.duplicates))
    words = [{text for text, _ in rows if text and text.strip()} for rows in (train, test)]
    shared = words[0] & words[1]
    assert report.shared_train_rows == tuple(i for i, (text, _) in enumerate(train) if text in shared)
    assert report.shared_test_rows == tuple(i for i, (text, _) in enumerate(test) if text in shared)
    assert report.relabelled_test_rows == tuple(
        i for i, row in enumerate(test) if row[0] in shared and row not in train
    )


def test_a_sound_data_set_has_no_problems() -> None:
    report = check(
        texts([("a", 0), ("b", 0), ("c", 1), ("d", 1)]), texts([("e", 0), ("f", 0), ("g", 1), ("h", 1)]), TEXT, 2
    )
    assert report.problems() == []
    assert not report.unusable
    assert {name for name, count in report.counts().items() if count} == {"train_samples", "test_samples"}


def test_what_is_planted_is_said_in_sentences() -> None:
    train = [("a", 0), ("a", 0), ("b", 0), ("b", 1), ("a", 0), ("", 1), (None, 1), ("z", 3)]
    test = [("q", 0), ("a", 0), ("b", 2), ("r", 1), ("s", 0), ("t", 1)]
    report = check(texts(train), texts(test), TEXT, 4)
    assert report.problems() == [
        "2 train samples empty or undecodable (row 5: text is empty; row 6: text is missing)",
        "1 group of equal train samples, 2 more than needed (rows 0, 1, 4)",
        "1 group of equal train inputs with different labels, 2 samples (rows 2, 3)",
        "1 class absent from train: class 2",
        "1 class with one train sample: class 3",
        "1 class absent from test: class 3",
        "1 class with one test sample: class 2",
        "2 test samples also in train (rows 1, 2 of test; 1 with another label): results on test are too good",
    ]
    assert not report.unusable
    counts = report.counts()
    assert counts["train_duplicate_rows"] == 2
    assert counts["train_conflicting_rows"] == 2
    assert counts["train_faults"] == 2
    assert counts["train_classes_below_two"] == 2
    assert counts["shared_train_rows"] == 5
    assert counts["shared_test_rows"] == 2
    assert counts["relabelled_test_rows"] == 1


def test_undecodable_images_are_named_and_make_the_data_unusable() -> None:
    def cell(seed: int, how: str = "PNG") -> dict[str, Any]:
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 4), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format=how)
        return {"bytes": buffer.getvalue(), "path": None}

    def pictures(cells: list[Any]) -> datasets.Dataset:
        features = datasets.Features(image=datasets.Image(decode=False), label=datasets.Value("int64"))
        labels = [i % 2 for i in range(len(cells))]
        return datasets.Dataset.from_dict({"image": cells, "label": labels}, features=features)

    train = pictures([cell(0), cell(1), cell(2), {"bytes": b"junk", "path": "cat/3.png"}, cell(4)])
    # The same pixels in another encoding are the same sample.
    test = pictures([cell(4, "BMP"), cell(5), None, cell(6)])
    report = check(train, test, Columns(image="image", label="label"), 2)
    assert report.unusable
    assert report.problems() == [
        "1 train sample empty or undecodable (row 3: image 'cat/3.png' cannot be decoded)",
        "1 test sample empty or undecodable (row 2: image is missing)",
        "1 test sample also in train (row 0 of test): results on test are too good",
    ]


def test_features_are_empty_where_every_value_is_missing() -> None:
    rows = datasets.Dataset(
        pa.table({"a": [1.0, None, np.nan, None], "b": ["x", None, None, "y"], "label": [0, 0, 1, 1]})
    )
    report = check(rows, rows, Columns(features=["a", "b"], label="label"), 2)
    assert report.train.faults == ((1, "every feature is missing"), (2, "every feature is missing"))
    assert report.shared_test_rows == (0, 3)


def test_a_plain_samples_table_is_inspected_anew() -> None:
    train, test = texts([("a", 0), ("a", 1)]), texts([("", 0), ("c", 1)])
    plain = [samples_table(rows, TEXT) for rows in (train, test)]
    assert check_data(train, test, TEXT, *plain, ["class 0", "class 1"]) == check(train, test, TEXT, 2)


def test_samples_of_other_data_are_refused() -> None:
    rows = texts([("a", 0), ("b", 1)])
    other = pl.concat([inspect_samples(rows, TEXT)] * 2)
    with pytest.raises(ValueError, match="train: 4 samples were made of other data, which has 2 rows"):
        check_data(rows, rows, TEXT, other, other, ["x", "y"])


def test_banking77_shares_sentences_between_train_and_test() -> None:
    if not (DATA / "banking77").is_dir():
        pytest.skip(f"no {DATA}/banking77: set SECATEUR_DATA to the folder of real data")
    train, test = (pl.read_parquet(DATA / "banking77" / f"{split}.parquet") for split in ("train", "test"))
    report = check(datasets.Dataset(train.to_arrow()), datasets.Dataset(test.to_arrow()), TEXT, 77)
    known = set(train["text"])
    assert report.shared_test_rows == tuple(i for i, text in enumerate(test["text"]) if text in known)
    assert report.train.duplicate_rows == len(train) - train.n_unique(["text", "label"])
