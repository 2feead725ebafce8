"""Pictures have one identity and one look; what an image folder leaves out or contradicts is said."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from PIL import Image
from pydantic import TypeAdapter

from secateur.pipelines.data import types
from secateur.pipelines.data.check import Finding, check_data, text_findings
from secateur.pipelines.data.identity import hex_of, image_hashes
from secateur.pipelines.data.sources import Columns, Loaded, Source, load
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


def test_texts_that_the_encoding_loses_are_findings() -> None:
    facts = {"terms": 9, "share of texts without a term": 0.25, "test share of texts without a term": 0.01}
    (found,) = text_findings(facts, {"train": 40, "test": 100})
    assert (found.kind, found.split, found.count) == ("texts without a term", "train", 10)
    assert found.text.startswith("25.0% of the train texts hold none of the 9 terms")
    cut = {"length": 64, "share of texts cut": 0.0, "test share of texts cut": 0.99}
    (found,) = text_findings(cut, {"train": 40, "test": 200})
    assert (found.kind, found.split, found.count) == ("texts cut", "test", 198)
    assert found.text.startswith("99.0% of the test texts cut at 64 tokens")
