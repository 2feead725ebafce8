"""Hashes follow what a model is shown, not how a file stores it; a slow reference and real data agree."""

import io
import os
import struct
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from sample_tables import samples_table

from secateur.pipelines.data import identity as samples
from secateur.pipelines.data.classes import labels_of
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import content_hashes, inspect_samples
from secateur.trainers.modalities.decoding import decode_image

DATA = Path(os.environ.get("SECATEUR_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
PICTURE, TEXT = Columns(image="image", label="label"), Columns(text="text", label="label")


@pytest.fixture(scope="module")
def fashion() -> datasets.Dataset:
    """The first 300 images of Fashion-MNIST's test split, as its Parquet file stores them."""
    path = DATA / "fashion_mnist" / "test.parquet"
    if not path.exists():
        pytest.skip(f"no {path}: set SECATEUR_DATA to the folder of real data")
    return datasets.Dataset(pl.read_parquet(path, n_rows=300).to_arrow()).cast_column("image", datasets.Image())


def encoded(picture: Image.Image, **how: Any) -> dict[str, Any]:
    buffer = io.BytesIO()
    picture.save(buffer, **how)
    return {"bytes": buffer.getvalue(), "path": None}


def pictures(cells: list[Any], labels: list[int] | None = None) -> datasets.Dataset:
    features = datasets.Features(image=datasets.Image(decode=False), label=datasets.Value("int64"))
    return datasets.Dataset.from_dict({"image": cells, "label": labels or [0] * len(cells)}, features=features)


def texts(values: list[str | None], labels: list[int] | None = None) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": values, "label": labels or [0] * len(values)})


def records(columns: dict[str, Any]) -> tuple[datasets.Dataset, Columns]:
    count = len(next(iter(columns.values())))
    table = pa.table(columns | {"label": pa.array([0] * count)})
    return datasets.Dataset(table), Columns(features=list(columns), label="label")


def picture(mode: str = "RGB", size: tuple[int, int] = (5, 3), seed: int = 0) -> Image.Image:
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode=None)


def test_fashion_mnist_equals_a_literal_reference(fashion: datasets.Dataset) -> None:
    expected = []
    for row in fashion:
        pixels = np.asarray(row["image"])
        content = b"image L 28 28 " + b"".join(int(v).to_bytes(1) for v in pixels.ravel())
        expected.append(
            xxhash.xxh3_128(xxhash.xxh3_128(content).digest() + struct.pack("<q", row["label"])).hexdigest()
        )
    assert content_hashes(fashion, PICTURE).to_list() == expected


def test_hashes_are_pinned() -> None:
    """Manifests hold them: a change of these is a change of every manifest's identity."""
    rows, columns = records({"a": [1, None], "b": ["x", "y"]})
    assert content_hashes(rows, columns).to_list() == PINNED["features"]
    assert content_hashes(texts(["naïve", ""], [0, 3]), TEXT).to_list() == PINNED["text"]
    assert content_hashes(pictures([encoded(Image.new("L", (2, 1), 7), format="PNG")]), PICTURE)[0] == PINNED["image"]


PINNED: dict[str, Any] = {
    "features": ["9173c891f072a95c08c2916dea4ca394", "2aacfe7154249b6d6fec58fe69aa36c5"],
    "text": ["4a34500b396e9bece3d4e74c6c3b79eb", "ae9f840d4cac136ba4ff136460c955d2"],
    "image": "9ccf0278472ba48533bec6351ad3a95c",
}


@pytest.mark.parametrize("how", [{"format": "BMP"}, {"format": "TIFF"}, {"format": "WEBP", "lossless": True}], ids=str)
def test_a_lossless_copy_of_an_image_keeps_its_hash(how: dict[str, Any]) -> None:
    original = encoded(picture(), format="PNG", compress_level=0)
    first, second = content_hashes(pictures([original, encoded(picture(), **how)]), PICTURE)
    assert first == second


def test_images_that_look_different_hash_differently() -> None:
    shown = picture("L", (4, 4))
    cells = [
        encoded(shown, format="PNG"),
        encoded(shown.convert("RGB"), format="PNG"),
        encoded(Image.frombytes("L", (8, 2), shown.tobytes()), format="PNG"),
        encoded(shown, format="JPEG"),
    ]
    assert content_hashes(pictures(cells), PICTURE).n_unique() == len(cells)


def test_palettes_count_as_the_colours_they_stand_for() -> None:
    plain = Image.fromarray(np.tile(np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8), (2, 2, 1)))
    indexed = plain.quantize(4)
    assert indexed.mode == "P"
    swapped = indexed.copy()
    swapped.putpalette([255 - value for value in indexed.getpalette() or []])
    hashes = content_hashes(pictures([encoded(p, format="PNG") for p in (plain, indexed, swapped)]), PICTURE)
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_image_is_hashed_as_its_exif_turns_it() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(picture(), format="PNG", exif=exif)
    upright = encoded(picture().transpose(Image.Transpose.ROTATE_270), format="PNG")
    hashes = content_hashes(pictures([turned, upright]), PICTURE)
    assert hashes[0] == hashes[1]


