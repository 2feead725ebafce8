"""Every export mapped back onto the user's own file, by pandas and by `datasets`: equal rows, labels and values."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from sample_tables import study_manifest
from small_studies import REST
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.exports.registry import export, exporters
from secateur.pipelines.exports.source import training_rows
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.studies.files import StudyFile

MOODS = ["refund", "übrig", "delivery, late"]


def lines(count: int = 90) -> pd.DataFrame:
    """Rows of a user: codes that look like numbers, booleans, dates, quotes, gaps."""
    rng = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "code": [f"{row % 6:02d}" for row in range(count)],
            "when": [f"2026-01-{1 + row % 28:02d}" for row in range(count)],
            "body": [f'say "{row}", and\nmore {rng.integers(1000)}' for row in range(count)],
            "paid": rng.random(count) < 0.4,
            "price": [None if row % 11 == 0 else row / 8 for row in range(count)],
            "stock": np.arange(count) * 10**15,
            "queue": [MOODS[row % 3] for row in range(count)],
        }
    )


def write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False)


def write_jsonl(table: pd.DataFrame, path: Path) -> None:
    table.to_json(path, orient="records", lines=True, force_ascii=False)


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, row_group_size=20)


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}


def read_by_pandas(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype={"code": str})
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True, dtype={"code": str}, convert_dates=False)
    return pd.read_parquet(path)


def every_third(samples: pl.DataFrame) -> Any:
    return (samples["row"] % 3 != 1).to_numpy()


Made = tuple[StudyFile, Manifest, pd.DataFrame]


def made_of(kind: str, label: str, folder: Path, files: int = 1) -> Made:
    """A study of files of a kind, with a share held out; manifest and all rows of the files."""
    table = lines()
    parts = np.array_split(np.arange(len(table)), files)
    for number, part in enumerate(parts):
        WRITERS[kind](table.iloc[part], folder / f"part{number}.{kind}")
    named = [f"part{number}.{kind}" for number in range(files)]
    text = f"""
