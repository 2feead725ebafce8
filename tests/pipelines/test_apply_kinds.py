"""A manifest applies itself to data in memory of any type, and returns the same type with its own values."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sample_tables import study_manifest
from small_studies import REST
from torch.utils.data import Subset

from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest

COUNT = 60
KINDS = ["refund", "übrig", "late, again"]


def table_of(label: Callable[[int], Any]) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "id": range(COUNT),
            "x": rng.normal(size=COUNT),
            "shop": [["north", "süd", "east"][row % 3] for row in range(COUNT)],
            "label": [label(row) for row in range(COUNT)],
        }
    )


LABELS: dict[str, Callable[[int], Any]] = {
    "texts": lambda row: KINDS[row % 3],
    "booleans": lambda row: row % 3 == 0,
    "numbers": lambda row: [10, 20, 30][row % 3],
    "floats": lambda row: float(row % 3),
}


def every_other(samples: pl.DataFrame) -> Any:
    return (samples["row"] % 2 == 0).to_numpy()


def made(label: str, folder: Path, source: str = "test_fraction: 0.3", more: str = "") -> tuple[pd.DataFrame, Manifest]:
    table = table_of(LABELS[label])
    table.to_csv(folder / "all.csv", index=False)
    text = f"name: s\nsource: {{kind: csv, train: all.csv, {source}}}\ncolumns: {{features: [x, shop], label: label}}\n"
    return table, study_manifest(text + more + REST, folder, every_other)[1]


class Items(torch.utils.data.Dataset[Any]):
    """A map-style data set of dicts."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self.rows[place]


def ids(found: Any) -> list[int]:
    """The column id of the result."""
    if isinstance(found, Subset):
        return [found[place]["id"] for place in range(len(found))]
    if isinstance(found, list):
        return [int(row["id"]) for row in found]
    if isinstance(found, pa.Table):
        return found["id"].to_pylist()
    return [int(value) for value in found["id"]]


HOLDERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "csv by datasets": lambda table, folder: datasets.load_dataset(
        "csv", data_files=str(folder / "all.csv"), split="train", cache_dir=str(folder / "cache")
    ),
    "csv by pandas": lambda table, folder: pd.read_csv(folder / "all.csv"),
    "csv by polars": lambda table, folder: pl.read_csv(folder / "all.csv"),
    "csv by the standard library": lambda table, folder: list(
        csv.DictReader((folder / "all.csv").open(newline="", encoding="utf-8"))
    ),
    "arrow": lambda table, folder: pa.Table.from_pandas(table, preserve_index=False),
    "dicts": lambda table, folder: table.to_dict("records"),
    "torch": lambda table, folder: Items(table.to_dict("records")),
    "categories": lambda table, folder: table.astype({"shop": "category", "label": "category"}),
    "an index of its own": lambda table, folder: table.set_index(pd.Index(range(500, 500 + COUNT))),
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("label", LABELS)
def test_each_holder_gives_its_own_kind_back(label: str, holder: str, tmp_path: Path) -> None:
    table, manifest = made(label, tmp_path)
    data = HOLDERS[holder](table, tmp_path)
    found = manifest.apply(data)
    assert type(found) is (Subset if holder == "torch" else type(data))
    assert ids(found) == manifest.rows.tolist()
    assert set(manifest.rows) < set(range(COUNT))
    if isinstance(found, pd.DataFrame):
        pd.testing.assert_frame_equal(found, data.iloc[manifest.rows])
    if isinstance(found, list):
        assert found == [data[row] for row in manifest.rows]


@pytest.mark.parametrize("label", LABELS)
def test_rows_that_moved_are_found(label: str, tmp_path: Path) -> None:
    table, manifest = made(label, tmp_path)
    moved = table.sample(frac=1, random_state=3)
    assert ids(manifest.apply(moved)) == [row for row in moved["id"] if row in set(manifest.rows)]
    longer = pd.concat([moved.assign(x=moved["x"] + 9), table])
    found = manifest.apply(longer)
    assert ids(found) == manifest.rows.tolist()
    pd.testing.assert_frame_equal(found, table.iloc[manifest.rows])


