"""Every kind of source gives the same data; messages about faults name file, column and row."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_hub import COMMIT, local_hub, settings_of
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from sample_tables import content_hashes

from secateur.pipelines.data.drawn_rows import stratified_rows
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.scan import FAULT
from secateur.pipelines.data.source_kinds.diabetes import Diabetes
from secateur.pipelines.data.source_kinds.parquet import ParquetFile
from secateur.pipelines.data.sources import Columns, Loaded, Source, SourceError, load, revision_of
from secateur.trainers.modalities.decoding import decode_image

DATA = Path(os.environ.get("SECATEUR_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
TEXT = Columns(text="text", label="label")
PICTURE = Columns(image="image", label="label")
TRAIN = pl.DataFrame({"text": ["a, b", 'say "c"', "NA", "007", "é", "f"], "label": [0, 1, 2, 0, 1, 2]})
TEST = pl.DataFrame({"text": ["x", "two\nlines", "null"], "label": [0, 1, 2]})

Read = Callable[..., Loaded]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Load a source from its YAML, relative to `tmp_path`, with a cache of its own."""

    def read(columns: Columns = TEXT, policy: DataPolicy | None = None, **source: Any) -> Loaded:
        return load(TypeAdapter(Source).validate_python(source), columns, tmp_path, tmp_path / "cache", policy)

    return read


def write(folder: Path, kind: str, train: pl.DataFrame = TRAIN, test: pl.DataFrame = TEST) -> dict[str, Any]:
    """Both splits as files of a kind, and the source that names them."""
    for name, frame in (("train", train), ("test", test)):
        path = folder / f"{name}.{kind}"
        {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[kind](path)
    return {"kind": kind, "train": f"train.{kind}", "test": f"test.{kind}"}


def picture(seed: int, path: Path | None = None) -> Image.Image:
    made = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8))
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save(path)
    return made


def hashes(loaded: Loaded, columns: Columns = TEXT) -> list[list[str]]:
    return [content_hashes(rows, columns).to_list() for rows in (loaded.train, loaded.test)]


def need(folder: str) -> Path:
    if not (DATA / folder).is_dir():
        pytest.skip(f"no {DATA / folder}: set SECATEUR_DATA to the folder of real data")
    return DATA / folder


# The data of each kind.


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_files_of_every_format_hold_the_same_samples(kind: str, tmp_path: Path, read: Read) -> None:
    loaded = read(**write(tmp_path, kind))
    assert loaded.train["text"] == TRAIN["text"].to_list()
    assert loaded.test["text"] == TEST["text"].to_list()
    assert loaded.label_names == ("0", "1", "2")
    expected = [datasets.Dataset(frame.to_arrow()) for frame in (TRAIN, TEST)]
    assert hashes(loaded) == [content_hashes(rows, TEXT).to_list() for rows in expected]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_records_of_every_format_hold_the_same_samples(kind: str, tmp_path: Path, read: Read) -> None:
    frame = pl.DataFrame(
        {"age": [31, None, 2], "wage": [0.1, 2.0, None], "job": ["a", None, "c"], "own": [True, False, True]}
    )
    frame = frame.with_columns(label=pl.Series([0, 1, 0]))
    columns = Columns(features=["age", "wage", "job", "own"], label="label")
    loaded = read(columns, **write(tmp_path, kind, frame, frame[:2]))
    expected = content_hashes(datasets.Dataset(frame.to_arrow()), columns).to_list()
    assert hashes(loaded, columns) == [expected, expected[:2]]


