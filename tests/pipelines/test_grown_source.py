"""A scan of a grown source hashes the new rows alone, and gives the shards of a fresh scan."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny_encoder
from pydantic import TypeAdapter
from small_studies import inputs_made
from spread_studies import picture, small_shards

from secateur.pipelines.data import scan
from secateur.pipelines.data.earlier import shards_kept
from secateur.pipelines.data.source_kinds import csv, jsonl
from secateur.pipelines.data.sources import Columns, Source, load
from secateur.pipelines.runs.known_blocks import KnownBlocks
from secateur.pipelines.studies.files import StudyFile
from secateur.trainers.contract import Data
from secateur.trainers.modalities.images import ImageEncoder
from secateur.trainers.passes.embeddings import EmbeddingSettings, embed

TABLE, PICTURES = Columns(features=["x", "word"], label="label"), Columns(image="image", label="label")


class Counted:
    """Counts of hashed rows and of files scanned for types."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.rows = self.looks = 0
        divided = scan.divided

        def counting(table: Any, *arguments: Any) -> Any:
            self.rows += table.num_rows
            return divided(table, *arguments)

        patch.setattr(scan, "divided", counting)
        for kind in (csv.CsvFile, jsonl.JsonlFile):
            patch.setattr(kind, "types", self.looking(kind.types))

    def looking(self, types: Any) -> Any:
        def look(*arguments: Any) -> Any:
            self.looks += 1
            return types(*arguments)

        return look


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    monkeypatch.setattr(csv, "BLOCK", 500)
    monkeypatch.setattr(jsonl, "BLOCK", 500)
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.parts.PICTURES", 10)
    monkeypatch.setattr(scan, "PICTURE_ROWS", 10)
    with small_shards(50):
        yield Counted(monkeypatch)


def rows_of(start: int, count: int, word: str = "w") -> pl.DataFrame:
    numbers = np.arange(start, start + count)
    return pl.DataFrame({"x": numbers / 4, "word": [f"{word}{n % 17}" for n in numbers], "label": numbers % 2})


def write(path: Path, frame: pl.DataFrame) -> None:
    getattr(frame, {".csv": "write_csv", ".jsonl": "write_ndjson", ".parquet": "write_parquet"}[path.suffix])(path)


def read(folder: Path, kind: str, cache: str, columns: Columns = TABLE, **keys: Any) -> dict[str, bytes]:
    """The shards of both splits by name, with the revision and the label names."""
    source: Any = TypeAdapter(Source).validate_python(
        {"kind": kind, "train": f"*.{kind}", "test_fraction": 0.3, **keys}
    )
    loaded = load(source, columns, folder, folder / cache)
    shards = {f"{split} {path.name}": path.read_bytes() for split, rows in loaded.rows.items() for path in rows.shards}
    return shards | {"revision": loaded.revision.encode(), "names": repr(loaded.label_names).encode()}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_files_that_are_new_are_read_alone(kind: str, tmp_path: Path, counted: Counted) -> None:
    for place, name in enumerate("abc"):
        write(tmp_path / f"{name}.{kind}", rows_of(200 * place, 200))
    read(tmp_path, kind, "cache")
    assert (counted.rows, counted.looks) == (600, 0 if kind == "parquet" else 3)
    write(tmp_path / f"d.{kind}", rows_of(600, 6))
    grown = read(tmp_path, kind, "cache")
    # The last shard of the earlier scan ended with the source, so a scan reads its rows again.
    assert 600 + 6 <= counted.rows <= 600 + 6 + 200
    assert counted.looks == (0 if kind == "parquet" else 4)
    assert grown == read(tmp_path, kind, "fresh")
    assert {path.name for path in tmp_path.rglob("*.partial")} == set()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_rows_that_were_appended_to_a_file_are_read_alone(kind: str, tmp_path: Path, counted: Counted) -> None:
    write(tmp_path / f"a.{kind}", rows_of(0, 900))
    read(tmp_path, kind, "cache")
    more = rows_of(900, 9)
    text = more.write_csv(include_header=False) if kind == "csv" else more.write_ndjson()
    with (tmp_path / f"a.{kind}").open("a") as file:
        file.write(text)
    grown = read(tmp_path, kind, "cache")
    assert 909 <= counted.rows <= 900 + 9 + 80
    assert grown == read(tmp_path, kind, "fresh")


