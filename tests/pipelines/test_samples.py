"""Hashes depend on the model's input, not on the file format; a slow reference and real data agree."""

import io
import os
import struct
import unicodedata
from decimal import Decimal
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
from sample_tables import content_hashes, samples_table

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import hex_of, input_hashes, missing_in
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.parts import DatasetSplit
from secateur.pipelines.data.types import series_of
from secateur.trainers.modalities.decoding import decode_image

DATA = Path(os.environ.get("SECATEUR_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
PICTURE, TEXT = Columns(image="image", label="label"), Columns(text="text", label="label")


@pytest.fixture(scope="module")
def fashion() -> datasets.Dataset:
    """The first 300 images of Fashion-MNIST's test split, in the cells of its Parquet file."""
    path = DATA / "fashion_mnist" / "test.parquet"
    if not path.exists():
        pytest.skip(f"no {path}: set SECATEUR_DATA to the folder of real data")
    return datasets.Dataset(pl.read_parquet(path, n_rows=300).to_arrow()).cast_column("image", datasets.Image())


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        (pl.Series([1, 2]), [False, False]),
        (pl.Series([1, None]), [False, True]),
        (pl.Series([1.0, float("nan"), None]), [False, True, True]),
        (pl.Series(["nan", None]), [False, True]),
        (pl.Series([None, None]), [True, True]),
        (pl.Series([], dtype=pl.String), []),
    ],
)
def test_gaps_are_nulls_and_numbers_that_are_none(values: pl.Series, missing: list[bool]) -> None:
    found = missing_in(values)
    assert (found.dtype, found.tolist()) == (np.bool_, missing)


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


def inspected(rows: datasets.Dataset, columns: Columns) -> pl.DataFrame:
    """`input_hash` and `fault` of each row."""
    split = DatasetSplit("rows", rows)
    tables = [input_hashes(table, columns) for table in split.batches(split.types(columns.inputs))]
    hashes, faults = np.concatenate([words for words, _ in tables]), pl.concat([faults for _, faults in tables])
    return pl.DataFrame({"input_hash": series_of(hex_of(hashes)), "fault": faults})


def picture(mode: str = "RGB", size: tuple[int, int] = (5, 3), seed: int = 0) -> Image.Image:
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode=None)


def test_fashion_mnist_equals_a_literal_reference(fashion: datasets.Dataset) -> None:
    expected = []
    for row in fashion:
        pixels = np.asarray(row["image"])
        content = b"image L 28 28 " + b"".join(int(v).to_bytes(1) for v in pixels.ravel())
        expected.append(target_reference(xxhash.xxh3_128(content).digest(), str(row["label"])))
    assert content_hashes(fashion, PICTURE).to_list() == expected


def record_reference(head: bytes, cells: list[tuple[int, bytes, bytes | None]]) -> bytes:
    """xxh3-128 of canonical bytes, cell by cell: kind, word, and of a text the upper half of its hash."""
    rest = 0
    for place, (_, _, upper) in enumerate(cells):
        rest += int.from_bytes(upper or b"") * ((0x9E3779B97F4A7C15 * (2 * place + 1)) % 2**64)
    words = b"".join(word for _, word, _ in cells) + struct.pack("<Q", rest % 2**64)
    return xxhash.xxh3_128(xxhash.xxh3_128(head).digest() + bytes(kind for kind, *_ in cells) + words).digest()


def text_cell(hashed: bytes) -> tuple[int, bytes, bytes]:
    return 5, hashed[8:][::-1], hashed[:8]


def target_reference(inputs: bytes, label: str) -> str:
    cells = [text_cell(inputs), text_cell(xxhash.xxh3_128(label.encode()).digest())]
    return record_reference(b"target", cells).hex()


def test_records_equal_a_literal_reference() -> None:
    rows, columns = records({"b": ["naïve", None], "a": [1, 2**53 + 1], "c": [True, None]})
    sizes = b"".join(struct.pack("<Q", len(name)) + name for name in (b"a", b"b", b"c"))
    first = [
        (3, struct.pack("<d", 1.0), None),
        text_cell(xxhash.xxh3_128("naïve".encode()).digest()),
        (2, bytes(8), None),
    ]
    second = [(4, struct.pack("<q", 2**53 + 1), None), (0, bytes(8), None), (0, bytes(8), None)]
    expected = [target_reference(record_reference(b"features" + sizes, cells), "0") for cells in (first, second)]
    assert content_hashes(rows, columns).to_list() == expected