def test_decoding_agrees_with_datasets(fashion: datasets.Dataset) -> None:
    undecoded = fashion.cast_column("image", datasets.Image(decode=False))
    for ours, theirs in zip(undecoded.select(range(50))["image"], fashion.select(range(50))["image"], strict=True):
        found = decode_image(ours)
        assert found is not None
        assert (found.mode, found.size, found.tobytes()) == (theirs.mode, theirs.size, theirs.tobytes())


def broken_cells(tmp_path: Path) -> dict[str, Any]:
    whole = encoded(picture(), format="PNG")["bytes"]
    file = tmp_path / "torn.png"
    file.write_bytes(whole[:40])
    return {
        "image cannot be decoded": {"bytes": b"no picture", "path": None},
        "image 'torn.jpg' cannot be decoded": {"bytes": whole[: len(whole) // 2], "path": "torn.jpg"},
        f"image {str(file)!r} cannot be decoded": {"bytes": None, "path": str(file)},
        "image '/nowhere/a.png' is not there": {"bytes": None, "path": "/nowhere/a.png"},
        "image is missing": None,
    }


def test_undecodable_images_are_named_and_hash_as_their_bytes(tmp_path: Path) -> None:
    cells = broken_cells(tmp_path)
    table = inspect_samples(pictures([*cells.values(), encoded(picture(), format="PNG")]), PICTURE)
    assert table["fault"].to_list() == [*cells, None]
    assert [decode_image(cell) for cell in cells.values()] == [None] * len(cells)
    raw = xxhash.xxh3_128_hexdigest(b"raw imageno picture")
    assert table["input_hash"][0] == raw
    # The two that have no bytes at all are one and the same.
    assert table["input_hash"].n_unique() == len(table) - 1


def test_texts() -> None:
    table = inspect_samples(texts(["a", "a", "b", "", None, " \n", "é", "e\u0301"], [0, 1, 0, 0, 0, 0, 0, 0]), TEXT)
    assert table["content_hash"].n_unique() == 8
    assert table["input_hash"].n_unique() == 7
    assert table["fault"].to_list() == [None] * 3 + ["text is empty", "text is missing", "text is empty", None, None]


def test_boundaries_between_features_count() -> None:
    rows, columns = records({"x": ["ab", "a"], "y": ["c", "bc"]})
    assert content_hashes(rows, columns).n_unique() == 2


def hash_of(**columns: pa.Array) -> str:
    return str(content_hashes(*records(columns))[0])


def test_numbers_count_by_value() -> None:
    same = [pa.array([1], t) for t in (pa.int8(), pa.uint64(), pa.float32(), pa.float64())]
    assert len({hash_of(x=values) for values in same}) == 1
    assert hash_of(x=pa.array([-0.0])) == hash_of(x=pa.array([0]))
    assert hash_of(x=pa.array([2**60])) == hash_of(x=pa.array([2.0**60]))
    assert hash_of(x=pa.array([2**53 + 1])) != hash_of(x=pa.array([2.0**53]))
    assert hash_of(x=pa.array([2**64 - 1], pa.uint64())) != hash_of(x=pa.array([-1]))
    assert hash_of(x=pa.array([np.nan])) == hash_of(x=pa.array([None], pa.string())) == hash_of(x=pa.nulls(1))
    different = [pa.array([1]), pa.array(["1"]), pa.array([True]), pa.array([None], pa.int64()), pa.array([""])]
    assert len({hash_of(x=values) for values in different}) == len(different)


CELL = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_infinity=True), st.text(max_size=4)
)


