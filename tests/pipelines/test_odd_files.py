"""Files of odd forms and random tables: every export and every reader gives the rows of the file, row by row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_tables import study_manifest
from small_studies import REST

from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.exports.registry import export
from secateur.pipelines.exports.source import training_rows
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.studies.files import StudyFile

COUNT = 40


def every_other(samples: pl.DataFrame) -> Any:
    return (samples["row"] % 2 == 0).to_numpy()


def index_without_a_name(path: Path) -> None:
    pd.DataFrame({"x": np.arange(COUNT) / 4, "label": ["a", "b"] * (COUNT // 2)}).to_csv(path)


def odd_header(path: Path) -> None:
    table = {
        'say "x", or': np.arange(COUNT),
        "größe ": np.arange(COUNT) / 4,
        "x": range(COUNT),
        "label": ["a", "b"] * 20,
    }
    pd.DataFrame(table).to_csv(path, index=False)


def objects(path: Path) -> None:
    rows = [
        {"x": row if row % 2 else row / 4, "n": 2, "deep": {"k": [row, None]}, "list": [row], "label": "ab"[row % 2]}
        | ({"only": "ü"} if row % 5 == 0 else {})
        for row in range(COUNT)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def index_of_pandas(path: Path) -> None:
    table = pd.DataFrame(
        {"x": range(COUNT), "label": ["a", "b"] * (COUNT // 2)}, index=[f"r{row}" for row in range(COUNT)]
    )
    table.to_parquet(path)


FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "an index without a name": ("csv", index_without_a_name),
    "an odd header": ("csv", odd_header),
    "objects and gaps": ("jsonl", objects),
    "an index of pandas": ("parquet", index_of_pandas),
}
BY_PANDAS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "csv": pd.read_csv,
    "jsonl": lambda path: pd.read_json(path, lines=True),
    "parquet": pd.read_parquet,
}


def by_datasets(path: Path, kind: str, cache: Path) -> datasets.Dataset:
    name = {"jsonl": "json"}.get(kind, kind)
    return datasets.load_dataset(name, data_files=str(path), split="train", cache_dir=str(cache))


@pytest.fixture(params=FILES)
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, StudyFile, Manifest]:
    kind, write = FILES[request.param]
    write(tmp_path / f"all.{kind}")
    text = f"name: s\nsource: {{kind: {kind}, train: all.{kind}, test_fraction: 0.3}}\n"
    return kind, *study_manifest(text + "columns: {features: [x], label: label}\n" + REST, tmp_path, every_other)


def test_a_file_exported_in_its_format_is_its_rows(odd: tuple[str, StudyFile, Manifest], tmp_path: Path) -> None:
    kind, file, manifest = odd
    path = tmp_path / f"all.{kind}"
    out = export(manifest, kind, dataset=training_rows(file, tmp_path / "assets", kind))
    whole = BY_PANDAS[kind](path)
    expected = whole.iloc[manifest.rows]
    found = BY_PANDAS[kind](out)
    if kind != "parquet":
        expected = expected.reset_index(drop=True)
        lines = path.read_text(encoding="utf-8").splitlines()
        header = lines[:1] if kind == "csv" else []
        kept = [lines[row + len(header)] for row in manifest.rows]
        assert out.read_text(encoding="utf-8").splitlines() == header + kept
    pd.testing.assert_frame_equal(found, expected)
    loaded = by_datasets(out, kind, tmp_path / "cache")
    assert loaded.to_list() == by_datasets(path, kind, tmp_path / "cache").select(manifest.rows).to_list()
    assert manifest.apply(whole).equals(whole.iloc[manifest.rows])
    manifest.apply(path, output=tmp_path / f"kept.{kind}")
    pd.testing.assert_frame_equal(BY_PANDAS[kind](tmp_path / f"kept.{kind}"), expected)


def test_added_columns_stand_behind_the_lines_own(tmp_path: Path) -> None:
    objects(tmp_path / "all.jsonl")
    text = "name: s\nsource: {kind: jsonl, train: all.jsonl, test_fraction: 0.3}\n"
    file, manifest = study_manifest(text + "columns: {features: [x], label: label}\n" + REST, tmp_path, every_other)
    data = training_rows(file, tmp_path / "assets", "jsonl")
    out = export(manifest, "jsonl", dataset=data, settings={"row_column": "row", "number_column": "number"})
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    added = zip(manifest.rows.tolist(), manifest.table["label"].to_list(), strict=True)
    expected = [lines[row] | {"row": row, "number": number} for row, number in added]
    assert [json.loads(line) for line in out.read_text().splitlines()] == expected
    names = json.loads(out.with_name(out.name + ".classes.json").read_text())
    assert names == dict(zip("01", manifest.selection.origin.label_names, strict=True))
    out.unlink()
    with pytest.raises(ManifestError, match=r"classes\.json exists already"):
        export(manifest, "jsonl", dataset=data, settings={"number_column": "number"})
    assert not out.exists()


def test_a_csv_has_lists_and_objects_as_json(tmp_path: Path) -> None:
    objects(tmp_path / "all.jsonl")
    text = "name: s\nsource: {kind: jsonl, train: all.jsonl, test_fraction: 0.3}\n"
    file, manifest = study_manifest(text + "columns: {features: [x], label: label}\n" + REST, tmp_path, every_other)
    warned: list[str] = []
    out = export(manifest, "csv", dataset=training_rows(file, tmp_path / "assets", "csv"), warn=warned.append)
    assert warned == ["a CSV has no lists and objects: the column 'deep' holds them as JSON"]
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    found = pd.read_csv(out)
    for name in ("deep", "list"):
        assert [json.loads(text) for text in found[name]] == [lines[row][name] for row in manifest.rows]


def test_a_csv_keeps_what_a_spreadsheet_takes_for_formulas_and_warns_of_it(tmp_path: Path) -> None:
    texts = ["=1+1", "@SUM(A1)", "-1", "+2.5", "-SUM(A1)", "\t=1", "a=b", "- item", "+49 30 1234"]
    rows = [{"x": place, "text": texts[place % 9], "label": "ab"[place % 2]} for place in range(90)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = "name: s\nsource: {kind: jsonl, train: all.jsonl, test_fraction: 0.3}\n"
    file, manifest = study_manifest(text + "columns: {features: [x], label: label}\n" + REST, tmp_path, every_other)
    warned: list[str] = []
    out = export(manifest, "csv", dataset=training_rows(file, tmp_path / "assets", "csv"), warn=warned.append)
    kept = [rows[row]["text"] for row in manifest.rows]
    assert pd.read_csv(out, dtype=str)["text"].tolist() == kept
    count = sum(text in ("=1+1", "@SUM(A1)", "-SUM(A1)", "\t=1") for text in kept)
    assert warned == [
        f"{count} fields begin like a formula, which a spreadsheet would calculate: open the file there as text"
    ]


def test_folders_of_classes_read_as_the_users_own(tmp_path: Path) -> None:
    for row in range(36):
        path = tmp_path / "pets" / ["ant", "bee", "zebra"][row % 3] / f"p{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(row).integers(0, 256, (5, 6), np.uint8)).save(path)
    source = "{kind: imagefolder, train: pets, test_fraction: 0.25, label_names: [zebra, ant, bee]}"
    text = f"name: s\nsource: {source}\ncolumns: {{image: image, label: label}}\n"
    file, manifest = study_manifest(text + REST, tmp_path, every_other)
    warned: list[str] = []
    data = training_rows(file, tmp_path / "assets", "imagefolder")
    out = export(manifest, "imagefolder", dataset=data, warn=warned.append)
    assert len(warned) == 1
    assert "sort as ant, bee, zebra: readers that number classes by their folders give other numbers" in warned[0]
    read = [
        datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache"))
        for folder in (out, tmp_path / "pets")
    ]
    found, whole = ([(np.asarray(row["image"]).tolist(), row["label"]) for row in each] for each in read)
    assert found == [whole[row] for row in manifest.rows]
    assert export(manifest, "text").read_text().split("\n")[:-1] == manifest.places["path"].to_list()
    manifest.apply(tmp_path / "pets", output=tmp_path / "kept")
    kept = {str(path.relative_to(tmp_path / "kept")) for path in (tmp_path / "kept").rglob("*.png")}
    assert kept == set(manifest.places["path"])


# --- random tables

NAMES = st.lists(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\ufeff"), min_size=1, max_size=4
    ),
    min_size=2,
    max_size=2,
    unique_by=lambda name: name.casefold(),
).filter(lambda names: not set(names) & {"label", "id"})
WORDS = st.sampled_from(["NA", "null", "x", "01", "1", "2026-01-02", "true", "é", "e\u0301", "a b", "None", "1e3"])
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "integers": st.integers(-(2**63), 2**63 - 1),
    "small integers": st.integers(-3, 3),
    "floats": st.floats(-1e9, 1e9),
    "halves": st.integers(-9, 9).map(lambda number: number / 2),
    "booleans": st.booleans(),
    "words": WORDS,
    "codes": st.integers(0, 99).map(lambda number: f"{number:03d}"),
    "texts": st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=5),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[pl.DataFrame, str, int]:
    """A table of an id, two columns of any types with gaps, and a label; a format; a number of files."""
    rows = 24
    data: dict[str, Any] = {"id": range(rows)}
    for name in draw(NAMES):
        cells = CELLS[draw(st.sampled_from(sorted(CELLS)))]
        cells = draw(st.sampled_from([cells, st.none() | cells]))
        data[name] = draw(st.lists(cells, min_size=rows, max_size=rows))
    labels = draw(st.sampled_from([["a", "ü"], [True, False], [3, 7], ["01", "1"], [1.0, 2.0], ["NA", "x"]]))
    data["label"] = [labels[row % 2] for row in range(rows)]
    kind, files = draw(st.sampled_from(["csv", "jsonl", "parquet"])), draw(st.sampled_from([1, 2]))
    return pl.DataFrame(data, strict=False), kind, files


def write(table: pl.DataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        table.write_csv(path)
    elif path.suffix == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_dicts()]
        path.write_text("".join(lines), encoding="utf-8")
    else:
        table.write_parquet(path)


def in_hand(paths: list[Path], folder: Path) -> dict[str, Callable[[], Any]]:
    """The result of each reader for all files, one after another."""
    kind = paths[0].suffix[1:]
    by_polars: dict[str, Callable[[Path], pl.DataFrame]] = {
        "csv": lambda path: pl.read_csv(path, infer_schema_length=None),
        "jsonl": pl.read_ndjson,
        "parquet": pl.read_parquet,
    }
    names = [str(path) for path in paths]
    name = {"jsonl": "json"}.get(kind, kind)
    found: dict[str, Callable[[], Any]] = {
        "pandas": lambda: pd.concat([BY_PANDAS[kind](path) for path in paths], ignore_index=True),
        "polars": lambda: pl.concat([by_polars[kind](path) for path in paths]),
        "datasets": lambda: datasets.load_dataset(
            name, data_files=names, split="train", cache_dir=str(folder / "cache")
        ),
    }
    if kind == "parquet":
        found["arrow"] = lambda: pq.read_table(names)
    return found


@settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate])
@given(made=tables())
def test_any_table_in_any_hand_gives_its_rows_or_names_the_column(
    made: tuple[pl.DataFrame, str, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    (table, kind, files), folder = made, tmp_path_factory.mktemp("any")
    step = table.height // files
    paths = [folder / f"part{number}.{kind}" for number in range(files)]
    for number, path in enumerate(paths):
        write(table[number * step : (number + 1) * step], path)
    features = [column for column in table.columns if column not in ("id", "label")]
    write(table[:4].with_columns(id=pl.col("id") + 100), folder / f"test.{kind}")
    train, inputs = json.dumps([path.name for path in paths]), json.dumps(["id", *features], ensure_ascii=False)
    text = f"name: s\nsource: {{kind: {kind}, train: {train}, test: test.{kind}}}\n"
    text += f"columns: {{features: {inputs}, label: label}}\n"
    said: list[tuple[str, Exception]] = []
    kept: list[int] | None = None
    try:
        _, manifest = study_manifest(text + REST, folder, every_other)
    except SourceError as error:
        said.append(("study", error))
    else:
        kept = manifest.selection.origin.positions(manifest.table).tolist()
    for reader, read in in_hand(paths, folder / "cache").items() if kept is not None else ():
        try:
            data = read()
        except (pl.exceptions.PolarsError, datasets.exceptions.DatasetGenerationError, ValueError, OverflowError):
            continue  # the reader itself cannot read it
        try:
            found = manifest.apply(data)
        except ManifestError as error:
            said.append((reader, error))
        else:
            assert list(found["id"].to_pylist() if reader == "arrow" else found["id"]) == kept, reader
    for reader, error in said:
        assert any(f"column {column!r}" in str(error) for column in table.columns), (reader, str(error))
    if kept is None:
        return
    for number, path in enumerate(paths):
        manifest.apply(path, output=path.with_name(f"kept{number}.{kind}"))
    rows = np.concatenate([BY_PANDAS[kind](folder / f"kept{number}.{kind}")["id"] for number in range(files)])
    assert rows.tolist() == kept