name: tickets
source: {{kind: {kind}, train: {json.dumps(named)}, test_fraction: 0.3}}
columns: {{features: [{", ".join({"code", "price", "paid", "stock"} - {label})}], label: {label}}}
"""
    file, manifest = study_manifest(text + REST, folder, every_third)
    return file, manifest, pd.concat([read_by_pandas(folder / name) for name in named], ignore_index=True)


def rows_there(manifest: Manifest, kind: str) -> list[int]:
    """Kept rows over both files one after another."""
    places = manifest.places
    starts = {f"part{number}.{kind}": 90 // 2 * number for number in range(2)}
    return [starts[file] + row for file, row in zip(places["file"], places["row"], strict=True)]


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True), check_dtype=False)


@pytest.mark.parametrize("label", ["queue", "paid", "code"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_rows_of_the_manifest_are_those_of_the_file(kind: str, label: str, tmp_path: Path) -> None:
    _, manifest, table = made_of(kind, label, tmp_path)
    rows = np.load(export(manifest, "indices"))
    assert len(rows) < len(table) * 0.6
    # Each kept row's label, by its number in the manifest, is that of the file at that row.
    names = manifest.selection.origin.label_names
    given = table[label].iloc[rows]
    # A CSV has True, the others a boolean.
    flag = label == "paid" and kind != "csv"
    texts = [str(value).lower() if flag else str(value) for value in given]
    assert texts == [names[number] for number in manifest.table["label"]]
    assert np.loadtxt(export(manifest, "text"), dtype=int).tolist() == rows.tolist() == manifest.rows.tolist()
    bits = np.load(export(manifest, "bitmap"))
    assert np.flatnonzero(np.unpackbits(bits, count=len(table), bitorder="little")).tolist() == rows.tolist()
    assert np.flatnonzero(manifest.keep(len(table))).tolist() == rows.tolist()


@pytest.mark.parametrize("label", ["queue", "paid", "code"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_tables_come_back_with_the_users_own_values(kind: str, label: str, tmp_path: Path) -> None:
    file, manifest, table = made_of(kind, label, tmp_path)
    expected = table.iloc[manifest.rows]
    for to in ("csv", "jsonl", "parquet"):
        data = training_rows(file, tmp_path / "assets", to)
        path = export(manifest, to, dataset=data)
        same(read_by_pandas(path), expected)
        row_column = export(manifest, to, tmp_path / f"rows.{to}", dataset=data, settings={"row_column": "place"})
        assert read_by_pandas(row_column)["place"].tolist() == manifest.rows.tolist()
        loaded = datasets.load_dataset(
            {"jsonl": "json"}.get(to, to), data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
        )
        original = datasets.load_dataset(
            {"jsonl": "json"}.get(kind, kind),
            data_files=str(tmp_path / f"part0.{kind}"),
            split="train",
            cache_dir=str(tmp_path / "cache"),
        ).select(manifest.rows)
        if to == kind:
            same(loaded.to_pandas(), original.to_pandas())
    folder = export(manifest, "datasets", dataset=data)
    same(datasets.load_from_disk(str(folder)).to_pandas(), expected)
    hub = export(manifest, "hub", dataset=data)
    same(pd.concat(map(pd.read_parquet, sorted((hub / "data").glob("*.parquet")))), expected)


def test_fields_of_a_csv_stay_as_they_stand(tmp_path: Path) -> None:
    fields = "id,price,note,kind\n" + "".join(
        f"{row:03d},{row}.50,{'  ' if row % 5 == 0 else 'NA'},{'yes' if row % 2 else 'no'}\n" for row in range(40)
    )
    (tmp_path / "t.csv").write_text(fields)
    text = (
        "name: t\nsource: {kind: csv, train: t.csv, test_fraction: 0.3}\ncolumns: {features: [id, price], label: kind}"
    )
    file, manifest = study_manifest(text + REST, tmp_path, every_third)
    written = export(manifest, "csv", dataset=training_rows(file, tmp_path / "assets", "csv")).read_text().splitlines()
    original = fields.splitlines()
    assert written == [original[0], *(original[1 + row] for row in manifest.rows)]
    manifest.apply(tmp_path / "t.csv", output=tmp_path / "kept.csv")
    assert (tmp_path / "kept.csv").read_text().splitlines() == written


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_several_files_give_pairs(kind: str, tmp_path: Path) -> None:
    file, manifest, table = made_of(kind, "queue", tmp_path, files=2)
    rows = rows_there(manifest, kind)
    names = manifest.selection.origin.label_names
    assert table["queue"].iloc[rows].tolist() == [names[number] for number in manifest.table["label"]]
    pairs = np.load(export(manifest, "indices"))
    assert (pairs[:, 0] * 45 + pairs[:, 1]).tolist() == rows
    assert export(manifest, "text").read_text().split() == [f"part{file}.{kind}:{row}" for file, row in pairs.tolist()]
    masks = np.load(export(manifest, "bitmap"))
    assert sorted(masks) == [f"part0.{kind}", f"part1.{kind}"]
    keep = [np.unpackbits(masks[name], count=45, bitorder="little") for name in sorted(masks)]
    assert np.flatnonzero(np.concatenate(keep)).tolist() == rows
    assert np.flatnonzero(manifest.keep()).tolist() == rows
    with pytest.raises(ManifestError, match="its rows lie in 2 files"):
        manifest.rows  # noqa: B018
    data = training_rows(file, tmp_path / "assets", kind)
    path = export(manifest, kind, dataset=data, settings={"row_column": "place"})
    found = read_by_pandas(path)
    assert found.pop("place").tolist() == [f"part{file}.{kind}:{row}" for file, row in pairs.tolist()]
    same(found, table.iloc[rows])
    # Each file gives its own part, and both together give all.
    for number in range(2):
        manifest.apply(tmp_path / f"part{number}.{kind}", output=tmp_path / f"kept{number}.{kind}")
        own = [row for row in rows if row // 45 == number]
        same(read_by_pandas(tmp_path / f"kept{number}.{kind}"), table.iloc[own])
    whole = datasets.Dataset.from_pandas(table, preserve_index=False)
    same(manifest.apply(whole).to_pandas(), table.iloc[rows])


def test_numbers_of_classes_are_an_option(tmp_path: Path) -> None:
    file, manifest, _ = made_of("csv", "queue", tmp_path)
    names, expected = manifest.selection.origin.label_names, manifest.table["label"].to_list()
    for to in ("csv", "jsonl", "parquet"):
        data = training_rows(file, tmp_path / "assets", to)
        found = read_by_pandas(export(manifest, to, dataset=data, settings={"number_column": "number"}))
        assert found["number"].tolist() == expected
        assert found["queue"].tolist() == [names[number] for number in expected]
    folder = export(manifest, "datasets", dataset=data, settings={"number_column": "number"})
    assert datasets.load_from_disk(str(folder)).features["number"].names == list(names)
    with pytest.raises(ManifestError, match="has a column 'queue' already"):
        export(manifest, "csv", dataset=data, settings={"number_column": "queue"}, overwrite=True)


# --- pictures


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[StudyFile, Manifest, Path]:
    """Pictures under the user's own names, two of one name in two classes; no picture of `ant` is kept."""
    folder = tmp_path / "pets"
    for row in range(45):
        kind = ["ant", "bee", "dog"][row % 3]
        path = folder / kind / (f"{kind}_{row:03d}.jpg" if row % 2 else f"IMG {row}.PNG")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(row).integers(0, 256, (6, 5, 3), np.uint8)
        Image.fromarray(pixels).save(path, "JPEG" if row % 2 else "PNG")
    for kind in ("bee", "dog"):
        Image.new("RGB", (3, 3), kind == "dog").save(folder / kind / "same.png")
    source = "name: pets\nsource: {kind: imagefolder, train: pets, test_fraction: 0.2}\n"
    text = source + "columns: {image: image, label: label}"
    file, manifest = study_manifest(
        text + REST,
        tmp_path,
        lambda samples: (samples["label"] != 0).to_numpy() & ((samples["row"] % 4) != 1).to_numpy(),
    )
    return file, manifest, folder


