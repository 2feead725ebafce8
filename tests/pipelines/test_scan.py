"""A killed scan or encoding resumes at its shard with the same bytes; no file unpacks beyond a limit."""

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from secateur.pipelines.data import preparation, types
from secateur.pipelines.data.preparation import write_inputs
from secateur.pipelines.data.scan import ROW
from secateur.pipelines.data.source_kinds.jsonl import JsonlFile
from secateur.pipelines.data.source_kinds.parquet import ParquetFile
from secateur.pipelines.data.sources import Columns, Loaded, Source, SourceError, load
from secateur.trainers.modalities.encoding import encoded_rows, fit_encoder
from secateur.trainers.modalities.tables import TableEncoding
from secateur.trainers.modalities.texts import TextEncoding
from secateur.trainers.sparse_rows import open_inputs

COLUMNS = Columns(features=["x", "word"], label="label")

KILLED = """
import os, signal, sys
import datasets
sys.path.insert(0, sys.argv[1])
from test_scan import KINDS, prepare_small
from pathlib import Path
from secateur.pipelines.data import preparation, scan

def killing(whole, writes):
    def counted(*arguments, **named):
        nonlocal writes
        writes -= 1
        if writes < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        whole(*arguments, **named)
    return counted

for kind in KINDS:
    for module in (scan, preparation):
        child = os.fork()
        if not child:
            module.write_bytes = killing(module.write_bytes, 2)
            prepare_small(kind, Path("."), Path("killed"))
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""
KINDS = ("parquet", "csv", "jsonl", "disk")


def prepare_small(kind: str, base: Path, cache: Path) -> None:
    """Load and encode two files in small batches and shards."""
    splits = {"train": "a.disk", "test": "b.disk"} if kind == "disk" else {"train": f"?.{kind}", "test_fraction": 0.3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("secateur.pipelines.data.scan.SHARD_ROWS", 70)
        patch.setattr("secateur.pipelines.data.source_kinds.parts.TEXTS", 30)
        for name in ("csv", "jsonl"):
            patch.setattr(f"secateur.pipelines.data.source_kinds.{name}.BLOCK", 500)
        loaded = load(TypeAdapter(Source).validate_python({"kind": kind} | splits), COLUMNS, base.absolute(), cache)
        encoder = fit_encoder(TableEncoding(), loaded.rows["train"], COLUMNS.inputs)
        for split, rows in loaded.rows.items():
            write_inputs(cache / f"{kind}-{split}.npy", encoder, rows)
            whole = np.load(cache / f"{kind}-{split}.npy")
            np.testing.assert_array_equal(whole, encoded_rows(encoder, rows))


def shards(cache: Path) -> dict[str, bytes]:
    found = [path for path in cache.rglob("*") if path.suffix in (".arrow", ".npy")]
    return {str(path.relative_to(cache)): path.read_bytes() for path in found}


def test_a_killed_scan_or_encoding_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    import datasets

    for name, rows in (("a", 200), ("b", 170)):
        frame = pl.DataFrame(
            {"x": np.arange(rows) / 4, "word": [f"{name} {row}" for row in range(rows)], "label": [0, 1] * (rows // 2)}
        )
        # Batches cross these row groups.
        frame.write_parquet(tmp_path / f"{name}.parquet", row_group_size=47)
        frame.write_csv(tmp_path / f"{name}.csv")
        frame.write_ndjson(tmp_path / f"{name}.jsonl")
        datasets.Dataset(frame.to_arrow()).save_to_disk(tmp_path / f"{name}.disk")
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before = shards(tmp_path / "killed")
    for kind in KINDS:
        prepare_small(kind, tmp_path, tmp_path / "whole")
        prepare_small(kind, tmp_path, tmp_path / "killed")
    expected = shards(tmp_path / "whole")
    assert len(expected) >= 20
    arrays = {name for name in before if name.endswith(".npy")}
    for name, held in before.items():
        assert expected[name].startswith(held) if name in arrays else held == expected[name]
    assert sum(0 < len(before[name]) < len(expected[name]) for name in arrays) == len(KINDS)
    assert shards(tmp_path / "killed") == expected


class Killed(BaseException):
    """Stands for a signal that ends the process."""


def test_a_sparse_encoding_that_was_killed_anywhere_goes_on_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    texts = [" ".join(f"w{number}" for number in random.integers(0, 50, row % 9)) or "none" for row in range(120)]
    pl.DataFrame({"text": texts, "label": [0, 1] * 60}).write_parquet(tmp_path / "texts.parquet")
    monkeypatch.setattr("secateur.pipelines.data.scan.SHARD_ROWS", 50)
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.parts.TEXTS", 30)
    columns = Columns(text="text", label="label")
    rows = read(tmp_path, columns, kind="parquet", train="texts.parquet", test_fraction=0.2).rows["train"]
    encoder = fit_encoder(TextEncoding(kind="tfidf", terms=40), rows, ["text"])
    turns, at = 0, 0

    def killing(whole: Any) -> Any:
        def call(*arguments: Any) -> None:
            nonlocal turns
            turns += 1
            if turns == at:
                for file in arguments[0] if whole is preparation.write_block else ():
                    file.write(b"half of what was to be written")
                raise Killed
            whole(*arguments)

        return call

    doubles = {name: killing(getattr(preparation, name)) for name in ("write_block", "write_rows", "save_state")}
    whole = write_inputs(tmp_path / "whole.npy", encoder, rows)
    np.testing.assert_array_equal(open_inputs(whole)[:], encoded_rows(encoder, rows))
    # Each of four blocks, the one shard before the last, the whole, and the state after it.
    for at in range(1, 8):
        turns, path = 0, tmp_path / f"killed-{at}.npy"
        with monkeypatch.context() as patch:
            for name, double in doubles.items():
                patch.setattr(preparation, name, double)
            with pytest.raises(Killed):
                write_inputs(path, encoder, rows)
        assert write_inputs(path, encoder, rows).read_bytes() == whole.read_bytes()
        assert sorted(file.suffix for file in tmp_path.glob(f"killed-{at}.*")) == [".json", ".npz"]
    assert write_inputs(path, encoder, rows).read_bytes() == whole.read_bytes()  # of a finished one


def read(folder: Path, columns: Columns = COLUMNS, **source: Any) -> Loaded:
    return load(TypeAdapter(Source).validate_python(source), columns, folder, folder / "cache")


def test_shards_of_several_files_and_splits_hold_each_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.pipelines.data.scan.SHARD_ROWS", 50)
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.parts.TEXTS", 20)
    frame = pl.DataFrame({"x": [*range(330)], "word": ["w"] * 330, "label": [0, 1, 2] * 110})
    for name, part in (("a", frame[:170]), ("b", frame[170:])):
        part.write_parquet(tmp_path / f"{name}.parquet", row_group_size=33)
    loaded = read(tmp_path, kind="parquet", train="?.parquet", test_fraction=0.4)
    assert sorted([*loaded.train["x"], *loaded.test["x"]]) == [*range(330)]
    assert all(list(rows["x"]) == sorted(rows["x"]) for rows in (loaded.train, loaded.test))
    for split in ("train", "test"):
        rows = loaded.rows[split]
        assert len(rows.shards) > 3
        assert max(table.num_rows for table in rows.batches([ROW])) <= 20
        np.testing.assert_array_equal(rows.column("label"), rows.column("x") % 3)


# Files that unpack to far more than their size.


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_packed_file_that_unpacks_to_too_much_is_stopped(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.tables.UNPACKED", 1 << 20)
    line = {"csv": b"1.5,word,0\n", "jsonl": b'{"x": 1.5, "word": "word", "label": 0}\n'}[kind]
    head = b"x,word,label\n" if kind == "csv" else b""
    # A thousandth of its content: compressed once more, so that its size allows less.
    (tmp_path / f"a.{kind}.gz").write_bytes(gzip.compress(head + line * 200_000))
    size = (tmp_path / f"a.{kind}.gz").stat().st_size
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.tables.RATIO", (len(line) * 100_000) // size)
    with pytest.raises(
        SourceError, match=rf"a\.{kind}\.gz: it unpacks to more than \d+ MiB from {size} bytes; unpack it"
    ):
        read(tmp_path, kind=kind, train=f"a.{kind}.gz", test_fraction=0.5)
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.tables.RATIO", len(line) * 400_000 // size)
    loaded = read(tmp_path, kind=kind, train=f"a.{kind}.gz", test_fraction=0.5, limit=10)
    assert len(loaded.train) == 10


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(b"x,word,label\n" + os.urandom(4000).hex().encode())[:-900]]
)
def test_packed_files_that_are_broken(content: bytes, tmp_path: Path) -> None:
    for kind in ("csv", "jsonl"):
        (tmp_path / f"a.{kind}.gz").write_bytes(content)
        with pytest.raises(SourceError, match=rf"a\.{kind}\.gz cannot be read: "):
            read(tmp_path, kind=kind, train=f"a.{kind}.gz", test_fraction=0.5)


def test_parquet_that_unpacks_to_too_much_is_refused_from_its_footer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs: many equal numbers in a few kilobytes."""
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.tables.UNPACKED", 1 << 24)
    rows = 1_000_000
    table = pa.table({"x": np.zeros(rows), "word": pa.array(["w"] * rows), "label": np.zeros(rows, np.int64)})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        for _ in range(2):
            writer.write_table(table)
    size = (tmp_path / "a.parquet").stat().st_size
    assert size < 30_000
    with pytest.raises(
        SourceError, match=rf"a\.parquet: {size} bytes that unpack to \d+ or more, which no study reads"
    ):
        read(tmp_path, kind="parquet", train="a.parquet", test_fraction=0.5)