@pytest.mark.parametrize("links", [True, False], ids=["links", "copies"])
def test_a_scan_that_was_killed_while_it_took_earlier_shards_goes_on(
    links: bool, tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.csv", rows_of(0, 400))
    read(tmp_path, "csv", "cache")
    write(tmp_path / "b.csv", rows_of(400, 6))

    def killed(path: Path, *_: Any, **__: Any) -> None:
        if path.name == "progress.json":
            raise KeyboardInterrupt

    def no_links(*_: Any) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        if not links:
            patch.setattr(Path, "hardlink_to", no_links)
        with patch.context() as within:
            within.setattr("secateur.pipelines.data.earlier.write_bytes", killed)
            with pytest.raises(KeyboardInterrupt):
                read(tmp_path, "csv", "cache")
        grown = read(tmp_path, "csv", "cache")
    assert grown == read(tmp_path, "csv", "fresh")
    assert {path.name for path in tmp_path.rglob("*.partial")} == set()


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ("a row in the middle", 200 + 200),
        ("a file before the others", 603),
        ("a type", 600),
        ("the division", 600),
        ("a file that is gone", 400),
    ],
)
def test_what_has_changed_is_read_anew(change: str, again: int, tmp_path: Path, counted: Counted) -> None:
    for place, name in enumerate("abc"):
        write(tmp_path / f"{name}.csv", rows_of(200 * place, 200))
    read(tmp_path, "csv", "cache")
    keys: dict[str, Any] = {}
    if change == "a row in the middle":
        write(tmp_path / "b.csv", pl.concat([rows_of(200, 100, "v"), rows_of(300, 100)]))
    elif change == "a file before the others":
        write(tmp_path / "A.csv", rows_of(5000, 3))
    elif change == "a type":
        (tmp_path / "c.csv").write_text((tmp_path / "c.csv").read_text().replace("\n100.0,", "\nhundred,"))
    elif change == "the division":
        keys = {"test_fraction": 0.4}
    else:
        (tmp_path / "a.csv").unlink()
    now = read(tmp_path, "csv", "cache", **keys)
    assert again <= counted.rows - 600 <= again + 50
    assert now == read(tmp_path, "csv", "fresh", **keys)


def test_pictures_in_files_of_rows_are_decoded_once_and_those_beside_them_again(
    tmp_path: Path, counted: Counted
) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "beside.png").write_bytes(picture(random, 1))
    for name in "abcdefgh":
        cells = [{"bytes": picture(random, row), "path": None} for row in range(20)]
        pl.DataFrame({"image": cells, "label": ["u", "v"] * 10}).write_parquet(tmp_path / f"{name}.parquet")
        if name == "g":
            read(tmp_path, "parquet", "cache", PICTURES)
    before = counted.rows
    grown = read(tmp_path, "parquet", "cache", PICTURES)
    assert 20 <= counted.rows - before <= 20 + 50
    assert grown == read(tmp_path, "parquet", "fresh", PICTURES)
    cells = [{"bytes": None, "path": str(tmp_path / "beside.png")}] * 20
    pl.DataFrame({"image": cells, "label": ["u", "v"] * 10}).write_parquet(tmp_path / "i.parquet")
    before = counted.rows
    read(tmp_path, "parquet", "cache", PICTURES)
    assert counted.rows - before == 180, "what lies beside the rows may have changed"


def test_shards_end_where_rows_are_the_same() -> None:
    starts = [[0, 0], [0, 50], [1, 0], [1, 50], [2, 20]]
    assert shards_kept(starts, 2, False) == 3
    assert shards_kept(starts, 2, True) == 4
    assert shards_kept(starts, 3, False) == 4
    assert shards_kept(starts, 1, False) == 2
    assert shards_kept(starts, 0, False) == 0
    assert shards_kept([], 5, False) == 0


