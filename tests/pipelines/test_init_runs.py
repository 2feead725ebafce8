"""Drafts of `secateur init` always run: small files of the kinds that people have, from `init` to the report."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.data.profile import find_data, profile
from secateur.pipelines.storage.home import marked_home

ROWS = 90


def table(**columns: Any) -> pd.DataFrame:
    """Two features and a label that follows from the first."""
    rng = np.random.default_rng(0)
    kind = np.arange(ROWS) % 3
    return pd.DataFrame({"size": kind + rng.normal(size=ROWS).round(3), "height": rng.normal(size=ROWS), **columns})


def chosen(*options: Any) -> list[Any]:
    """One of the options for each row, in turns."""
    return [options[row % len(options)] for row in range(ROWS)]


def packed_lines(path: Path) -> None:
    table(label=chosen("a", "b", "c")).to_json(path, orient="records", lines=True, compression="gzip")


def padded(path: Path) -> None:
    table(code=chosen("01", "1", "07"), label=chosen("01", "1", "02")).to_csv(path, index=False)


def marked(path: Path) -> None:
    rows = table(price=np.arange(ROWS) / 7, label=chosen("a", "b")).astype({"price": object})
    rows.loc[::9, "price"] = "NA"
    rows.to_csv(path, index=False)


def incomplete(path: Path) -> None:
    rows = table(label=[1.0, 2.0, 3.0] * (ROWS // 3))
    rows.loc[4, "label"] = np.nan
    rows.loc[[7, 8], ["size", "height"]] = np.nan
    rows.to_parquet(path)


def texts(path: Path) -> None:
    words = ["where is my card today", "the card was lost again", "please open an account now"]
    rows = {"text": [f"{words[row % 3]} {row}" for row in range(ROWS)], "answer": chosen(True, False)}
    rows["text"][5] = ""
    datasets.Dataset.from_dict(rows).to_parquet(path)


def pictures(path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)) for _ in range(ROWS)]
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = datasets.Dataset.from_dict({"img": images, "label": chosen(0, 1)}, features=features)
    broken = rows.cast_column("img", datasets.Image(decode=False)).to_list()
    broken[3]["img"] = {"bytes": b"no picture", "path": None}
    datasets.Dataset.from_list(broken, features=features).to_parquet(path)


def tags(path: Path) -> None:
    datasets.Dataset.from_pandas(table(tags=chosen(["a"], ["a", "b"], ["c"], []))).to_parquet(str(path))


def numbered(path: Path) -> None:
    """As pandas writes a frame by default: numbers of rows under no name."""
    table(label=chosen("a", "b")).to_csv(path)


def dated(path: Path) -> None:
    moments = pd.date_range("2026-01-01", periods=ROWS)
    table(when=moments, day=moments.date, label=chosen("a", "b")).to_parquet(path)


FILES: dict[str, tuple[str, Callable[[Path], object], list[str], dict[str, Any]]] = {
    "booleans": ("a.csv", lambda p: table(label=chosen(True, False)).to_csv(p, index=False), ["False", "True"], {}),
    "categories": (
        "a.parquet",
        lambda p: table(label=pd.Categorical(chosen("low", "high"))).to_parquet(p),
        ["high", "low"],
        {},
    ),
    "floats": (
        "a.parquet",
        lambda p: table(label=[float(x) for x in chosen(1, 2, 3)]).to_parquet(p),
        ["1", "2", "3"],
        {},
    ),
    "codes": ("a.csv", lambda p: table(label=chosen(10, 20, 30)).to_csv(p, index=False), ["10", "20", "30"], {}),
    "ratings": (
        "a.csv",
        lambda p: table(label=chosen(1, 2, 3, 4, 5)).to_csv(p, index=False),
        ["1", "2", "3", "4", "5"],
        {},
    ),
    "signs": ("a.csv", lambda p: table(label=chosen(-1, 1)).to_csv(p, index=False), ["-1", "1"], {}),
    "signs and nought": (
        "a.csv",
        lambda p: table(label=chosen(-1, 0, 1)).to_csv(p, index=False),
        ["-1", "0", "1"],
        {},
    ),
    "packed": ("a.csv.gz", lambda p: table(label=chosen("a", "b")).to_csv(p, index=False), ["a", "b"], {}),
    "packed lines": ("a.jsonl.gz", packed_lines, ["a", "b", "c"], {}),
    "padded codes": ("a.csv", padded, ["01", "02", "1"], {}),
    "marks": ("a.csv", marked, ["a", "b"], {}),
    "incomplete": ("a.parquet", incomplete, ["1", "2", "3"], {"bad_rows": "drop", "unlabelled": "drop"}),
    "texts": ("a.parquet", texts, ["false", "true"], {"bad_rows": "drop"}),
    "pictures": ("a.parquet", pictures, ["cat", "dog"], {"bad_rows": "drop"}),
    "tags": ("a.parquet", tags, ["a", "b", "c"], {}),
    "numbered": ("a.csv", numbered, ["a", "b"], {}),
    "dated": ("a.parquet", dated, ["a", "b"], {}),
}
"""By kind of data: a file's name, its writer, its classes or labels, and the policies that it needs."""
WHOLE = ("incomplete", "texts", "pictures", "tags")
"""The test runs all selections of these, to the report; of the others it trains the proxy and scores the samples."""


