"""Both ends of a score: the right rows, in order, as pictures or as escaped text."""

import base64
import io
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.pages.extremes import EXPLAIN, SHOWN, SIDE, ends, extremes
from secateur.pipelines.pages.previews import previews_in
from secateur.trainers.tasks.classification import Classification


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=60))
def test_ends_are_the_extreme_values_in_order(values: list[float]) -> None:
    scores = np.array(values, np.float32)
    low, high = ends(scores)
    assert len(low) == len(high) == min(SHOWN, len(values))
    np.testing.assert_array_equal(scores[low], np.sort(scores)[: len(low)])
    np.testing.assert_array_equal(scores[high], np.sort(scores)[::-1][: len(high)])
    assert len(set(low)) == len(low)


PARITY = Classification(2, ("even", "odd")).state()
XY = Classification(2, ("x", "y")).state()


def samples(previews: list[str | None]) -> pl.LazyFrame:
    count = len(previews)
    return pl.LazyFrame({"row": np.arange(count), "label": [row % 2 for row in range(count)], "preview": previews})


def test_images_become_strips_of_thumbnails_with_their_rows() -> None:
    inputs = np.stack([np.full((8, 8, 1), row * 12, np.uint8) for row in range(20)])
    text = extremes(np.arange(20, dtype=np.float32), inputs, samples([None] * 20), PARITY)
    assert "19 (odd, 19), 18 (even, 18)" in text
    assert "0 (even, 0), 1 (odd, 1)" in text
    first = text.split("base64,")[1].split(")")[0]
    sheet = Image.open(io.BytesIO(base64.b64decode(first)))
    assert sheet.size == (SHOWN * (SIDE + 4), SIDE)
    assert [sheet.getpixel((place * (SIDE + 4) + 1, 1)) for place in (0, 9)] == [
        (228,) * 3 + (255,),
        (120,) * 3 + (255,),
    ]
    assert sheet.getpixel((SIDE + 1, 1))[3] == 0, "gaps are transparent"
    assert len(text) < 100_000


def test_strips_stay_small_whatever_the_pictures() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2 * SHOWN, 64, 64, 3), dtype=np.uint8)
    text = extremes(np.arange(2 * SHOWN, dtype=np.float32), noise, samples([None] * 2 * SHOWN), PARITY)
    pictures = [part.split(")")[0] for part in text.split("base64,")[1:]]
    assert len(pictures) == 2
    for picture in pictures:
        assert len(picture) < 100_000
        sheet = Image.open(io.BytesIO(base64.b64decode(picture)))
        assert sheet.format == "WEBP"
        assert sheet.size == (SHOWN * (SIDE + 4), SIDE)


def test_text_becomes_a_table_that_no_sample_can_break() -> None:
    hostile = ["a | b", "<img src=x onerror=alert(1)>", "`code`", "![](http://track.er/a.png)", *["plain"] * 4]
    text = extremes(np.arange(8, dtype=np.float32), np.zeros((8, 3), np.float32), samples(hostile), PARITY)
    assert "<img" not in text
    assert "![](" not in text
    assert "a \\| b" in text
    rows = [line for line in text.splitlines()[2:-2] if line != "| … | | |"]
    assert all(line.replace("\\|", "").count("|") == 5 for line in rows)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (Columns(text="t", label="label"), ["two words", "", "x" * 119 + "…"]),
        (Columns(features=["a", "b"], label="label"), ["a=1, b=u", "a=2, b=None", "a=3, b=w"]),
    ],
)
def test_previews_show_text_or_features(columns: Columns, expected: list[str], tmp_path: Path) -> None:
    values = {"t": ["two\n words", None, "x" * 500], "a": [1, 2, 3], "b": ["u", None, "w"], "label": [0, 1, 0]}
    table = pa.table(values)
    for place, part in enumerate((table.slice(0, 2), table.slice(2))):
        with pa.ipc.new_file(str(tmp_path / f"{place:05}.arrow"), table.schema) as writer:
            writer.write_table(part)
    previews = previews_in(tmp_path, columns)
    assert previews is not None
    assert previews(np.array([2, 0, 1])) == [expected[2], expected[0], expected[1]]


def test_pictures_show_themselves(tmp_path: Path) -> None:
    assert previews_in(tmp_path, Columns(image="i", label="label")) is None


def test_samples_are_named_as_explain_takes_them() -> None:
    table = samples(["a", "b", "c"]).with_columns(file=pl.Series([0, 0, 1]), file_row=pl.Series([7, 9, 4]))
    scores, inputs = np.array([2, 1, 0], np.float32), np.zeros((3, 3), np.float32)
    one = extremes(scores[:2], inputs[:2], table.head(2), XY, ["train.csv"])
    assert "| 2 | train.csv:7 | x | a |" in one
    several = extremes(scores, inputs, table, XY, ["a.csv", "b.csv"])
    assert "| 0 | b.csv:4 | x | c |" in several
    paths = table.with_columns(path=pl.Series(["cat/1.png", "", "cat/3.png"]))
    pictures = extremes(scores, np.zeros((3, 2, 2, 3), np.uint8), paths, XY, ["a.csv", "b.csv"])
    assert "sample (label, score): cat/1.png (x, 2), a.csv:9 (y, 1), cat/3.png (x, 0)" in pictures
    assert several.endswith(EXPLAIN)