def test_saved_data_sets(tmp_path: Path, read: Read) -> None:
    train, test = (datasets.Dataset(frame.to_arrow()) for frame in (TRAIN, TEST))
    datasets.DatasetDict(learn=train, exam=test).save_to_disk(tmp_path / "both")
    train.save_to_disk(tmp_path / "one")
    test.save_to_disk(tmp_path / "two")
    together = read(kind="disk", path="both", train="learn", test="exam")
    apart = read(kind="disk", train="one", test="two")
    assert hashes(together) == hashes(apart) == [content_hashes(rows, TEXT).to_list() for rows in (train, test)]
    assert (together.files, apart.files) == (("learn", "exam"), ("one", "two"))
    with pytest.raises(SourceError, match=r"exam: there is no column 'body'"):
        read(Columns(text="body", label="label"), kind="disk", path="both", train="exam", test="learn")
    with pytest.raises(SourceError, match=r"source\.test: no split 'nope' in .*both, there are learn, exam"):
        read(kind="disk", path="both", train="learn", test="nope")
    with pytest.raises(SourceError, match=r"source\.path: .*one holds one split, name it source\.train"):
        read(kind="disk", path="one", test="test")
    with pytest.raises(SourceError, match=r"source\.train: .*both holds several splits, name it source\.path"):
        read(kind="disk", train="both", test="two")


def test_image_folders(tmp_path: Path, read: Read) -> None:
    # Class names that the reader would take for splits, a folder that it would take for a pattern.
    names = ["test", "train", "zebra"]
    for split, seeds in (("t[r]ain", range(6)), ("exam", range(6, 9))):
        for seed in seeds:
            picture(seed, tmp_path / split / names[seed % 3] / f"{seed}.png")
    (tmp_path / "t[r]ain" / "zebra" / "torn.png").write_bytes(b"\x89PNG torn")
    torn = str(tmp_path / "t[r]ain" / "zebra" / "torn.png")
    with pytest.raises(
        SourceError, match=rf"train split: image {re.escape(repr(torn))} cannot be decoded .*bad_rows: drop"
    ):
        read(PICTURE, kind="imagefolder", train="t[r]ain", test="exam")
    loaded = read(PICTURE, DataPolicy(bad_rows="drop"), kind="imagefolder", train="t[r]ain", test="exam")
    assert loaded.label_names == tuple(names)
    assert list(loaded.train["label"]) == ["test", "test", "train", "train", "zebra", "zebra"]
    assert loaded.targets.tolist() == [0, 0, 1, 1, 2, 2]
    shown = [decode_image(cell) for cell in loaded.train["image"]]
    assert [image.tobytes() for image in shown if image] == [picture(s).tobytes() for s in (0, 3, 1, 4, 2, 5)]
    assert loaded.scanned["train"].column(FAULT).to_list() == [None] * 6 + [f"image {torn!r} cannot be decoded"]
    picture(9, tmp_path / "exam" / "stray.png")
    with pytest.raises(SourceError, match=r"exam/stray\.png is not in .*exam/CLASS/, its class is unknown"):
        read(PICTURE, kind="imagefolder", train="t[r]ain", test="exam")
    (tmp_path / "bare").mkdir()
    with pytest.raises(SourceError, match=r"source\.test: no pictures in .*bare"):
        read(PICTURE, kind="imagefolder", train="t[r]ain", test="bare")


def test_digits() -> None:
    from sklearn.datasets import load_digits

    digits = TypeAdapter(Source).validate_python({"kind": "digits"})
    loaded = load(digits, PICTURE, Path())
    assert len(loaded.train) + len(loaded.test) == 1797
    assert abs(len(loaded.test) - 0.2 * 1797) < 6 * np.sqrt(1797 * 0.2 * 0.8)
    assert loaded.label_names == tuple("0123456789")
    found = load_digits()
    original = sorted(
        (image.astype(int).tobytes(), int(label)) for image, label in zip(found.images, found.target, strict=True)
    )
    stored = []
    for rows in (loaded.train, loaded.test):
        for row in rows:
            image = decode_image(row["image"])
            assert image is not None
            stored.append((np.rint(np.asarray(image) * (16 / 255)).astype(int).tobytes(), int(row["label"])))
    assert sorted(stored) == original
    again = load(digits, PICTURE, Path())
    assert hashes(again, PICTURE) == hashes(loaded, PICTURE)
    assert again.revision == loaded.revision


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_paths_in_an_image_column_start_from_the_base(kind: str, tmp_path: Path, read: Read) -> None:
    for seed in range(3):
        picture(seed, tmp_path / "shots" / f"{seed}.png")
    frame = pl.DataFrame({"image": ["shots/0.png", str(tmp_path / "shots/1.png"), "shots/9.png"], "label": [0, 1, 0]})
    source = write(tmp_path, kind, frame, frame[:2])
    with pytest.raises(SourceError, match=rf"image '.*shots/9\.png' is not there at row 2 of train\.{kind}"):
        read(PICTURE, **source)
    loaded = read(PICTURE, DataPolicy(bad_rows="drop"), **source)
    shown = [decode_image(cell) for cell in loaded.train["image"]]
    assert [image and image.tobytes() for image in shown] == [picture(0).tobytes(), picture(1).tobytes()]


