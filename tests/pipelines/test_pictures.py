"""Pictures have one identity and one look; messages name rows that an image folder leaves out or contradicts."""

import io
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import xxhash
from PIL import Image
from pydantic import TypeAdapter

from secateur.pipelines.data import types
from secateur.pipelines.data.check import Finding, check_data, shares_text, text_findings
from secateur.pipelines.data.identity import hex_of, image_hashes
from secateur.pipelines.data.own_samples import own_findings
from secateur.pipelines.data.preparation import paths_below
from secateur.pipelines.data.sources import Columns, Loaded, Source, SourceError, load
from secateur.trainers.modalities.encoding import encoded_rows, fit_encoder
from secateur.trainers.modalities.images import ImageEncoding

COLUMNS = Columns(image="image", label="label")


def saved(values: Any, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    (values if isinstance(values, Image.Image) else Image.fromarray(values)).save(file, kind, **options)
    return file.getvalue()


def hashed(*pictures: bytes) -> tuple[list[str], list[str | None]]:
    cells = pa.array([{"bytes": data, "path": None} for data in pictures], types.PICTURE)
    hashes, faults = image_hashes(pa.chunked_array([cells]))
    return hex_of(hashes).to_pylist(), faults.to_list()


@pytest.mark.parametrize("kind", [types.PICTURE, pa.struct([("bytes", pa.large_binary()), ("path", pa.null())])])
def test_paths_of_pictures_begin_behind_their_folder(kind: pa.DataType) -> None:
    held = kind == types.PICTURE
    paths = ["/a/b/c.png", "/a/bc.png", None, "/a/b/d/e.png"] if held else [None] * 4
    cells = pa.array([None, *({"bytes": b"x", "path": path} for path in paths)], kind)
    found = paths_below(pa.chunked_array([cells.slice(0, 2), cells.slice(2)]), Path("/a/b"))
    assert found.type == pa.string()
    assert found.to_pylist() == (["", "c.png", "/a/bc.png", "", "d/e.png"] if held else [""] * 5)


def test_a_hash_is_of_mode_size_and_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    found, faults = hashed(saved(pixels), saved(pixels, "BMP"), b"no picture")
    assert found[0] == found[1] == xxhash.xxh3_128_hexdigest(b"image RGB 5 3 " + pixels.tobytes())
    assert found[2] == xxhash.xxh3_128_hexdigest(b"raw image" + b"no picture")
    assert faults == [None, None, "image cannot be decoded"]


def test_the_same_values_of_16_bits_are_one_picture_in_every_format() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (4, 6)).astype(np.uint16)
    pgm = b"P5\n6 4\n65535\n" + values.astype(">u2").tobytes()
    found, _ = hashed(saved(values), pgm, saved(values, "TIFF"), saved(values.astype(np.int32), "TIFF"))
    assert len(set(found)) == 1
    assert found != hashed(saved((values >> 8).astype(np.uint8)))[0]


def icon(upright: bool, hidden: int = 0) -> bytes:
    picture = np.full((8, 8, 4), hidden, np.uint8)
    picture[..., 3] = 0
    picture[(slice(None), slice(3, 5)) if upright else (slice(3, 5), slice(None))] = [0, 0, 0, 255]
    return saved(picture)


def test_bars_on_transparent_ground_are_two_samples_whatever_is_hidden() -> None:
    found, faults = hashed(icon(True), icon(False), icon(True, hidden=77))
    assert found[0] == found[2] != found[1]
    assert faults == [None] * 3


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read(files: dict[str, bytes], **keys: Any) -> Loaded:
        for name, data in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        given = {"kind": "imagefolder", "train": "train"} | (keys or {"test": "test"})
        source: Any = TypeAdapter(Source).validate_python(given)
        return load(source, COLUMNS, tmp_path, tmp_path / "cache")

    return read


def grey(value: int) -> bytes:
    return saved(np.full((4, 4), value, np.uint8))


FOLDERS = {
    f"{split}/{name}/{number}.png": grey(number)
    for split, first in (("train", 0), ("test", 10))
    for name in "ab"
    for number in range(first + ord(name) % 2 * 5, first + ord(name) % 2 * 5 + 3)
}


def of_kind(loaded: Loaded, kind: str) -> list[Finding]:
    return [finding for finding in check_data(loaded).findings() if finding.kind == kind]


def test_what_the_check_sees_is_what_the_network_sees(read: Any) -> None:
    icons = {
        f"{split}/{name}/{name}{split}.png": icon(name == "a", len(split))
        for split in ("train", "test")
        for name in "ab"
    }
    loaded = read(icons)
    pixels = encoded_rows(fit_encoder(ImageEncoding(), loaded.rows["train"], ["image"]), loaded.rows["train"])
    assert np.unique(pixels).tolist() == [0, 255]
    assert (pixels[0] != pixels[1]).any()
    assert not of_kind(loaded, "duplicates")
    assert [finding.count for finding in of_kind(loaded, "leaked")] == [2]