def test_a_long_text_of_many_rows_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One megabyte in a dictionary, ten thousand times."""
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.tables.UNPACKED", 1 << 25)
    words = pa.DictionaryArray.from_arrays(np.zeros(100_000, np.int32), pa.array(["w" * 1_000_000]))
    table = pa.table({"x": np.arange(100_000.0), "word": words, "label": np.arange(100_000) % 2})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"a\.parquet: \d+ bytes that unpack to"):
        read(tmp_path, kind="parquet", train="a.parquet", test_fraction=0.5)


REPEATED = pa.array(np.zeros(20_000, np.int32))
LONG = pa.DictionaryArray.from_arrays(REPEATED, pa.array(["w" * 1_000_000]))
PICTURE = pa.StructArray.from_arrays(
    [pa.DictionaryArray.from_arrays(REPEATED[:400], pa.array([b"p" * 1_000_000])), pa.nulls(400, pa.string())],
    ["bytes", "path"],
)
LISTS = pa.ListArray.from_arrays(np.arange(0, 20_001, 100, np.int32), LONG)
NUMBERS = pa.LargeListArray.from_arrays(np.arange(0, 2_000_001, 10_000), pa.array(np.zeros(2_000_000)))


@pytest.mark.parametrize(
    ("values", "columns"),
    [
        (NUMBERS, {"features": ["x"], "label": "long", "target": "labels"}),
        (LISTS, {"features": ["x"], "label": "long", "target": "labels"}),
        (PICTURE, {"image": "long", "label": "x"}),
    ],
    ids=["a run of numbers in lists", "a long text in lists", "a picture"],
)
def test_lists_and_pictures_that_unpack_to_too_much_are_stopped(
    values: pa.Array, columns: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.tables.UNPACKED", 1 << 23)
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.tables.RATIO", 10)
    pq.write_table(
        pa.table({"x": np.arange(len(values)) % 2, "long": values}), tmp_path / "a.parquet", compression="zstd"
    )
    size = (tmp_path / "a.parquet").stat().st_size
    assert size < 50_000
    source: Any = TypeAdapter(Source).validate_python({"kind": "parquet", "train": "a.parquet", "test_fraction": 0.5})
    with pytest.raises(SourceError, match=rf"a\.parquet: {size} bytes that unpack to \d+ or more"):
        load(source, Columns(**columns), tmp_path, tmp_path / "cache")


FULL = {"dictionary_pagesize_limit": 1000, "write_batch_size": 100}


def test_lists_of_many_row_groups_and_without_a_dictionary_are_read(tmp_path: Path) -> None:
    """Arrow reads no dictionary within lists across the end of a row group."""
    words = [[f"word {row}", "every"] for row in range(3000)]
    table = pa.table({"x": np.arange(3000.0), "word": words})
    kinds = {"x": types.NUMBER, "word": pa.large_list(types.TEXT)}
    for name, told in {"groups": {"row_group_size": 700}, "plain": {"use_dictionary": False}, "full": FULL}.items():
        pq.write_table(table, tmp_path / f"{name}.parquet", **told)
        file = ParquetFile(tmp_path / f"{name}.parquet")
        assert file.types(["x", "word"]) == kinds
        assert [row for part in file.batches(kinds, 50) for row in part["word"].to_pylist()] == words[50:]


def test_lines_that_nest_very_deeply_are_refused_by_their_row(tmp_path: Path) -> None:
    """The parser's stack would overflow, which ends the process without a message."""
    path = tmp_path / "deep.jsonl"
    path.write_text('{"x": 1}\n{"x": 2, "z": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(SourceError, match=r"deep.jsonl row 1: a value is nested too deeply"):
        JsonlFile(path).types(["x"])
    path.write_text('{"x": "' + "[" * 5000 + '"}\n')
    assert JsonlFile(path).types(["x"]) == {"x": types.TEXT}