@pytest.mark.parametrize("form", ["cell", "binary"])
def test_image_bytes_in_parquet_of_others(form: str, tmp_path: Path, read: Read) -> None:
    data = [picture(seed, tmp_path / f"{seed}.png") and (tmp_path / f"{seed}.png").read_bytes() for seed in range(2)]
    cells: list[Any] = [{"bytes": item, "path": "a.png"} for item in data] if form == "cell" else data
    frame = pl.DataFrame({"image": cells, "label": [0, 1]})
    shown = decode_image(read(PICTURE, **write(tmp_path, "parquet", frame, frame)).test[1]["image"])
    assert shown is not None
    assert shown.tobytes() == picture(1).tobytes()


def test_fashion_mnist_loads_as_a_subset(tmp_path: Path) -> None:
    folder = need("fashion_mnist")
    source = {"kind": "parquet", "train": "test.parquet", "test_fraction": 0.1, "limit": 200}
    loaded = load(TypeAdapter(Source).validate_python(source), PICTURE, folder, tmp_path)
    assert loaded.label_names[:2] == ("T-shirt/top", "Trouser")
    # The split is drawn by the input, so its classes are not all of one size; the draw of limit keeps their shares.
    for targets in (loaded.targets, loaded.test_targets):
        assert len(targets) == 200
        assert np.abs(np.bincount(targets) - 20).max() <= 4
    assert not set(hashes(loaded, PICTURE)[0]) & set(hashes(loaded, PICTURE)[1])
    assert all(decode_image(cell) for cell in loaded.test["image"])


def test_adult_is_the_same_from_parquet_and_from_its_csv(tmp_path: Path, read: Read) -> None:
    folder = need("adult")
    columns = Columns(features=["age", "workclass", "fnlwgt", "capital_gain", "native_country"], label="label")
    # The Parquet files hold numbers of classes and, in their metadata, names; a CSV holds the names.
    names = pl.col("label").replace_strict({0: "<=50K", 1: ">50K"})
    frames = [
        pl.read_parquet(folder / f"{split}.parquet", n_rows=1000).with_columns(names) for split in ("train", "test")
    ]
    found = read(columns, **write(tmp_path, "csv", *frames))
    whole = [f"{folder}/{split}.parquet" for split in ("train", "test")]
    stored = read(columns, kind="parquet", train=whole[0], test=whole[1])
    assert stored.label_names == ("<=50K", ">50K")
    expected = [content_hashes(rows.select(range(1000)), columns).to_list() for rows in (stored.train, stored.test)]
    assert hashes(found, columns) == expected


# Paths, splits, limits.