@pytest.mark.parametrize("holder", [name for name in HOLDERS if "csv" not in name])
def test_other_data_is_refused_in_a_sentence(holder: str, tmp_path: Path) -> None:
    table, manifest = made("texts", tmp_path)
    row = int(manifest.rows[3])
    other = table.assign(x=table["x"] + (table["id"] == row))
    with pytest.raises(ManifestError, match=rf"1 of its {len(manifest.rows)} kept samples .*row {row} of all.csv"):
        manifest.apply(HOLDERS[holder](other, tmp_path))
    relabelled = table.assign(label=[KINDS[(i + (i == row)) % 3] for i in range(COUNT)])
    with pytest.raises(ManifestError, match="not made from this data"):
        manifest.apply(HOLDERS[holder](relabelled, tmp_path))
    with pytest.raises(ManifestError, match="there is no column 'label'"):
        manifest.apply(
            HOLDERS["dicts" if holder == "categories" else holder](table.rename(columns={"label": "kind"}), tmp_path)
        )


@pytest.mark.parametrize("thing", [3, {"x": [1]}, ["a"], np.zeros(3), iter([]), None])
def test_what_holds_no_rows_is_refused(thing: Any, tmp_path: Path) -> None:
    _, manifest = made("texts", tmp_path)
    with pytest.raises(ManifestError, match=r"a datasets\.Dataset or DatasetDict, a table of pandas, polars or Arrow"):
        manifest.apply(thing)
    with pytest.raises(ManifestError, match="output is the path to write"):
        manifest.apply(pd.DataFrame(), output=tmp_path / "x")


def test_splits_that_match_are_pruned(tmp_path: Path) -> None:
    table, manifest = made("texts", tmp_path)
    whole = datasets.Dataset.from_pandas(table, preserve_index=False)
    other = whole.map(lambda row: {"x": row["x"] + 1})
    found = manifest.apply(datasets.DatasetDict(train=whole, test=other))
    assert isinstance(found, datasets.DatasetDict)
    assert ids(found["train"]) == manifest.rows.tolist()
    assert found["test"].to_dict() == other.to_dict()
    with pytest.raises(ManifestError, match="no split is the data that it was made from; train: "):
        manifest.apply(datasets.DatasetDict(train=other, test=other))


def test_a_test_split_that_holds_the_samples_too_is_left_alone(tmp_path: Path) -> None:
    table, manifest = made("texts", tmp_path)
    whole = datasets.Dataset.from_pandas(table, preserve_index=False)
    splits = manifest.apply(datasets.DatasetDict(test=whole, train=whole))
    assert ids(splits["train"]) == manifest.rows.tolist()
    assert splits["test"].to_dict() == whole.to_dict()
    with pytest.raises(ManifestError, match="the splits a, b all hold its samples"):
        manifest.apply(datasets.DatasetDict(a=whole, b=whole))


def test_numbers_of_the_studys_classes_are_labels_too(tmp_path: Path) -> None:
    table, manifest = made("texts", tmp_path)
    names = list(manifest.selection.origin.label_names)
    assert names == sorted(KINDS)
    numbered = table.assign(label=[names.index(label) for label in table["label"]])
    assert ids(manifest.apply(numbered)) == manifest.rows.tolist()
    features = datasets.Features(
        {"id": datasets.Value("int64"), "x": datasets.Value("float64"), "shop": datasets.Value("string")}
        | {"label": datasets.ClassLabel(names=names[::-1])}
    )
    turned = numbered.assign(label=2 - numbered["label"])
    data = datasets.Dataset.from_pandas(turned, features=features, preserve_index=False)
    assert ids(manifest.apply(data)) == manifest.rows.tolist()
    with pytest.raises(ManifestError, match="not made from this data"):
        manifest.apply(turned)