@pytest.mark.parametrize("kind", FILES)
def test_a_draft_runs_with_every_class_that_is_there_and_no_other(kind: str, tmp_path: Path) -> None:
    name, write, classes, policies = FILES[kind]
    write(tmp_path / name)
    target, shell = tmp_path / "mine.yaml", CliRunner()
    tiny = ["--keep", "0.5", "--seeds", "1", "--epochs", "2"]
    done = shell.invoke(app, ["init", str(tmp_path / name), "-o", str(target), *tiny])
    assert done.exit_code == 0, done.exception
    study = yaml.safe_load(target.read_text())
    assert study.get("data", {}) == policies
    study["training"]["epochs"] = 1
    target.write_text(yaml.safe_dump(study))
    done = shell.invoke(app, ["run" if kind in WHOLE else "score", str(target), "--json"])
    assert done.exit_code == 0, done.exception
    answer = json.loads(done.stdout)
    if kind in WHOLE:
        assert answer["trials"][0]["metrics"]
        assert answer["report"]
    else:
        assert answer["scores"]
        assert all(one["samples"] > 0 and one["min"] < one["max"] for one in answer["scores"])
    source = json.loads((marked_home() / "assets" / "mine" / "source.json").read_text())
    assert source["label_names"] == classes
    assert not [finding for finding in answer["findings"] if finding["kind"] == "absent classes"]


def test_a_folder_of_pictures_with_a_metadata_file_is_one(tmp_path: Path) -> None:
    folder, names = tmp_path / "pets", ["cat", "dog"]
    for row in range(ROWS):
        path = folder / names[row % 2] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), row, np.uint8)).save(path)
    listed = [f"{names[row % 2]}/{row}.png,{names[row % 2]},{row}" for row in range(ROWS)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,label,age", *listed]))
    target = tmp_path / "pets.yaml"
    done = CliRunner().invoke(app, ["init", str(folder), "-o", str(target)])
    assert done.exit_code == 0, done.exception
    assert yaml.safe_load(target.read_text())["source"]["kind"] == "imagefolder"
    # The draft rejects the same data as a run: pictures of two depths.
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(folder / "cat/0.png")
    done = CliRunner().invoke(app, ["init", str(folder), "-o", str(target), "--overwrite"])
    assert "save all images alike" in str(done.exception)


def test_columns_are_typed_over_all_rows_as_the_reader_types_them(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    numbers = [str(row) for row in range(12_000)]
    rows = pd.DataFrame({"code": [*numbers[:-1], "007"], "half": [*numbers[:-1], "0.5"], "label": ["a", "b"] * 6000})
    rows.to_csv(path, index=False)
    columns = profile(find_data(str(path))).columns
    assert (columns["code"].holds, columns["half"].holds, columns["label"].holds) == ("text", "number", "text")
    (tmp_path / "two").mkdir()
    rows.head(20).to_csv(tmp_path / "two" / "train.csv", index=False)
    rows.tail(20).to_csv(tmp_path / "two" / "test.csv", index=False)
    columns = profile(find_data(str(tmp_path / "two"))).columns
    assert (columns["code"].holds, columns["half"].holds) == ("text", "number")


def test_marks_of_missing_numbers_are_found_in_all_rows(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    prices = [str(row / 4) for row in range(3000)]
    prices[2990], prices[10] = "n/a", "-"
    pd.DataFrame({"price": prices, "label": ["a", "b"] * 1500}).to_csv(path, index=False)
    price = profile(find_data(str(path))).columns["price"]
    assert price.marks == ("-", "n/a")
    assert price.unmarked is not None
    assert (price.holds, price.unmarked.holds, price.unmarked.missing) == ("text", "number", 2)


def test_a_charset_is_said_and_written(tmp_path: Path) -> None:
    path, target = tmp_path / "old.csv", tmp_path / "mine.yaml"
    table(city=chosen("Köln", "Bern"), label=chosen("für", "wider")).to_csv(path, index=False, encoding="latin-1")
    done = CliRunner().invoke(app, ["init", str(path), "-o", str(target)])
    assert "is not utf-8; write the encoding of the file as --charset, for example latin-1" in str(done.exception)
    done = CliRunner().invoke(app, ["init", str(path), "-o", str(target), "--charset", "latin-1"])
    assert done.exit_code == 0, done.exception
    assert yaml.safe_load(target.read_text())["source"]["charset"] == "latin-1"


def test_packed_shards_are_one_data_set(tmp_path: Path) -> None:
    for number in range(2):
        with gzip.open(tmp_path / f"train-{number:05d}-of-00002.csv.gz", "wt") as file:
            table(label=chosen("a", "b")).to_csv(file, index=False, sep=";")
    place = find_data(str(tmp_path))
    assert (place.kind, place.separator) == ("csv", ";")
    assert place.train.endswith("train*.csv.gz")