def test_globs_lists_and_environment(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parts").mkdir()
    for part in (1, 0, 2):
        TRAIN[2 * part : 2 * part + 2].write_parquet(tmp_path / "parts" / f"p{part}.parquet")
    write(tmp_path, "parquet")
    monkeypatch.setenv("PARTS", "parts")
    monkeypatch.delenv("ELSEWHERE", raising=False)
    source = {"kind": "parquet", "test": "${ELSEWHERE:-.}/test.parquet"}
    whole = read(train="train.parquet", **source)
    for train in ("${PARTS}/p*.parquet", ["parts/p0.parquet", "parts/p[12].parquet"], "**/p?.parquet"):
        assert hashes(read(train=train, **source)) == hashes(whole)
    with pytest.raises(SourceError, match=r"source\.train: .* needs the environment variable ELSEWHERE"):
        read(train="${ELSEWHERE}/a.parquet", **source)
    with pytest.raises(SourceError, match=r"source\.train: no file matches '.*/q\*\.parquet'"):
        read(train="parts/q*.parquet", **source)
    with pytest.raises(SourceError, match=r"source\.train: .*parts is a folder"):
        read(train="parts", **source)
    with pytest.raises(SourceError, match=r"source\.test: .*test\.parquet is named by source\.train as well"):
        read(train="t*.parquet", **source)


def test_a_test_split_is_drawn_where_none_is_given(tmp_path: Path, read: Read) -> None:
    labels = [0] * 60 + [1] * 31
    frame = pl.DataFrame({"text": [str(i) for i in range(91)], "label": labels})
    write(tmp_path, "csv", frame)
    source = {"kind": "csv", "train": "train.csv", "test_fraction": 0.1}
    first, again, other = read(**source), read(**source), read(**source, split_seed=1)
    train, test = list(first.train["text"]), list(first.test["text"])
    assert sorted(train + test) == sorted(frame["text"])
    assert 1 <= len(test) <= 27
    assert train == sorted(train, key=int)
    assert list(again.test["text"]) == test != list(other.test["text"])
    with pytest.raises(SourceError, match=r"test_fraction: no row is left for the test split"):
        read(**source | {"test_fraction": 1e-9})
    write(tmp_path, "csv", frame.with_columns(label=pl.Series([*labels[:-1], 2])))
    with pytest.raises(
        SourceError, match=r"split that was drawn has no row of class '2', which has 1 row, for one split alone"
    ):
        read(**source)


def test_limit_keeps_the_shares_of_classes(tmp_path: Path, read: Read) -> None:
    frame = pl.DataFrame({"text": [str(i) for i in range(100)], "label": [i % 4 == 0 for i in range(100)]})
    source = write(tmp_path, "parquet", frame.cast({"label": pl.Int64}), frame[:8].cast({"label": pl.Int64}))
    loaded = read(**source, limit=20)
    assert np.bincount(loaded.train["label"]).tolist() == np.bincount(loaded.targets).tolist() == [15, 5]
    assert len(loaded.test) == len(loaded.test_targets) == 8


def test_a_revision_is_known_without_reading_a_row(tmp_path: Path, read: Read) -> None:
    frame = pl.DataFrame({"text": ["a", None, *"cdefgh"], "label": [0] * 8})
    frame.write_parquet(tmp_path / "train.parquet")
    where = {"kind": "parquet", "train": "train.parquet", "test_fraction": 0.5}
    source: Any = TypeAdapter(Source).validate_python(where)
    found = revision_of(source, TEXT, tmp_path, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere" / "rows").exists()
    frame.drop_nulls().write_parquet(tmp_path / "train.parquet")
    assert read(**where).revision == revision_of(source, TEXT, tmp_path, tmp_path / "elsewhere") != found


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.data())
def test_stratified_rows(values: list[int], data: st.DataObject) -> None:
    labels = np.array(values)
    count, leave = data.draw(st.integers(0, len(labels))), data.draw(st.integers(0, 1))
    seed = data.draw(st.integers(0, 99))
    rows = stratified_rows(labels, count, seed, leave)
    assert np.all(np.diff(rows) > 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("secateur.pipelines.data.drawn_rows.BLOCK", 4)
        assert np.array_equal(rows, stratified_rows(labels, count, seed, leave))
    classes, sizes = np.unique(labels, return_counts=True)
    drawn = np.array([np.count_nonzero(labels[rows] == c) for c in classes])
    assert np.all(drawn <= sizes - leave)
    assert np.all(drawn <= np.floor(sizes * count / len(labels) + 1e-9) + 1)
    if not leave:
        assert len(rows) == count
        assert np.all(drawn >= np.floor(sizes * count / len(labels) - 1e-9))


# Bad data.


def bad(frame: dict[str, Any], **casts: Any) -> pl.DataFrame:
    return pl.DataFrame({"text": ["a", "b", "c"], "label": [0, 1, 2]} | frame).cast(casts)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"label": [0.5, 1.0, 2.0]}, r"'label' is 0\.5 at row 0 of train\.parquet, and a class is no fraction"),
        ({"label": [[0], [1], [2]]}, "'label' holds lists: write task: multi_label"),
        ({"label": [b"a", b"b", b"c"]}, "'label' holds pictures; labels are texts, numbers"),
        ({"label": [0, None, 1]}, r"train split: label column 'label' is null at row 1 of train\.parquet"),
        ({"label": [0, 1, -1]}, r"'label' is -1 at row 2 of train\.parquet beside 0 … 1: -1 usually marks"),
        ({"text": [1, 2, 3]}, r"train\.parquet: text column 'text' holds whole numbers, not strings"),
        ({"text": [date(2026, 1, day) for day in (1, 2, 3)]}, r"text column 'text' holds times, not strings"),
    ],
)
def test_labels_and_texts_of_the_wrong_kind(frame: dict[str, Any], message: str, tmp_path: Path, read: Read) -> None:
    source = write(tmp_path, "parquet", bad(frame), bad(frame))
    with pytest.raises(SourceError, match=message):
        read(**source)