@pytest.mark.parametrize(("label", "names"), [("booleans", ("False", "True")), ("floats", ("0.0", "1.0", "2.0"))])
def test_numbers_of_classes_that_a_csv_has_its_own_texts_for(
    label: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    table, manifest = made(label, tmp_path)
    assert manifest.selection.origin.label_names == names
    for labels in (table["label"].astype(int), table["label"].astype(str)):
        assert ids(manifest.apply(table.assign(label=labels))) == manifest.rows.tolist()


def test_numbers_that_the_study_names_are_found_by_their_names(tmp_path: Path) -> None:
    table = table_of(lambda row: row % 3)
    table.to_csv(tmp_path / "all.csv", index=False)
    source = "{kind: csv, train: all.csv, test_fraction: 0.3, label_names: [a, b, c]}"
    text = f"name: s\nsource: {source}\ncolumns: {{features: [x, shop], label: label}}\n"
    _, manifest = study_manifest(text + REST, tmp_path, every_other)
    for data in (table, table.assign(label=["abc"[label] for label in table["label"]])):
        assert ids(manifest.apply(data)) == manifest.rows.tolist()


@pytest.mark.parametrize(
    ("source", "policy", "dropped"),
    [
        ("test_fraction: 0.3, limit: 20", "", set()),
        (
            "test_fraction: 0.3",
            "data: {unlabelled: drop, bad_rows: drop, duplicates: drop}\n",
            {"unlabelled", "bad_rows"},
        ),
        ("split: {column: id, after: 40}", "data: {unlabelled: drop, bad_rows: drop}\n", {"unlabelled", "bad_rows"}),
    ],
)
def test_a_study_applies_to_its_own_file(source: str, policy: str, dropped: set[str], tmp_path: Path) -> None:
    table = table_of(LABELS["texts"])
    if policy:
        table.loc[[3, 4, 30], "label"] = None
        table.loc[[8, 9, 33], ["x", "shop"]] = None
        table = pd.concat([table, table.iloc[[20, 21]]], ignore_index=True)
        table["id"] = range(len(table))
    table.to_csv(tmp_path / "all.csv", index=False)
    text = f"name: s\nsource: {{kind: csv, train: all.csv, {source}}}\ncolumns: {{features: [x, shop], label: label}}\n"
    _, manifest = study_manifest(text + policy + REST, tmp_path, every_other)
    assert ids(manifest.apply(pd.read_csv(tmp_path / "all.csv"))) == manifest.rows.tolist()
    manifest.apply(tmp_path / "all.csv", output=tmp_path / "kept.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "kept.csv"), table.iloc[manifest.rows].reset_index(drop=True))
    assert not policy or not set(manifest.rows) & {3, 4, 30, 8, 9, 33}
    origin = manifest.selection.origin
    assert dropped <= set(origin.dropped)
    assert origin.policies["unlabelled"] == ("drop" if policy else "reject")


def test_pairs_of_pictures_and_numbers_are_rows(tmp_path: Path) -> None:
    for row in range(24):
        path = tmp_path / "pets" / ["ant", "bee"][row % 2] / f"p{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(row).integers(0, 256, (5, 5, 3), np.uint8)).save(path)
    text = "name: s\nsource: {kind: imagefolder, train: pets, test_fraction: 0.25}\n"
    columns = "columns: {image: image, label: label}\n"
    _, manifest = study_manifest(text + columns + REST, tmp_path, every_other)

    class Pets(torch.utils.data.Dataset[Any]):
        """Items like those of torchvision's ImageFolder."""

        files = sorted((tmp_path / "pets").glob("*/*"), reverse=True)

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, place: int) -> tuple[Any, int]:
            return Image.open(self.files[place]), ["ant", "bee"].index(self.files[place].parent.name)

    pets = Pets()
    found = manifest.apply(pets)
    assert isinstance(found, Subset)
    kept = sorted(str(pets.files[place].relative_to(tmp_path / "pets")) for place in found.indices)
    assert kept == sorted(manifest.places["path"])


# --- files


def test_records_of_a_csv_are_copied_byte_for_byte(tmp_path: Path) -> None:
    rows = [
        (f"{row:02d}", f'"a ""quote"" {row},\r\nand a line"' if row % 3 else f"plain {row}", row % 2)
        for row in range(40)
    ]
    lines = ["code;body;label", *(f"{code};{body};{label}" for code, body, label in rows)]
    content = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1").replace(b"plain", b"pl\xe4in")
    (tmp_path / "all.csv").write_bytes(content)
    text = 'name: s\nsource: {kind: csv, train: all.csv, test_fraction: 0.3, separator: ";", charset: latin-1}\n'
    _, manifest = study_manifest(text + "columns: {text: body, label: label}\n" + REST, tmp_path, every_other)
    manifest.apply(tmp_path / "all.csv", output=tmp_path / "kept.csv")
    expected = [lines[0], *(lines[1 + row] for row in manifest.rows)]
    wanted = "".join(f"{line}\r\n" for line in expected).encode("latin-1").replace(b"plain", b"pl\xe4in")
    assert (tmp_path / "kept.csv").read_bytes() == wanted
    with gzip.open(tmp_path / "packed.csv.gz", "wb") as file:
        file.write(content)
    manifest.apply(tmp_path / "packed.csv.gz", output=tmp_path / "kept.csv.gz")
    with gzip.open(tmp_path / "kept.csv.gz") as file:
        assert file.read() == wanted


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
def test_records_are_those_of_the_csv_module_whatever_the_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.pipelines.manifests.row_files import copy_records

    rng = np.random.default_rng(block)
    for _ in range(20):
        count = int(rng.integers(1, 9))
        rows = [["".join(rng.choice(list('ab,"\n '), rng.integers(0, 6))) for _ in range(2)] for _ in range(count)]
        rows = [[first + "x", second] for first, second in rows]
        path = pd.DataFrame(rows, columns=["p", "q"]).to_csv(index=False, lineterminator="\n").encode()
        keep = rng.random(count) < 0.5
        written: list[bytes] = []
        blocks = (path[start : start + block] for start in range(0, len(path), block))
        copy_records(blocks, keep, True, written.append)
        found = list(csv.reader(b"".join(written).decode().splitlines(keepends=True)))
        assert found == [["p", "q"], *(row for row, kept in zip(rows, keep, strict=True) if kept)]


def test_a_quote_that_is_not_doubled_is_refused_or_right(tmp_path: Path) -> None:
    lines = [
        "body,label",
        *(f'{row} 5" pipe,{row % 2}' if row in (4, 17) else f"{row} x,{row % 2}" for row in range(40)),
    ]
    (tmp_path / "all.csv").write_text("\n".join(lines) + "\n")
    text = "name: s\nsource: {kind: csv, train: all.csv, test_fraction: 0.3}\ncolumns: {text: body, label: label}\n"
    _, manifest = study_manifest(text + REST, tmp_path, every_other)
    with pytest.raises(ManifestError, match="a quote within a field is not doubled"):
        manifest.apply(tmp_path / "all.csv", output=tmp_path / "kept.csv")
    assert not (tmp_path / "kept.csv").exists()


def test_json_lines_are_copied_byte_for_byte(tmp_path: Path) -> None:
    lines = [
        json.dumps(
            {"body": f'ü "{row}" \u2028', "n": {"deep": [row, None]}, "label": KINDS[row % 3]},
            ensure_ascii=bool(row % 2),
        )
        for row in range(40)
    ]
    lines[5] = lines[5].replace(": ", "  :   ")
    (tmp_path / "all.jsonl").write_text("\n\n".join(lines), encoding="utf-8")
    text = "name: s\nsource: {kind: jsonl, train: all.jsonl, test_fraction: 0.3}\ncolumns: {text: body, label: label}\n"
    _, manifest = study_manifest(text + REST, tmp_path, every_other)
    manifest.apply(tmp_path / "all.jsonl", output=tmp_path / "kept.jsonl")
    found = (tmp_path / "kept.jsonl").read_text(encoding="utf-8").split("\n")
    assert [line for line in found if line] == [lines[row] for row in manifest.rows]


def test_parquet_keeps_schema_metadata_and_compression(tmp_path: Path) -> None:
    table = pa.table(
        {
            "body": pa.array([f"text {row}" for row in range(60)]),
            "day": pa.array(range(60), pa.date32()),
            "parts": pa.array([[row] * (row % 3) for row in range(60)], pa.list_(pa.int16())),
            "label": pa.array([KINDS[row % 3] for row in range(60)]).dictionary_encode(),
        }
    ).replace_schema_metadata({"ours": "yes"})
    pq.write_table(table, tmp_path / "all.parquet", row_group_size=7, compression="gzip")
    text = "name: s\nsource: {kind: parquet, train: all.parquet, test_fraction: 0.3}\n"
    text += "columns: {text: body, label: label}\n"
    _, manifest = study_manifest(text + REST, tmp_path, every_other)
    manifest.apply(tmp_path / "all.parquet", output=tmp_path / "kept.parquet")
    found = pq.read_table(tmp_path / "kept.parquet")
    original = pq.read_table(tmp_path / "all.parquet")
    assert found.schema.equals(original.schema, check_metadata=True)
    assert found.equals(original.take(pa.array(manifest.rows)))
    assert pq.ParquetFile(tmp_path / "kept.parquet").metadata.row_group(0).column(0).compression == "GZIP"


def test_a_saved_folder_comes_back_saved(tmp_path: Path) -> None:
    table, manifest = made("booleans", tmp_path)
    whole = datasets.Dataset.from_pandas(table, preserve_index=False)
    whole.save_to_disk(tmp_path / "saved")
    manifest.apply(tmp_path / "saved", output=tmp_path / "kept")
    found = datasets.load_from_disk(str(tmp_path / "kept"))
    assert found.features == whole.features
    assert found.to_dict() == whole.select(manifest.rows).to_dict()
    datasets.DatasetDict(train=whole).save_to_disk(tmp_path / "splits")
    manifest.apply(tmp_path / "splits", output=tmp_path / "kept_splits")
    assert datasets.load_from_disk(str(tmp_path / "kept_splits"))["train"].to_dict() == found.to_dict()