def test_hashes_are_pinned() -> None:
    """Manifests hold them: a change of these is a change of every manifest's identity."""
    rows, columns = records({"a": [1, None], "b": ["x", "y"]})
    assert content_hashes(rows, columns).to_list() == PINNED["features"]
    assert content_hashes(texts(["naïve", ""], [0, 3]), TEXT).to_list() == PINNED["text"]
    assert content_hashes(pictures([encoded(Image.new("L", (2, 1), 7), format="PNG")]), PICTURE)[0] == PINNED["image"]


PINNED: dict[str, Any] = {
    "features": ["492071d3c8199d09c8ba8f88ae7b6b23", "1b9aac88bea8b2597f862ab5b0dc42d2"],
    "text": ["79e070d887066b9e4d8b7dce7fefdb6d", "5248704fca5504e652cc55b5f0f7c7c0"],
    "image": "d1480ac01e3aae73ebf921d14b48fbb1",
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
    table = inspected(pictures([*cells.values(), encoded(picture(), format="PNG")]), PICTURE)
    assert table["fault"].to_list() == [*cells, None]
    assert [decode_image(cell) for cell in cells.values()] == [None] * len(cells)
    raw = xxhash.xxh3_128_hexdigest(b"raw imageno picture")
    assert table["input_hash"][0] == raw
    # The two that have no bytes at all are one and the same.
    assert table["input_hash"].n_unique() == len(table) - 1


def test_texts() -> None:
    rows = texts(["a", "a", "b", "", None, " \n", "é", "e\u0301", " b", "1", "1.0"], [0, 1, *[0] * 9])
    table = inspected(rows, TEXT)
    # One text in two forms of Unicode is one sample.
    assert content_hashes(rows, TEXT).n_unique() == 10
    assert table["input_hash"].n_unique() == 9
    faults = ["text is empty", "text is missing", "text is empty"]
    assert table["fault"].to_list() == [None] * 3 + faults + [None] * 5


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
    missing = [pa.array([np.nan]), pa.array([None], pa.string()), pa.nulls(1), pa.array([""]), pa.array([" "])]
    assert len({hash_of(x=values) for values in missing}) == 1
    assert hash_of(x=pa.array([1])) == hash_of(x=pa.array(["1"])) == hash_of(x=pa.array([" 1.0"]))
    different = [pa.array([1]), pa.array(["01"]), pa.array([True]), pa.array([None], pa.int64())]
    assert len({hash_of(x=values) for values in different}) == len(different)


CELL = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_infinity=True), st.text(max_size=4)
)


def meaning(value: Any) -> tuple[str, Any]:
    """The documented equality of feature values, by Python's own exact comparison."""
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return ("missing", None)
    if isinstance(value, bool | str):
        return (type(value).__name__, unicodedata.normalize("NFC", value) if isinstance(value, str) else value)
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


def test_a_decimal_is_the_number_that_it_is_written_as() -> None:
    for text in ("0.30", "-1.20", "1234.5678901", "0.0000001", "7.00"):
        assert hash_of(x=pa.array([Decimal(text)])) == hash_of(x=pa.array([float(text)]))
    assert hash_of(x=pa.array([Decimal(7)])) == hash_of(x=pa.array([7]))


def test_features_of_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'x' holds large_list.*numbers, booleans and strings"):
        hash_of(x=pa.array([[1]]))
    with pytest.raises(SourceError, match=r"'x' holds time64.*which no study reads: make it numbers or texts"):
        hash_of(x=pa.array([1], pa.time64("us")))


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(12)), st.integers(1, 13))
def test_hashes_go_with_their_rows_in_any_order_and_batch(order: list[int], batch: int) -> None:
    rows = texts([f"sentence {i % 5}" for i in range(12)], [i % 3 for i in range(12)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("secateur.pipelines.data.source_kinds.parts.TEXTS", batch)
        moved = content_hashes(rows.select(order), TEXT)
    assert moved.equals(content_hashes(rows, TEXT)[order])


def test_table() -> None:
    table = samples_table(texts(["a", "b"], [1, 0]), TEXT)
    assert table.schema == {"row": pl.Int64, "content_hash": pl.String, "label": pl.Int64}
    assert table["label"].to_list() == [1, 0]
    assert table["content_hash"].str.contains("^[0-9a-f]{32}$").all()
    assert samples_table(texts(["a"]).select([]), TEXT).schema == table.schema


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label": "y"}, "exactly one of image, text, features, completion and messages, got none"),
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