def test_pictures_keep_their_names_in_their_folders(pictures: tuple[StudyFile, Manifest, Path], tmp_path: Path) -> None:
    file, manifest, folder = pictures
    original = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache")
    ).cast_column("image", datasets.Image(decode=False))
    paths = [str(Path(cell["path"]).relative_to(folder)) for cell in original["image"]]
    assert [paths[row] for row in manifest.rows] == manifest.places["path"].to_list()
    data = training_rows(file, tmp_path / "assets", "imagefolder")
    warned: list[str] = []
    out = export(manifest, "imagefolder", dataset=data, warn=warned.append)
    assert len(warned) == 1
    assert "nothing is kept of class 'ant'" in warned[0]
    written = {str(path.relative_to(out)): path.read_bytes() for path in out.glob("*/*")}
    assert written == {name: (folder / name).read_bytes() for name in manifest.places["path"]}
    assert {name.split("/")[0] for name in written} == {"bee", "dog"}
    metadata = export(manifest, "imagefolder", tmp_path / "flat", dataset=data, settings={"layout": "metadata"})
    back = pd.read_csv(metadata / "metadata.csv")
    assert back["label"].tolist() == [Path(name).parent.name for name in manifest.places["path"]]
    assert back["row"].tolist() == manifest.rows.tolist()
    for name, path in zip(back["file_name"], manifest.places["path"], strict=True):
        assert (metadata / name).read_bytes() == (folder / path).read_bytes()
    kept = manifest.apply(original)
    assert [cell["path"] for cell in kept["image"]] == [str(folder / name) for name in manifest.places["path"]]
    parquet = pd.read_parquet(export(manifest, "parquet", dataset=data))
    assert [cell["bytes"] for cell in parquet["image"]] == [
        (folder / name).read_bytes() for name in manifest.places["path"]
    ]