def test_a_csv_label_that_is_missing_is_named_by_its_row(tmp_path: Path, read: Read) -> None:
    source = write(tmp_path, "csv", bad({"label": [0, None, 1]}))
    with pytest.raises(SourceError, match=r"label column 'label' is null at row 1 of train\.csv: correct or remove"):
        read(**source)


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_missing_column_is_told_with_the_nearest_name(kind: str, tmp_path: Path, read: Read) -> None:
    source = write(tmp_path, kind, TRAIN.rename({"label": "lable"}), TEST.rename({"label": "lable"}))
    with pytest.raises(SourceError, match=r"no column 'label'; did you mean 'lable'\? Columns: 'text', 'lable'"):
        read(**source)
    with pytest.raises(SourceError, match=r"no column 'zzz'\. Columns: 'text', 'lable'"):
        read(Columns(text="zzz", label="lable"), **source)


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_an_empty_split_is_named(kind: str, tmp_path: Path, read: Read) -> None:
    source = write(tmp_path, kind, TRAIN, TEST.clear())
    with pytest.raises(SourceError, match=rf"test(\.{kind})?: no rows.*; leave this file out"):
        read(**source)


def test_lines_without_a_row(tmp_path: Path, read: Read) -> None:
    source = write(tmp_path, "jsonl")
    (tmp_path / "test.jsonl").write_text("\n \n")
    with pytest.raises(SourceError, match=r"test\.jsonl: no rows"):
        read(**source)
    (tmp_path / "test.jsonl").write_text('{"text": "a", "label": 0}\n["b", 1]\n')
    with pytest.raises(SourceError, match=r"test\.jsonl row 1: not a JSON object"):
        read(**source)


def test_a_long_text_in_a_csv(tmp_path: Path, read: Read) -> None:
    long = "word \n" * 400_000
    source = write(tmp_path, "csv", pl.DataFrame({"text": [long, "b", "c"], "label": [0, 1, 2]}))
    assert read(**source).train[0]["text"] == long


