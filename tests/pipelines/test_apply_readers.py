"""A manifest applies itself to values that pandas, polars, `datasets` and torch changed, or names the column."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from sample_tables import study_manifest
from small_studies import REST
from torch.utils.data import TensorDataset

from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.manifests import hashed_rows
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest

COUNT = 60
WORDS = ["NA", "None", "null", "fine", "nan", ""]


def every_other(samples: pl.DataFrame) -> Any:
    return (samples["row"] % 2 == 0).to_numpy()


def made(folder: Path, kind: str, content: str, columns: str, source: str = "", more: str = "") -> Manifest:
    (folder / f"all.{kind}").write_text(content, encoding="utf-8")
    text = (
        f"name: s\nsource: {{kind: {kind}, train: all.{kind}, test_fraction: 0.3{source}}}\ncolumns: {columns}\n{more}"
    )
    return study_manifest(text + REST, folder, every_other)[1]


def csv_of(names: str, row: Callable[[int], str]) -> str:
    return f"id,{names}\n" + "".join(f"{number},{row(number)}\n" for number in range(COUNT))


def by_datasets(path: Path) -> Any:
    kind = {".csv": "csv", ".jsonl": "json"}[path.suffix]
    return datasets.load_dataset(
        kind, data_files=str(path), split="train", cache_dir=str(path.parent / "cache"), verification_mode="no_checks"
    )


READERS: dict[str, Callable[[Path], Any]] = {
    "pandas": pd.read_csv,
    "pandas of 32 bits": lambda path: pd.read_csv(path).astype({"price": "float32"}),
    "polars": pl.read_csv,
    "polars, lazy": lambda path: pl.read_csv(path).lazy(),
    "polars of 32 bits": lambda path: pl.read_csv(path).with_columns(pl.col("price").cast(pl.Float32)),
    "datasets": by_datasets,
    "shuffled by pandas": lambda path: pd.read_csv(path).sample(frac=1, random_state=1),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A CSV whose values readers change: codes, words for a missing value, decimals, labels that are codes."""
    folder = tmp_path_factory.mktemp("shop")
    content = csv_of(
        "zip,note,price,label", lambda row: f"{row * 7:05d},{WORDS[row % 6]},{row / 8 + 0.1:.3f},{row % 3:02d}"
    )
    columns = "{features: [zip, note, price], label: label}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where studies are trusted
        return folder / "all.csv", made(folder, "csv", content, columns)


@pytest.mark.parametrize("reader", READERS)
def test_what_readers_make_of_a_csv_is_its_rows(reader: str, shop: tuple[Path, Manifest]) -> None:
    path, manifest = shop
    data = READERS[reader](path)
    found = manifest.apply(data)
    assert type(found) is type(data)
    given, found = (one.collect() if isinstance(one, pl.LazyFrame) else one for one in (data, found))
    kept = set(manifest.rows.tolist())
    assert [int(one) for one in found["id"]] == [int(one) for one in given["id"] if int(one) in kept]
    assert len(found["id"]) == len(kept)


def test_a_value_that_is_another_is_refused_whatever_the_reader(shop: tuple[Path, Manifest]) -> None:
    path, manifest = shop
    table = pd.read_csv(path)
    row = int(manifest.rows[3])
    for name, value in (("zip", 999), ("label", (table["label"][row] + 1) % 3)):
        other = table.copy()
        other.loc[row, name] = value
        with pytest.raises(ManifestError, match=f"1 of its {len(manifest.rows)} kept samples .*row {row} of all.csv"):
            manifest.apply(other)


def test_dates_that_became_times_are_the_texts_they_were(tmp_path: Path) -> None:
    rows = (
        {"id": row, "day": f"2026-01-{1 + row % 28:02d}", "at": f"2026-01-02T10:00:{row:02d}Z", "label": "ab"[row % 2]}
        for row in range(COUNT)
    )
    content = "".join(json.dumps(row) + "\n" for row in rows)
    manifest = made(tmp_path, "jsonl", content, "{features: [day, at], label: label}")
    path = tmp_path / "all.jsonl"
    parsed = by_datasets(path)
    assert str(parsed.features["at"].dtype).startswith("timestamp")
    for data in (parsed, pd.read_json(path, lines=True, convert_dates=["day", "at"]), pl.read_ndjson(path)):
        assert list(manifest.apply(data)["id"]) == manifest.rows.tolist()


