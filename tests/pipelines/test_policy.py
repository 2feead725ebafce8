"""The four policies for rows that cannot or should not be used: alike for tables, texts, pictures, sets of labels."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from secateur.pipelines.data.check import check_data, report_of
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.scan import ROW
from secateur.pipelines.data.sources import Columns, Loaded, Places, Source, SourceError, load


def picture(seed: int) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4), dtype=np.uint8)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


# Sound inputs, one bad input, and the reason.
INPUTS: dict[str, tuple[dict[str, Any], list[Any], Any, str]] = {
    "features": ({"features": ["x"]}, [1.5, 2.5, 3.5, 4.5, 5.5], None, "every feature is missing"),
    "text": ({"text": "x"}, ["a", "b", "c", "d", "e"], "  ", "text is empty"),
    "image": (
        {"image": "x"},
        [picture(seed) for seed in range(5)],
        {"bytes": b"junk", "path": "a.png"},
        "image 'a.png' cannot be decoded",
    ),
}
LABELS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "class": ({"label": "y"}, ["no", "yes"]),
    "numbers": ({"label": "y", "target": "numbers"}, [0.5, 1.5]),
    "labels": ({"label": "y", "target": "labels"}, [["b", "a"], []]),
}


def read(
    folder: Path, columns: Columns, rows: list[tuple[Any, Any]], test: list[tuple[Any, Any]], **data: Any
) -> Loaded:
    for split, part in (("train", rows), ("test", test)):
        whole = pl.DataFrame({"x": [x for x, _ in part], "y": [y for _, y in part]}, strict=False)
        whole.write_parquet(folder / f"{split}.parquet")
    where = {"kind": "parquet", "train": "train.parquet", "test": "test.parquet"}
    return load(TypeAdapter(Source).validate_python(where), columns, folder, folder / "cache", DataPolicy(**data))


def kept(loaded: Loaded, split: str = "train") -> list[int]:
    return loaded.rows[split].column(ROW).to_list()


@pytest.mark.parametrize("target", LABELS)
@pytest.mark.parametrize("kind", INPUTS)
def test_each_policy_for_each_kind(kind: str, target: str, tmp_path: Path) -> None:
    named, (a, b, c, d, e), bad, why = INPUTS[kind]
    asked, (no, yes) = LABELS[target]
    columns = Columns(**named, **asked)
    train = [(a, no), (bad, yes), (b, yes), (c, None), (a, no), (a, yes), (d, no)]
    test = [(d, no), (e, yes), (b, no)]
    sound = [row for row in train if row[0] is not bad and row[1] is not None]
    # The defaults: bad rows are an error, copies and leaks stay.
    with pytest.raises(
        SourceError, match=rf"train split: {why} at row 1 of train\.parquet: .*data: {{bad_rows: drop}}"
    ):
        read(tmp_path, columns, train, test)
    with pytest.raises(SourceError, match=r"label column 'y' is null at row 3 of train\.parquet.*unlabelled: drop"):
        read(tmp_path, columns, train, test, bad_rows="drop")
    assert kept(read(tmp_path, columns, sound, test)) == [*range(5)]
    assert kept(read(tmp_path, columns, train, test, bad_rows="drop", unlabelled="drop")) == [0, 2, 4, 5, 6]
    # The first of equal rows stays; one of another target is no copy.
    assert kept(read(tmp_path, columns, sound, test, duplicates="drop")) == [0, 1, 3, 4]
    loaded = read(tmp_path, columns, sound, test, leaked="drop_from_training")
    assert (kept(loaded), kept(loaded, "test")) == ([0, 2, 3], [0, 1, 2])
    everything = {"bad_rows": "drop", "unlabelled": "drop", "duplicates": "drop", "leaked": "drop_from_training"}
    loaded = read(tmp_path, columns, train, test, **everything)
    assert kept(loaded) == [0, 5]
    assert len(loaded.train) == len(loaded.targets) == 2
    assert [
        (left["policy"], [row[1:] for row in left["rows"]]) for left in report_of(check_data(loaded))["dropped"]
    ] == [
        ("bad_rows", [[1, why]]),
        ("unlabelled", [[3, "label column 'y' is null"]]),
        ("duplicates", [[4, "equals an earlier row"]]),
        ("leaked", [[2, "its input is in the test split"], [6, "its input is in the test split"]]),
    ]


def test_copies_in_another_split_are_no_duplicates_and_test_rows_are_cleaned_too(tmp_path: Path) -> None:
    columns = Columns(features=["x"], label="y")
    loaded = read(tmp_path, columns, [(1, 0), (2, 1), (1, 0)], [(1, 0), (3, 1), (3, 1)], duplicates="drop")
    assert (kept(loaded), kept(loaded, "test")) == ([0, 1], [0, 1])


EVERYTHING = DataPolicy(bad_rows="drop", unlabelled="drop", duplicates="drop", leaked="drop_from_training")


def test_rows_of_several_files_are_told_by_their_file(tmp_path: Path) -> None:
    for name, content in {
        "a.csv": "x,y\n1,a\n2,b\n1,a\n,a\n3,\n",
        "b.csv": "x,y\n1,a\n5,b\n9,a\n",
        "test.csv": "x,y\n9,a\n8,b\n",
    }.items():
        (tmp_path / name).write_text(content)
    source = TypeAdapter(Source).validate_python({"kind": "csv", "train": ["a.csv", "b.csv"], "test": "test.csv"})
    loaded = load(source, Columns(features=["x"], label="y"), tmp_path, tmp_path / "cache", EVERYTHING)
    report = report_of(check_data(loaded))
    assert {left["policy"]: left["rows"] for left in report["dropped"]} == {
        "bad_rows": [["a.csv", 3, "every feature is missing"]],
        "unlabelled": [["a.csv", 4, "label column 'y' is null"]],
        "duplicates": [["a.csv", 2, "equals an earlier row"], ["b.csv", 0, "equals an earlier row"]],
        "leaked": [["b.csv", 2, "its input is in the test split"]],
    }
    (told,) = [finding["text"] for finding in report["findings"] if "data.duplicates" in finding["text"]]
    assert told == "2 train rows left out by data.duplicates (row 2 of a.csv and 1 in other files)"


def test_rows_of_several_files_are_not_counted_in_the_first(tmp_path: Path) -> None:
    """Findings list the first rows alone, which may all lie in one file while further ones lie in others."""
    for name, rows in {"a.csv": 150, "b.csv": 110}.items():
        (tmp_path / name).write_text("x,y\n" + "".join(f"{row},{row % 2}\n" for row in range(rows)))
    (tmp_path / "test.csv").write_text("x,y\n-1,0\n-2,1\n")
    source = TypeAdapter(Source).validate_python({"kind": "csv", "train": ["a.csv", "b.csv"], "test": "test.csv"})
    loaded = load(source, Columns(features=["x"], label="y"), tmp_path, tmp_path / "cache", DataPolicy())
    told = next(finding for finding in check_data(loaded).findings() if "groups of equal train rows" in finding.text)
    assert told.text.endswith("(rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 of a.csv and further ones, 220 in all files)")
    say = Places(loaded.rows, loaded.files).text
    assert say("train", np.arange(148, 153)) == "rows 148, 149 of a.csv and 3 in other files"
    listed = "rows 100, 101, 102, 103, 104, 105, 106, 107, 108, 109 (50 in all) of a.csv"
    assert say("train", np.arange(100, 153)) == f"{listed} and 3 in other files"
    assert say("train", np.arange(100, 153), 90) == f"{listed} and 40 in other files"
    assert say("train", np.arange(150, 153), 50) == "rows 0, 1, 2 (50 in all) of b.csv"


def test_files_of_pictures_are_told_by_their_paths(tmp_path: Path) -> None:
    pictures = {"train/a/1": 1, "train/a/2": 2, "train/a/copy": 1, "train/b/3": 3, "train/b/leak": 8}
    for name, seed in {**pictures, "test/a/8": 7, "test/b/9": 8}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(picture(seed)["bytes"])
    (tmp_path / "train/b/torn.png").write_bytes(b"junk")
    source = TypeAdapter(Source).validate_python({"kind": "imagefolder", "train": "train", "test": "test"})
    columns = Columns(image="image", label="label")
    with pytest.raises(
        SourceError, match=r"cannot be decoded at row \d of train: train/b/torn\.png: correct or remove"
    ):
        load(source, columns, tmp_path, tmp_path / "cache")
    report = report_of(check_data(load(source, columns, tmp_path, tmp_path / "cache", EVERYTHING)))
    assert {left["policy"]: [row[0] for row in left["rows"]] for left in report["dropped"]} == {
        "bad_rows": ["train/b/torn.png"],
        "duplicates": ["train/a/copy.png"],
        "leaked": ["train/b/leak.png"],
    }
    assert [finding["paths"] for finding in report["findings"] if "data.leaked" in finding["text"]] == [
        ("train/b/leak.png",)
    ]


def test_a_row_without_a_label_does_not_make_a_duplicate_vanish(tmp_path: Path) -> None:
    columns = Columns(text="x", label="y")
    train = [("a", None), ("a", 0), ("a", None), ("b", 1)]
    loaded = read(tmp_path, columns, train, [("c", 0), ("d", 1)], unlabelled="drop", duplicates="drop")
    assert kept(loaded) == [1, 3]


def test_several_label_columns_with_a_gap(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [1, 2, 3, 4], "red": [0, 1, None, 1], "round": [1, None, 0, 0]})
    frame.write_csv(tmp_path / "a.csv")
    frame.drop_nulls().write_csv(tmp_path / "b.csv")
    where = TypeAdapter(Source).validate_python({"kind": "csv", "train": "a.csv", "test": "b.csv"})
    columns = Columns(features=["x"], label=["red", "round"], target="labels")
    with pytest.raises(SourceError, match=r"label column 'red', 'round' is null at rows 1, 2 of a\.csv"):
        load(where, columns, tmp_path, tmp_path / "cache")
    loaded = load(where, columns, tmp_path, tmp_path / "cache", DataPolicy(unlabelled="drop"))
    assert loaded.targets.tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    ("train", "test", "data", "message"),
    [
        ([(None, 0)], [(1, 0)], {"bad_rows": "drop"}, r"train split: no row is left, of 1 \(every feature is missing"),
        (
            [(1, 0)],
            [(1, 0)],
            {"leaked": "drop_from_training"},
            r"no row is left, of 1 \(its input is in the test split",
        ),
    ],
)
def test_a_split_of_which_nothing_is_left(
    train: list[Any], test: list[Any], data: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=message):
        read(tmp_path, Columns(features=["x"], label="y"), train, test, **data)


def test_settings_of_the_policy() -> None:
    assert DataPolicy().model_dump() == {
        "bad_rows": "reject",
        "unlabelled": "reject",
        "duplicates": "keep",
        "leaked": "keep",
    }
    for wrong in ({"bad_rows": "keep"}, {"leaked": "drop"}, {"duplicate": "drop"}):
        with pytest.raises(ValidationError):
            DataPolicy(**wrong)