def test_a_corrupt_parquet_file_is_named(tmp_path: Path, read: Read) -> None:
    write(tmp_path, "parquet")
    source = {"kind": "parquet", "train": ["train.parquet", "more.parquet"], "test": "test.parquet"}
    whole = (tmp_path / "train.parquet").read_bytes()
    for junk in (b"", b"PAR1 no more", whole[:-20]):
        (tmp_path / "more.parquet").write_bytes(junk)
        with pytest.raises(SourceError, match=r"more\.parquet is not a readable Parquet file"):
            read(**source)
    # The footer is complete, a page is not.
    frame = pl.DataFrame({"text": [f"{i} and {i * i}" for i in range(5000)], "label": [i % 3 for i in range(5000)]})
    frame.write_parquet(tmp_path / "more.parquet", compression="zstd")
    torn = bytearray((tmp_path / "more.parquet").read_bytes())
    torn[4:4000] = bytes(3996)
    (tmp_path / "more.parquet").write_bytes(torn)
    with pytest.raises(SourceError, match=r"more\.parquet is not a readable Parquet file: .*page header"):
        read(**source)
    # A flipped bit of a value, which the checksum of a page detects.
    pq.write_table(frame.to_arrow(), tmp_path / "more.parquet", write_page_checksum=True, compression="none")
    torn = bytearray((tmp_path / "more.parquet").read_bytes())
    torn[torn.index(b"4000 and")] ^= 1
    (tmp_path / "more.parquet").write_bytes(torn)
    with pytest.raises(SourceError, match=r"more\.parquet is not a readable Parquet file: .*CRC checksum"):
        read(**source)