def test_tensors_of_32_bits_are_the_decimals_of_the_file(tmp_path: Path) -> None:
    content = csv_of("x,y,flag,label", lambda row: f"{row / 10},{row / 7:.4f},{row % 2 == 0},{'ab'[row % 3 == 0]}")
    manifest = made(tmp_path, "csv", content, "{features: [x, y, flag], label: label}")
    table = pd.read_csv(tmp_path / "all.csv")
    inputs = torch.tensor(table[["x", "y", "flag"]].to_numpy(np.float32))
    targets = torch.tensor((table["label"] == "b").to_numpy(np.int64))
    found = manifest.apply(TensorDataset(inputs, targets))
    assert list(found.indices) == manifest.rows.tolist()
    with pytest.raises(ManifestError, match="not made from this data"):
        manifest.apply(TensorDataset(inputs, 1 - targets))


LOSSES: dict[str, tuple[Callable[[int], str], Callable[[pd.DataFrame], Any], str]] = {
    "digits behind a point": (
        lambda row: ["1.10", "02.0", "x"][row % 3] if row < 3 else f"{row}.10",
        lambda table: table.assign(x=pd.to_numeric(table["x"], errors="coerce").fillna(0.0)),
        "column 'x' holds numbers here and texts in the file: read it with dtype=str in pandas",
    ),
    "digits beyond 32 bits": (
        lambda row: repr(row / 7),
        lambda table: table.astype({"x": "float32"}),
        "column 'x' holds numbers of 32 bits, to which a reader rounded them: read it as float64",
    ),
    "a word of one's own": (
        lambda row: "absent" if row % 5 else "x",
        lambda table: table.replace({"x": {"absent": None}}),
        "column 'x' has 48 missing values here, and readers take words such as NA for these",
    ),
    "lists": (
        lambda row: f"t{row}",
        lambda table: pl.from_pandas(table).with_columns(x=pl.concat_list("x")),
        "column 'x' holds lists of texts, and texts in the file",
    ),
    "whole numbers beyond 64 bits": (
        lambda row: str(row),
        lambda table: table.assign(x=[2**64 + row for row in range(COUNT)]),
        "column 'x' holds texts that are no whole numbers",
    ),
    "several types": (
        lambda row: str(row),
        lambda table: table.assign(x=[row if row % 2 else "x" for row in range(COUNT)]),
        "column 'x' holds values of the types int, str: make it one",
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_cannot_be_undone_is_refused_by_column(loss: str, tmp_path: Path) -> None:
    value, change, said = LOSSES[loss]
    manifest = made(
        tmp_path,
        "csv",
        csv_of("n,x,label", lambda row: f"{row},{value(row)},{row % 2}"),
        "{features: [n, x], label: label}",
    )
    with pytest.raises(ManifestError) as fault:
        manifest.apply(change(pd.read_csv(tmp_path / "all.csv")))
    assert said in str(fault.value)


def test_numbers_beyond_64_bits_are_the_texts_of_the_file(tmp_path: Path) -> None:
    content = csv_of("x,label", lambda row: f"{2**64 + row},{row % 2}")
    manifest = made(tmp_path, "csv", content, "{features: [x], label: label}")
    path = tmp_path / "all.csv"
    for data in (pd.read_csv(path), pl.read_csv(path), pd.read_csv(path).to_dict("records")):
        found = manifest.apply(data)
        assert list(pd.DataFrame(found if isinstance(found, list) else {"id": found["id"]})["id"]) == list(
            manifest.rows
        )


def test_a_text_that_came_as_numbers_is_refused(tmp_path: Path) -> None:
    manifest = made(
        tmp_path, "csv", csv_of("body,label", lambda row: f"t{row},{row % 2}"), "{text: body, label: label}"
    )
    table = pd.read_csv(tmp_path / "all.csv")
    with pytest.raises(ManifestError, match="column 'body' holds whole numbers here and texts in the file"):
        manifest.apply(table.assign(body=table["id"]))


@pytest.mark.parametrize("names", ["['1', '0']", "['2', '0', '1']"])
def test_labels_that_are_names_of_classes_are_no_numbers_of_them(names: str, tmp_path: Path) -> None:
    count = names.count(",") + 1
    content = csv_of("x,label", lambda row: f"{row},{row * row % 7 % count}")
    manifest = made(tmp_path, "csv", content, "{features: [x], label: label}", f", label_names: {names}")
    table = pd.read_csv(tmp_path / "all.csv")
    for data in (table, table.astype({"label": str}), table.astype({"label": float})):
        assert list(manifest.apply(data)["id"]) == manifest.rows.tolist()
    order = list(manifest.selection.origin.label_names)
    other = table.assign(label=[order.index(str(label)) for label in table["label"]])
    for data in (other, other.astype({"label": str})):
        with pytest.raises(ManifestError, match="column 'label' are read as the names of classes, not their numbers"):
            manifest.apply(data)


def test_fewer_rows_than_kept_samples_are_read_once_and_no_reader_is_blamed(
    shop: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading costs seconds where the manifest is large, and hundreds were tried in a part of its data."""
    path, manifest = shop
    read, hashed = list[object](), hashed_rows.hashed
    monkeypatch.setattr(hashed_rows, "hashed", lambda *given: read.append(given) or hashed(*given))
    with pytest.raises(ManifestError, match="have fewer rows than that: give all of them"):
        manifest.apply(pd.read_csv(path).head(manifest.declaration.count - 1))
    assert len(read) == 1
    manifest.apply(pd.read_csv(path))
    assert len(read) > 2


def test_guesses_are_fewer_for_large_data_and_for_large_manifests() -> None:
    most = hashed_rows.WORK // 50_000
    assert hashed_rows.most_guesses(50_000, 10) == hashed_rows.most_guesses(10, 50_000) == most
    assert hashed_rows.most_guesses(10**9, 10) == hashed_rows.FEWEST


def test_labels_of_one_value_are_not_guessed(tmp_path: Path) -> None:
    content = csv_of("x,label", lambda row: f"{row},{['1', '01', '2'][row % 3]}")
    manifest = made(tmp_path, "csv", content, "{features: [x], label: label}")
    with pytest.raises(ManifestError, match="not made from this data"):
        manifest.apply(pd.read_csv(tmp_path / "all.csv"))
    assert len(manifest.apply(pd.read_csv(tmp_path / "all.csv", dtype=str))) == len(manifest.rows)


def test_a_label_that_readers_take_for_missing_is_a_class(tmp_path: Path) -> None:
    content = csv_of("x,label", lambda row: f"{row},{['NA', 'refund'][row % 3 == 0]}")
    manifest = made(tmp_path, "csv", content, "{features: [x], label: label}")
    for data in (pd.read_csv(tmp_path / "all.csv"), by_datasets(tmp_path / "all.csv")):
        assert list(manifest.apply(data)["id"]) == manifest.rows.tolist()


@pytest.mark.parametrize("wrong", [["yes", "no"], [[0], [1]], [pd.Timestamp("2026-01-01"), pd.NaT]])
def test_several_label_columns_are_flags(wrong: list[Any], tmp_path: Path) -> None:
    content = csv_of("x,p,q", lambda row: f"{row},{row % 2},{row // 2 % 2}")
    columns = "{features: [x], label: [p, q]}"
    manifest = made(tmp_path, "csv", content, columns, more="task: multi_label\n")
    table = pd.read_csv(tmp_path / "all.csv")
    for kind in (int, bool, str, "float32"):
        assert list(manifest.apply(table.astype({"p": kind, "q": kind}))["id"]) == manifest.rows.tolist()
    with pytest.raises(ManifestError, match="column 'p' holds"):
        manifest.apply(table.assign(p=wrong * (COUNT // 2)))
    if wrong[0] == "yes":
        (tmp_path / "words").mkdir()
        with pytest.raises(SourceError, match="column 'p' holds texts; of several label columns each is 0 or 1"):
            made(tmp_path / "words", "csv", content.replace(",1,", ",yes,"), columns, more="task: multi_label\n")


# --- pictures


def pets(folder: Path, shape: tuple[int, ...]) -> Manifest:
    for row in range(24):
        path = folder / "pets" / ["ant", "bee"][row % 2] / f"p{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(row).integers(0, 256, shape, np.uint8)).save(path)
    text = "name: s\nsource: {kind: imagefolder, train: pets, test_fraction: 0.25}\n"
    return study_manifest(text + "columns: {image: image, label: label}\n" + REST, folder, every_other)[1]


class Pets(torch.utils.data.Dataset[Any]):
    """Items like those of torchvision's ImageFolder, with a transform."""

    def __init__(self, folder: Path, transform: Callable[[Image.Image], Any]) -> None:
        self.files, self.transform = sorted((folder / "pets").glob("*/*")), transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        return self.transform(Image.open(self.files[place])), ["ant", "bee"].index(self.files[place].parent.name)


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """The result of torchvision's ToTensor."""
    values = np.asarray(picture)
    return torch.from_numpy(np.atleast_3d(values).transpose(2, 0, 1).copy()).to(torch.float32).div(255)


TRANSFORMS: dict[str, Callable[[Image.Image], Any]] = {
    "none": lambda picture: picture,
    "ToTensor": to_tensor,
    "arrays": np.asarray,
    "torchvision's loader": lambda picture: to_tensor(picture.convert("RGB")),
}


@pytest.mark.parametrize("shape", [(5, 6, 3), (5, 6)])
def test_pictures_as_torch_has_them_are_those_of_the_files(shape: tuple[int, ...], tmp_path: Path) -> None:
    manifest = pets(tmp_path, shape)
    for name, transform in TRANSFORMS.items():
        data = Pets(tmp_path, transform)
        found = [str(data.files[place].relative_to(tmp_path / "pets")) for place in manifest.apply(data).indices]
        assert sorted(found) == sorted(manifest.places["path"]), name
    with pytest.raises(ManifestError, match="picture of item 0 holds other pixels than a file can, as after Normalize"):
        manifest.apply(Pets(tmp_path, lambda picture: to_tensor(picture) - 0.5))
    with pytest.raises(ManifestError, match="apply it to the data set without its transform"):
        manifest.apply(Pets(tmp_path, lambda picture: picture.rotate(90)))


def test_a_folder_of_pictures_gives_a_folder_of_those_kept(tmp_path: Path) -> None:
    manifest = pets(tmp_path, (4, 4))
    (tmp_path / "pets" / "notes.txt").write_text("mine")
    manifest.apply(tmp_path / "pets", output=tmp_path / "kept")
    found = {
        str(path.relative_to(tmp_path / "kept")): path for path in (tmp_path / "kept").rglob("*") if path.is_file()
    }
    assert set(found) == set(manifest.places["path"])
    assert all(path.read_bytes() == (tmp_path / "pets" / name).read_bytes() for name, path in found.items())
    next(iter((tmp_path / "pets" / "ant").glob("*.png"))).write_bytes(b"")
    (tmp_path / "pets" / manifest.places["path"][0]).unlink()
    with pytest.raises(ManifestError, match=r"1 of its \d+ kept samples"):
        manifest.apply(tmp_path / "pets", output=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_metadata_of_kept_pictures_goes_along(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    for row in range(24):
        Image.fromarray(np.full((3, 3), row, np.uint8)).save(tmp_path / "pets" / f"p{row}.png")
    lines = ["label,file_name,note", *(f'{"ab"[row % 2]},p{row}.png,"so, {row}"' for row in range(24))]
    (tmp_path / "pets" / "metadata.csv").write_text("\n".join(lines) + "\n")
    text = "name: s\nsource: {kind: imagefolder, train: pets, test_fraction: 0.25}\n"
    manifest = study_manifest(text + "columns: {image: image, label: label}\n" + REST, tmp_path, every_other)[1]
    manifest.apply(tmp_path / "pets", output=tmp_path / "kept")
    kept = set(manifest.places["path"])
    expected = [line for line in lines if line == lines[0] or line.split(",")[1] in kept]
    assert (tmp_path / "kept" / "metadata.csv").read_text().splitlines() == expected
    assert {path.name for path in (tmp_path / "kept").glob("*.png")} == kept


def test_relative_paths_start_above_the_manifest_or_where_the_caller_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "img").mkdir()
    for row in range(24):
        Image.fromarray(np.full((4, 4), row * 8, np.uint8)).save(tmp_path / "img" / f"p{row}.png")
    content = "id,file,label\n" + "".join(f"{row},img/p{row}.png,{'ab'[row % 2]}\n" for row in range(24))
    manifest = made(tmp_path, "csv", content, "{image: file, label: label}")
    monkeypatch.chdir("/")
    table = pd.read_csv(tmp_path / "all.csv")
    assert list(manifest.apply(table)["id"]) == manifest.rows.tolist()
    (tmp_path / "img").rename(tmp_path / "img2")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "img2").rename(tmp_path / "elsewhere" / "img")
    assert list(manifest.apply(table, folder=tmp_path / "elsewhere")["id"]) == manifest.rows.tolist()
    with pytest.raises(ManifestError, match="is not there; give the folder where paths start as folder"):
        manifest.apply(table)


def test_records_of_pandas_hold_nan_for_a_missing_text(tmp_path: Path) -> None:
    content = csv_of("body,label", lambda row: f"{'NA' if row % 9 == 0 else f't{row}'},{row % 2}")
    manifest = made(tmp_path, "csv", content, "{text: body, label: label}")
    records = pd.read_csv(tmp_path / "all.csv").to_dict("records")
    assert [record["id"] for record in manifest.apply(records)] == list(manifest.rows)