def test_no_warning_where_no_label_shifts(pictures: tuple[StudyFile, Manifest, Path], tmp_path: Path) -> None:
    file, _, _ = pictures
    (tmp_path / "again").mkdir()
    text = (tmp_path / "study.yaml").read_text().replace("train: pets", "train: ../pets")
    file, manifest = study_manifest(text, tmp_path / "again", lambda samples: (samples["label"] < 2).to_numpy())
    warned: list[str] = []
    out = export(manifest, "imagefolder", dataset=training_rows(file, tmp_path / "assets"), warn=warned.append)
    assert warned == []
    found = datasets.load_dataset("imagefolder", data_dir=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert list(found["label"]) == sorted(manifest.table["label"])


def test_paths_in_a_table_stay_paths(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    for row in range(30):
        Image.fromarray(np.full((4, 4), row * 8, np.uint8)).save(tmp_path / "img" / f"p{row}.png")
    table = pd.DataFrame({"file": [f"img/p{row}.png" for row in range(30)], "kind": ["x", "y"] * 15, "n": range(30)})
    table.to_csv(tmp_path / "list.csv", index=False)
    text = "name: p\nsource: {kind: csv, train: list.csv, test_fraction: 0.2}\ncolumns: {image: file, label: kind}"
    file, manifest = study_manifest(text + REST, tmp_path, every_third)
    data = training_rows(file, tmp_path / "assets", "csv")
    same(pd.read_csv(export(manifest, "csv", dataset=data)), table.iloc[manifest.rows])
    assert manifest.places["path"].to_list() == table["file"].iloc[manifest.rows].tolist()
    out = export(manifest, "imagefolder", dataset=data)
    assert sorted(path.name for path in out.glob("*/*")) == sorted(Path(p).name for p in manifest.places["path"])
    manifest.apply(tmp_path / "list.csv", output=tmp_path / "kept.csv")
    same(pd.read_csv(tmp_path / "kept.csv"), table.iloc[manifest.rows])


# --- the shell


def shell(*words: object) -> Any:
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return json.loads(done.stdout)


def test_a_sample_is_named_by_file_and_row_or_path(
    pictures: tuple[StudyFile, Manifest, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, manifest, _ = pictures
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    row, path = manifest.rows[2], manifest.places["path"][2]
    for sample in (row, f"pets:{row}", path, tmp_path / "pets" / path):
        told = shell("explain", manifest.path, sample)
        assert (told["kept"], told["row"], told["path"]) == (True, row, path)
    with pytest.raises(ManifestError, match=r"no kept sample has the path 'other\.png'"):
        shell("explain", manifest.path, "other.png")
    dropped = next(row for row in range(47) if row not in manifest.rows)
    with pytest.raises(ManifestError, match=f"row {dropped} of pets is not kept"):
        shell("explain", manifest.path, dropped)
    with pytest.raises(ManifestError, match="rows of pets are 0 … 46"):
        shell("explain", manifest.path, 47)


def test_explain_and_diff_count_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, manifest, _ = made_of("csv", "queue", tmp_path, files=2)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    file, row = manifest.places.row(-1)
    told = shell("explain", manifest.path, f"{file}:{row}")
    assert (told["kept"], told["file"], told["row"]) == (True, "part1.csv", row)
    with pytest.raises(
        ManifestError, match=r"2 files have a row 3: name one as FILE:ROW \(files: part0.csv, part1.csv"
    ):
        shell("explain", manifest.path, 3)
    less = manifest.path.with_name("less")
    rows = manifest.selection
    samples = rows.table.with_columns(row=pl.int_range(pl.len()).cast(pl.Int64))
    from secateur.pipelines.manifests.rows import Rows

    part = Rows.chosen(samples, np.arange(rows.count) > 1, label_names=rows.origin.label_names, origin=rows.origin)
    told = manifest.provenance.model_copy(update={"keep": part.count, "budget": part.count})
    Manifest.write(less, part, told)
    done = CliRunner().invoke(app, ["diff", str(manifest.path), str(less), "--rows", "--json"])
    expected = [f"{file}:{row}" for file, row in manifest.places.rows()[:2]]
    assert json.loads(done.stdout)["rows_only_a"] == expected


def test_formats_of_samples_all_have_a_round_trip() -> None:
    here = {"indices", "text", "bitmap", "csv", "jsonl", "parquet", "datasets", "hub", "imagefolder"}
    elsewhere = {"axolotl", "card", "in_place", "llama_factory", "trl", "webdataset"}
    assert set(exporters()) == here | elsewhere