def test_files_that_an_image_folder_skips_are_listed(read: Any) -> None:
    loaded = read(
        FOLDERS | {"train/a/x.heic": b"?", "train/a/y.HEIC": b"?", "train/b/noname": b"?", "test/b/z.txt": b""}
    )
    train, test = of_kind(loaded, "skipped files")
    assert train.text == "3 files of train skipped: 2 .heic, 1 without a suffix"
    assert train.paths == ("train/a/x.heic", "train/a/y.HEIC", "train/b/noname")
    assert (train.split, train.count) == ("train", 3)
    assert (test.text, test.paths) == ("1 file of test skipped: 1 .txt", ("test/b/z.txt",))


def test_a_folder_of_nothing_but_pictures_has_no_note(read: Any) -> None:
    assert read(FOLDERS).noted == ()


def test_skipped_files_are_listed_where_the_test_split_is_drawn(read: Any) -> None:
    many = {
        f"train/{name}/{number}.png": grey(number)
        for name, first in (("a", 0), ("b", 100))
        for number in range(first, first + 40)
    }
    loaded = read(many | {"train/a/x.heic": b"?"}, test_fraction=0.4)
    assert [note.paths for note in loaded.noted] == [("train/a/x.heic",)]


def test_labels_of_metadata_that_contradict_folders_are_named(read: Any) -> None:
    lines = dict.fromkeys(("train", "test"), "file_name,label\n")
    for path in FOLDERS:
        split, name, file = path.split("/")
        lines[split] += f"{name}/{file},{'b' if path == 'train/a/6.png' else name}\n"
    unlisted = {"train/a/extra.png": grey(99)}
    loaded = read(FOLDERS | unlisted | {f"{split}/metadata.csv": text.encode() for split, text in lines.items()})
    (found,) = of_kind(loaded, "contradicting labels")
    assert found.text == (
        "1 picture of train in the folder of another class than the metadata says, which count: train/a/6.png is 'b'"
    )
    assert (found.paths, found.count, found.split) == (("train/a/6.png",), 1, "train")
    (skipped,) = of_kind(loaded, "skipped files")
    assert skipped.text == "1 file of train skipped: 1 .png that metadata does not list"
    assert skipped.paths == ("train/a/extra.png",)


def test_folders_that_are_no_classes_contradict_nothing(read: Any) -> None:
    files, lines = {}, {}
    for split, first in (("train", 0), ("test", 50)):
        names = [f"{number}.png" for number in range(first, first + 4)]
        files |= {f"{split}/images/{name}": grey(int(name[:-4])) for name in names}
        lines[f"{split}/metadata.jsonl"] = "".join(
            f'{{"file_name": "images/{name}", "label": "{"cat" if place % 2 else "dog"}"}}\n'
            for place, name in enumerate(names)
        ).encode()
    loaded = read(files | lines)
    assert loaded.label_names == ("cat", "dog")
    assert loaded.noted == ()


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_metadata_is_read_as_every_file_of_its_kind(suffix: str, read: Any) -> None:
    """Codes and words for a missing value stay texts, also after a hundred rows of numbers."""
    labels = ["01", "1", "NA", "2026-01-31"]
    files = {}
    for split, first in (("train", 0), ("test", 100)):
        rows = [(f"p/{number}.png", labels[number % 4]) for number in range(first, first + 8)]
        files |= {f"{split}/{name}": grey(int(name[2:-4])) for name, _ in rows}
        lines = [f"{name},{label}" for name, label in rows]
        if suffix == "jsonl":
            lines = [json.dumps({"file_name": name, "label": label}) for name, label in rows]
        head = ["file_name,label"] if suffix == "csv" else []
        files[f"{split}/metadata.{suffix}"] = "\n".join([*head, *lines]).encode()
    loaded = read(files)
    assert loaded.label_names == ("01", "1", "2026-01-31", "NA")
    assert [loaded.label_names[target] for target in loaded.targets] == labels * 2
    assert loaded.files == (f"train/metadata.{suffix}", f"test/metadata.{suffix}")
    found = [Path(cell["path"]).name for cell in loaded.train.with_format("arrow")["image"].to_pylist()]
    assert found == [f"{number}.png" for number in range(8)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../a.png,a", r"train/metadata.csv row 2: column 'file_name' is '../a.png', which does not lie below"),
        ("/etc/x.png,a", r"row 2: column 'file_name' is '/etc/x.png'"),
        ("file://x.png,a", r"row 2: column 'file_name' is 'file://x.png'"),
    ],
)
def test_metadata_names_pictures_below_its_folder_alone(line: str, message: str, read: Any) -> None:
    names = [path.removeprefix("train/") for path in FOLDERS if path.startswith("train/")]
    rows = [f"{name},{name[0]}" for name in names[:2]]
    with pytest.raises(SourceError, match=message):
        read(FOLDERS | {"train/metadata.csv": "\n".join(["file_name,label", *rows, line]).encode()})