def test_broken_files_leave_nothing_that_is_read_later(tmp_path: Path, read: Read) -> None:
    source = write(tmp_path, "jsonl")
    whole = (tmp_path / "train.jsonl").read_text()
    (tmp_path / "train.jsonl").write_text(whole + '{"text": "g", "label": \n')
    with pytest.raises(SourceError, match=r"train\.jsonl row 6: Expecting value"):
        read(**source)
    assert not list((tmp_path / "cache").rglob("*.arrow"))
    (tmp_path / "train.jsonl").write_text(whole)
    assert len(read(**source).train) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\na,0\nb\n", r"train\.csv: .*Row #3: Expected 2 columns, got 1: b .*row 1 is the header"),
        ("text,label\na,0\nb,c,1\n", r"Row #3: Expected 2 columns, got 3: b,c,1"),
        ("text,label\na,0,1\nb,c,1\n", r"Row #2: Expected 2 columns, got 3"),
        ("", r"train\.csv: the file is empty; its first line is a header"),
        ("\n\n", r"train\.csv: the file is empty"),
        ("text,label\n", r"train\.csv: no rows below the header"),
        (b"text,label\n\xff,0\nb,1\n", r"train\.csv line 2: byte 0xff is not utf-8; write .* source\.charset"),
        (b"text,l\xffbel\na,0\nb,1\n", r"train\.csv line 1: byte 0xff is not utf-8"),
    ],
)
def test_broken_csv(text: str | bytes, message: str, tmp_path: Path, read: Read) -> None:
    source = write(tmp_path, "csv")
    (tmp_path / "train.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SourceError, match=message):
        read(**source)


def test_classes_that_differ_between_files_are_refused(tmp_path: Path, read: Read) -> None:
    write(tmp_path, "parquet")
    for name, classes in (("a", "xyz"), ("b", "xyz"), ("c", "zyx"), ("d", "vwxyz")):
        rows = datasets.Dataset(TRAIN.to_arrow()).cast_column("label", datasets.ClassLabel(names=list(classes)))
        rows.to_parquet(tmp_path / f"{name}.parquet")
    loaded = read(kind="parquet", train="a.parquet", test="b.parquet")
    assert loaded.label_names == ("x", "y", "z")
    # The same names in another order: rows keep their names.
    turned = read(kind="parquet", train="a.parquet", test="c.parquet")
    assert turned.label_names == ("x", "y", "z")
    assert (loaded.test_targets.tolist(), turned.test_targets.tolist()) == ([0, 1, 2, 0, 1, 2], [2, 1, 0, 2, 1, 0])
    # A file of numbers alone has the names of the others.
    assert read(kind="parquet", train="a.parquet", test="test.parquet").test_targets.tolist() == [0, 1, 2]
    with pytest.raises(SourceError, match=r"'label' has other classes in some files: .*'x', 'y', 'z'.* and .*'v', 'w'"):
        read(kind="parquet", train="a.parquet", test="d.parquet")
    ordered = read(kind="parquet", train="a.parquet", test="b.parquet", label_names=["z", "x", "y"])
    assert (ordered.label_names, ordered.targets.tolist()) == (("z", "x", "y"), [1, 2, 0, 1, 2, 0])
    for names in (["one", "two", "three"], ["x", "y"]):
        with pytest.raises(
            SourceError, match=r"label_names and the classes of the file differ .*: name all of x, y, z"
        ):
            read(kind="parquet", train="a.parquet", test="b.parquet", label_names=names)
    with pytest.raises(
        SourceError, match=r"'label' is '2' at rows 2, 5 of train\.parquet, which is not in source\.label_names"
    ):
        read(kind="parquet", train="train.parquet", test="test.parquet", label_names=["one", "two"])


def test_features_of_two_kinds_are_refused_and_ints_with_floats_are_not(tmp_path: Path, read: Read) -> None:
    columns = Columns(features=["x"], label="label")
    source = write(tmp_path, "csv", bad({"x": [1, 2, 3]}), bad({"x": ["a", "b", "c"]}))
    assert read(columns, **source).train["x"] == ["1", "2", "3"]  # in a CSV any value may be the text that it is
    source = write(tmp_path, "parquet", bad({"x": [1, 2, 3]}), bad({"x": ["a", "b", "c"]}))
    with pytest.raises(SourceError, match=r"'x' holds texts in .*test\.parquet and whole numbers in .*train\.parquet"):
        read(columns, **source)
    source = write(tmp_path, "csv", bad({"x": [1, 2, 3]}), bad({"x": [1, None, 3]}))
    with pytest.raises(SourceError, match=r"test split: every feature is missing at row 1 of test\.csv"):
        read(columns, **source)
    columns = Columns(features=["x", "text"], label="label")
    train, test = hashes(read(columns, **source), columns)
    assert [a == b for a, b in zip(train, test, strict=True)] == [True, False, True]
    listed = pl.DataFrame({"x": [[1], [2]], "label": [0, 1]})
    with pytest.raises(SourceError, match=r"feature column 'x' holds lists of whole numbers; features are numbers"):
        read(Columns(features=["x"], label="label"), **write(tmp_path, "parquet", listed, listed))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "csv", "train": "a.csv", "test": "b.csv", "test_fraction": 0.1}, "give one of test, test_fraction"),
        ({"kind": "csv", "train": "a.csv", "test": "b.csv", "charset": "utf-9"}, "no encoding is called 'utf-9'"),
        ({"kind": "disk", "train": "a", "test_fraction": 1.0}, "less than 1"),
        ({"kind": "parquet", "train": [], "test": "b"}, "at least 1 item"),
        ({"kind": "digits", "test_fraction": 0.2}, "Extra inputs"),
        (
            {"kind": "cvs", "train": "a"},
            "'csv', 'diabetes', 'digits', 'disk', 'hub', 'imagefolder', 'jsonl', 'parquet'",
        ),
        ({"kind": "digits", "limit": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_are_checked(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Source).validate_python(source)


# Files on disk and in the cache.


def test_revision_follows_content_not_place_or_time(tmp_path: Path, read: Read) -> None:
    source = write(tmp_path, "csv")
    first = read(**source)
    os.utime(tmp_path / "train.csv", (1, 1))
    (tmp_path / "train.csv").rename(tmp_path / "moved.csv")
    assert read(**source | {"train": "moved.csv"}).revision == first.revision
    # Same size, same time: the prepared table of the old content must not be served.
    changed = (tmp_path / "moved.csv").read_text().replace("007", "008")
    (tmp_path / "moved.csv").write_text(changed)
    os.utime(tmp_path / "moved.csv", (1, 1))
    second = read(**source | {"train": "moved.csv"})
    assert second.revision != first.revision
    assert "008" in second.train["text"]


def test_loading_files_touches_no_network_and_no_settings(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def refuse(*_: Any) -> None:
        raise AssertionError("a local source opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    before = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    read(**write(tmp_path, "jsonl"))
    assert (datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()) == before
    assert datasets.config.HF_UPDATE_DOWNLOAD_COUNTS


# The hub.


def test_an_unreachable_hub_is_said_with_the_remedy(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        SourceError,
        match=r"hub data set 'some/set', revision 'main': the hub cannot be reached \(Connect[^:]*: connect, or pin",
    ):
        read(kind="hub", name="some/set", test="test")


def test_a_folder_does_not_pass_for_a_hub_data_set(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some" / "set").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="a folder of this name is in the working directory"):
        read(kind="hub", name="some/set", test="test")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The data set `some/set` on a hub on this machine: its address, and the requested paths."""
    write(tmp_path, "parquet")
    with local_hub("some/set", tmp_path) as served:
        yield served


FROM_HUB = """
import sys, json
from pathlib import Path
from pydantic import TypeAdapter
from secateur.pipelines.data.sources import Columns, Source, SourceError, load

for given in sys.argv[1:]:
    source = TypeAdapter(Source).validate_python({"kind": "hub", "test": "test"} | json.loads(given))
    try:
        loaded = load(source, Columns(text="text", label="label"), Path("."))
        texts = [list(part["text"]) for part in (loaded.train, loaded.test)]
        print(json.dumps([loaded.revision, *texts, loaded.files]))
    except SourceError as error:
        print(json.dumps(str(error)))
"""


def test_a_hub_data_set_is_pinned_to_its_commit_and_loads_offline_after(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, asked = hub

    def ask(*sources: dict[str, str], offline: bool) -> list[Any]:
        environment = os.environ | settings_of(address, tmp_path / "hf", offline=offline)
        command = [sys.executable, "-c", FROM_HUB, *map(json.dumps, sources)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    expected = [COMMIT, TRAIN["text"].to_list(), TEST["text"].to_list(), ["train", "test"]]
    branch = {"name": "some/set", "revision": "main"}
    found, split, missing = ask(branch, branch | {"test": "exam"}, {"name": "some/other"}, offline=False)
    assert found == expected
    assert "/api/datasets/some/set/revision/main" in asked
    assert 'Unknown split "exam". Should be one of' in split
    assert missing.startswith("hub data set 'some/other', revision 'main': the hub has no public data set of this name")
    asked.clear()
    found, branch_offline = ask(branch | {"revision": COMMIT}, branch, offline=True)
    assert found == expected
    assert "pin the revision (source.revision of a study" in branch_offline
    assert not asked


def test_diabetes_is_the_published_table(tmp_path: Path) -> None:
    """Its first patients, from table 1 of Efron et al. (2004)."""
    source = Diabetes(kind="diabetes")
    splits, revision = source.read(Columns(features=["age"], label="progression"), tmp_path, tmp_path)
    table = splits["train"].to_pandas()
    assert table.shape == (442, 12)
    assert table.pop("held_out").sum() == 88, "a fifth, drawn by stratum"
    assert table.loc[0].tolist() == pytest.approx([59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.9, 87, 151], abs=0.05)
    assert table.loc[1].tolist() == pytest.approx([48, 1, 21.6, 87, 183, 103.2, 70, 3, 3.9, 69, 75], abs=0.05)
    assert source.held_out == 0.2
    assert source.stamp(tmp_path) != revision


def test_a_file_is_named_from_the_studys_folder_the_one_above_or_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    base = tmp_path / "home" / "studies"
    for path, name in (
        (base / "a.csv", "a.csv"),
        (tmp_path / "home" / "data" / "a.csv", "data/a.csv"),
        (tmp_path / "work" / "a.csv", "a.csv"),
        (tmp_path / "else" / "a.csv", str(tmp_path / "else" / "a.csv")),
    ):
        assert ParquetFile(path).shown(base) == name
    assert ParquetFile(tmp_path / "home" / "a.csv").shown(tmp_path / "home" / "conf") == str(
        tmp_path / "home" / "a.csv"
    )