def test_rows_that_were_encoded_by_the_same_encoder_are_not_encoded_again(
    write_study: Callable[..., StudyFile], tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    random, encoded = np.random.default_rng(0), 0
    encode = ImageEncoder.encode_batch

    def counting(encoder: ImageEncoder, table: Any, first: int = 0) -> Any:
        nonlocal encoded
        encoded += table.num_rows
        return encode(encoder, table, first)

    def write(name: str) -> None:
        cells = [{"bytes": picture(random, row), "path": None} for row in range(20)]
        pl.DataFrame({"image": cells, "label": ["u", "v"] * 10}).write_parquet(tmp_path / f"{name}.parquet")

    monkeypatch.setattr(ImageEncoder, "encode_batch", counting)
    for name in "abcdefgh":
        write(name)
    file = write_study(
        source={"kind": "parquet", "train": "[a-z].parquet", "test_fraction": 0.3},
        columns={"image": "image", "label": "label"},
    )
    inputs_made(file, tmp_path / "grown")
    assert encoded == 160
    write("i")
    now = inputs_made(file, tmp_path / "grown")
    assert 20 <= encoded - 160 <= 20 + 60
    assert now == inputs_made(file, tmp_path / "fresh")
    before = encoded
    inputs = tmp_path / "grown" / "blobs" / "inputs.npy"
    inputs.write_bytes(inputs.read_bytes()[:-1] + b"x")
    write("j")
    other = inputs_made(file, tmp_path / "grown")
    assert encoded - before > 100, "an array that somebody changed is not read"
    shutil.rmtree(tmp_path / "fresh")
    assert other == inputs_made(file, tmp_path / "fresh")


def test_blocks_that_an_encoder_made_of_the_same_texts_are_not_made_again(
    tmp_path: Path,
) -> None:
    encoder = tiny_encoder.saved(tmp_path / "encoder", ["a b c", "d e"])
    settings = EmbeddingSettings(kind="encoder", encoder=encoder, block=4)
    random, record, places = np.random.default_rng(0), tmp_path / "record.json", [tmp_path / f"{n}" for n in range(4)]
    texts = [" ".join(random.choice([*"abcde"], 1 + row % 5)) for row in range(14)]

    def filled(held: list[str], content: str | None = "one", array: Path | None = tmp_path / "old.npy") -> list[int]:
        for place in places:
            place.unlink(missing_ok=True)
        data = Data(np.zeros((len(held), 2), np.int32), np.zeros(len(held), np.int64), 1)
        known = KnownBlocks.of(record, settings, data, held)
        count = known.fill(places[: len(known.blocks)], array, content, settings.block)
        there = [number for number, place in enumerate(places) if place.exists()]
        assert count == len(there)
        return there

    def vectors(held: list[str]) -> np.ndarray:
        data = Data(np.zeros((len(held), 2), np.int32), np.zeros(len(held), np.int64), 1)
        return np.concatenate(list(embed(settings, data, texts=held)))

    assert filled(texts) == []
    np.save(tmp_path / "old.npy", vectors(texts[:10]))
    first = Data(np.zeros((10, 2), np.int32), np.zeros(10, np.int64), 1)
    KnownBlocks.of(record, settings, first, texts[:10]).remember("one")
    assert filled(texts) == [0, 1], "the third block was shorter"
    whole = vectors(texts)
    for number in (0, 1):
        np.testing.assert_array_equal(np.load(places[number]), whole[4 * number : 4 * number + 4])
    assert filled([*texts[:4], "another", *texts[5:]]) == [0]
    assert filled(["b", "b", "c", "d", *texts[:4]]) == [1], "a block that moved by its own length"
    assert filled(texts, "another array") == filled(texts, None) == filled(texts, array=None) == []
    (tmp_path / "encoder" / "config.json").write_text((tmp_path / "encoder" / "config.json").read_text() + " ")
    assert filled(texts) == [], "of another encoder"
