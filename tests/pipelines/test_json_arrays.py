"""One JSON array per file: every reader gives the rows of the same objects in lines."""

import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pytest
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.data.profile import find_data
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.json_arrays import lines_of
from secateur.pipelines.data.source_kinds.jsonl import JsonlFile

COUNT = 60
Rows = list[dict[str, Any]]


def alpaca(count: int = COUNT) -> Rows:
    """Instructions with line feeds, brackets, quotes and characters of four bytes, and a key that some rows lack."""
    odd = ["plain", 'a "]" and {"', "two\nlines\r\nof it", "größe 😀", "\\ [", ""]
    return [
        {"instruction": f"Say {row}", "input": odd[row % len(odd)], "output": f"{row} {odd[-row % len(odd)]}"}
        | ({"history": [["q", "a"]]} if row % 3 == 0 else {})
        for row in range(count)
    ]


def read(data: bytes, size: int, name: str = "data.json") -> Rows:
    whole = b"".join(lines_of(Path(name), io.BytesIO(data), size))
    return [json.loads(line) for line in whole.decode().split("\n") if line]


@pytest.mark.parametrize("size", [5, 7, 100, 1 << 20])
@pytest.mark.parametrize("style", [{}, {"indent": 2}, {"ensure_ascii": False, "indent": 1, "separators": (" ,", " :")}])
def test_objects_are_those_of_the_json_module(size: int, style: dict[str, Any]) -> None:
    rows = alpaca(20)
    text = json.dumps(rows, **style)
    assert read(text.encode(), size) == rows
    assert read(text.replace("\n", "\r\n").encode("utf-8-sig") + b" \n", size) == rows
    assert read(b" [ ] ", size) == []


def test_a_file_of_lines_that_ends_in_json_is_read_as_lines() -> None:
    text = b"".join(json.dumps(row).encode() + b"\n" for row in alpaca())
    assert b"".join(lines_of(Path("a.json"), io.BytesIO(text), 100)) == text
    assert b"".join(lines_of(Path("a.jsonl"), io.BytesIO(b"[1]\n"), 2)) == b"[1]\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b'[{"a": 1}', "row 1: the file ends before its array does"),
        (b'[{"a": 1}, {"a": ', "row 1: Expecting value"),
        (b'[{"a": 1} {"a": 2}]', "row 1: a comma is missing before it"),
        (b'[{"a": 1},]', "row 1: not a JSON object, but"),
        (b'[{"a": 1}, [2]]', r"row 1: not a JSON object, but '\[2"),
        (b'[{"a": 1}] {"a": 2}', "something follows the end of the array, after row 0"),
        (b'[{"a": "\xff"}]', "row 0: a byte that is no UTF-8"),
        (b'[{"a": 1}, {"a": "tab\there"}]', "row 1: Invalid control character"),
        (b'[{"a": ' + b"[" * 100_000, "row 0: a value is nested too deeply"),
    ],
)
@pytest.mark.parametrize("size", [3, 1 << 16])
def test_a_broken_array_is_refused_by_its_row(text: bytes, fault: str, size: int) -> None:
    with pytest.raises(SourceError, match=f"data.json:? {fault}"):
        read(text, size if len(text) < 1000 else 1 << 20)


def test_an_object_that_is_longer_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.pipelines.data.source_kinds.json_arrays.LONGEST", 1000)
    with pytest.raises(SourceError, match="row 0: longer than"):
        read(b'[{"a": "' + b"x" * 5000 + b'"}]', 100)


def test_rows_of_an_array_and_of_lines_have_the_same_types_and_values(tmp_path: Path) -> None:
    rows = [{**row, "history": ["q", "a"]} for row in alpaca()]
    (tmp_path / "rows.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with gzip.open(tmp_path / "packed.json.gz", "wt") as file:
        json.dump(rows, file)
    tables = []
    for name in ("rows.json", "rows.jsonl", "packed.json.gz"):
        file = JsonlFile(tmp_path / name)
        tables.append([table.to_pylist() for table in file.batches(file.types(list(file.columns)))])
    assert tables[0] == tables[1] == tables[2]


def test_a_folder_is_data_by_the_names_of_its_arrays(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SourceError, match="no data is seen here"):
        find_data(str(tmp_path))
    (tmp_path / "train.json").write_text(json.dumps(alpaca()))
    (tmp_path / "test.json").write_text(json.dumps(alpaca(5)))
    place = find_data(str(tmp_path))
    assert (place.kind, place.train, place.test) == (
        "jsonl", str(tmp_path / "train.json"), str(tmp_path / "test.json"),
    )  # fmt: skip
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    assert find_data(str(tmp_path)).kind == "csv"


def test_from_an_array_to_a_selection_that_datasets_loads(tmp_path: Path) -> None:
    """`secateur select` keeps objects character for character, in lines; it cannot write arrays."""
    rows = alpaca()
    (tmp_path / "alpaca.json").write_text(json.dumps(rows, indent=2))
    pl.DataFrame({"score": random.Random(0).sample(range(COUNT), COUNT)}).write_csv(tmp_path / "scores.csv")
    run = CliRunner().invoke
    made = ("select", str(tmp_path / "alpaca.json"), "--keep", "20", "--selector", "uniform_random", "-o")
    refused = run(app, [*made, str(tmp_path / "kept.json")])
    assert refused.exit_code != 0
    assert "jsonl" in str(refused.exception)
    assert not (tmp_path / "kept.json").exists()
    done = run(app, [*made, str(tmp_path / "kept.jsonl")])
    assert done.exit_code == 0, done.output
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert len(kept) == 20
    assert all(row in rows for row in kept)
    loaded = datasets.load_dataset("json", data_files=str(tmp_path / "kept.jsonl"), split="train", cache_dir=tmp_path)
    assert loaded["instruction"] == [row["instruction"] for row in kept]
    fresh = run(app, ["init", str(tmp_path / "alpaca.json"), "--out", str(tmp_path / "study.yaml")])
    assert fresh.exit_code == 0, fresh.output
    assert "task: sft" in (tmp_path / "study.yaml").read_text()