def test_metadata_of_one_split_goes_with_folders_of_the_other(read: Any) -> None:
    names = [path.removeprefix("train/") for path in FOLDERS if path.startswith("train/")]
    lines = [f"{name},{name[0]}" for name in names]
    loaded = read(FOLDERS | {"train/metadata.csv": "\n".join(["file_name,label", *lines]).encode()})
    assert (loaded.label_names, loaded.test_targets.tolist()) == (("a", "b"), [0, 0, 0, 1, 1, 1])


def test_metadata_without_pictures_is_refused(read: Any) -> None:
    with pytest.raises(SourceError, match=r"train/metadata\.csv: no column file_name"):
        read(FOLDERS | {"train/metadata.csv": b"name,label\na/5.png,a\n"})


@pytest.mark.parametrize(("names", "shown"), [(None, "1"), (["a", "b"], "1")])
def test_class_numbers_of_metadata_contradict_folders(names: list[str] | None, shown: str, read: Any) -> None:
    lines = dict.fromkeys(("train", "test"), "file_name,label\n")
    for path in FOLDERS:
        split, name, file = path.split("/")
        number = "ab".index(name) if path != "train/a/6.png" else 1
        lines[split] += f"{name}/{file},{number}\n"
    files = FOLDERS | {f"{split}/metadata.csv": text.encode() for split, text in lines.items()}
    keys = {"test": "test"} | ({"label_names": names} if names else {})
    (found,) = of_kind(read(files, **keys), "contradicting labels")
    assert (found.paths, found.count, found.split) == (("train/a/6.png",), 1, "train")
    assert found.text.endswith(f"train/a/6.png is {shown!r}")


def test_rows_of_folders_are_in_the_order_of_datasets(read: Any, tmp_path: Path) -> None:
    more = {f"train/{name}/{number}.png": grey(50 + number) for name in ("a-b", "B", "a b") for number in (1, 10, 2)}
    loaded = read(FOLDERS | more)
    whole = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "train"), split="train", cache_dir=tmp_path / "c"
    )
    theirs = whole.cast_column("image", datasets.Image(decode=False))
    ours = [cell["path"] for cell in loaded.train.with_format("arrow")["image"].to_pylist()]
    assert ours == [row["image"]["path"] for row in theirs]
    assert [loaded.label_names[target] for target in loaded.targets] == [Path(path).parent.name for path in ours]
    assert loaded.files == ("train", "test")


def test_texts_that_the_encoding_loses_are_findings() -> None:
    facts = {"terms": 9, "share of texts without a term": 0.25, "test share of texts without a term": 0.0}
    (found,) = text_findings(facts, {"train": 40, "test": 100})
    assert (found.kind, found.split, found.count) == ("texts without a term", "train", 10)
    assert found.text.startswith("25.0% of the train texts hold none of the 9 terms")
    cut = {"length": 64, "share of texts cut": 0.0001, "test share of texts cut": 0.99}
    rare, found = text_findings(cut, {"train": 40_000, "test": 200})
    assert (found.kind, found.split, found.count) == ("texts cut", "test", 198)
    assert found.text.startswith("99.0% of the test texts cut at 64 tokens")
    assert (rare.count, rare.text[:34]) == (4, "less than 0.1% of the train texts ")


def test_the_report_says_shares_of_texts_that_are_none_too() -> None:
    facts = {"length": 64, "share of texts cut": 0.0, "test share of texts cut": 0.015}
    assert shares_text(facts) == "0.0% of the training texts and 1.5% of the test texts are cut at 64 tokens."
    assert shares_text({"range of floats": [0, 1]}) == ""


def test_samples_of_ones_own_task_are_checked_as_wholes() -> None:
    train = pl.DataFrame({"row": [0, 1, 2, 3], "content_hash": ["a", "b", "a", "c"]})
    test = pl.DataFrame({"row": [0, 1, 2], "content_hash": ["x", "c", "a"]})
    leaked, duplicates = own_findings({"train": train, "test": test})
    assert (leaked.kind, leaked.count, leaked.rows) == ("leaked", 2, (("test", 1), ("test", 2)))
    assert leaked.text == "2 test samples of 3 also in train: results on test are too good (rows 1, 2)"
    assert (duplicates.kind, duplicates.split, duplicates.count) == ("duplicates", "train", 2)
    assert duplicates.text == "1 group of equal train samples, 1 more than needed (rows 0, 2)"
    assert (leaked.importance, duplicates.importance) == (0, 1)
    assert own_findings({"train": train[3:], "test": test[:1]}) == []