def meaning(value: Any) -> tuple[str, Any]:
    """The documented equality of feature values, told another way: by Python's own exact comparison."""
    if value is None or value != value:
        return ("missing", None)
    if isinstance(value, bool | str):
        return (type(value).__name__, value)
    return ("number", value)


@settings(max_examples=80, deadline=None)
@given(st.tuples(CELL, CELL), st.tuples(CELL, CELL))
def test_records_hash_alike_if_and_only_if_they_mean_the_same(first: tuple[Any, Any], second: tuple[Any, Any]) -> None:
    one, two = (hash_of(p=pa.array([a]), q=pa.array([b])) for a, b in (first, second))
    assert (one == two) == ([meaning(v) for v in first] == [meaning(v) for v in second])


def test_order_of_columns_does_not_count_but_names_do() -> None:
    rows, columns = records({"x": [1, 2], "y": ["a", "b"]})
    backwards = Columns(features=["y", "x"], label="label")
    renamed = rows.rename_column("x", "z")
    assert content_hashes(rows, columns).equals(content_hashes(rows, backwards))
    assert not set(content_hashes(rows, columns)) & set(
        content_hashes(renamed, Columns(features=["z", "y"], label="label"))
    )


def test_features_of_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'x' holds list.*numbers, booleans and strings"):
        hash_of(x=pa.array([[1]]))


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(12)), st.integers(1, 13))
def test_hashes_go_with_their_rows_in_any_order_and_batch(order: list[int], batch: int) -> None:
    rows = texts([f"sentence {i % 5}" for i in range(12)], [i % 3 for i in range(12)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(samples.BATCH, "text", batch)
        moved = inspect_samples(rows.select(order), TEXT)
    straight = inspect_samples(rows, TEXT)
    assert moved.drop("row").equals(straight[order].drop("row"))
    assert moved["row"].to_list() == list(range(12))


def test_progress_and_bounded_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(samples.BATCH, "text", 4)
    told: list[tuple[int, int]] = []
    content_hashes(texts(["a"] * 10), TEXT, lambda done, total: told.append((done, total)))
    assert told == [(4, 10), (8, 10), (10, 10)]
    assert [len(batch) for batch in samples.batches(texts(["a"] * 10), TEXT)] == [4, 4, 2]


def test_table() -> None:
    table = samples_table(texts(["a", "b"], [1, 0]), TEXT)
    assert table.schema == {"row": pl.Int64, "content_hash": pl.String, "label": pl.Int64}
    assert table["label"].to_list() == [1, 0]
    assert table["content_hash"].str.contains("^[0-9a-f]{32}$").all()
    assert samples_table(texts(["a"]).select([]), TEXT).schema == table.schema


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat", "dog"], r"'label' holds string, for example 'cat', but .*class_encode_column\('label'\)"),
        ([1.0, 2.0], r"'label' holds float64, for example 1.0, but .*cast the column to int64"),
        ([True, False], r"holds bool.*cast the column to int64"),
        ([0, None], r"'label' is null at row 1: drop or label"),
        ([0, -1, -1], r"negative \(-1\) at rows 1, 2: .*unlabelled"),
    ],
)
def test_labels_that_are_no_classes(labels: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labels_of(datasets.Dataset.from_dict({"text": ["a"] * len(labels), "label": labels}), TEXT)


def test_labels_are_int64_whatever_they_were() -> None:
    rows = datasets.Dataset(pa.table({"text": ["a", "b"], "label": pa.array([1, 0], pa.uint8())}))
    assert labels_of(rows, TEXT).dtype == np.int64
    assert labels_of(rows.cast_column("label", datasets.ClassLabel(names=["x", "y"])), TEXT).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label": "y"}, "exactly one of image, text and features, got none"),
        ({"label": "y", "image": "a", "text": "b"}, "got image and text"),
        ({"label": "y", "features": []}, "names no column"),
        ({"label": "y", "features": ["a", "a"]}, "'a' twice"),
        ({"label": "y", "text": "y"}, "cannot be an input as well"),
        ({"label": "y", "txt": "x"}, "Extra inputs"),
    ],
)
def test_columns_are_checked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Columns(**given)
