"""datasets, torchvision's rule and webdataset read image folders and shards back, with equal ids and order."""

import csv
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import webdataset
from PIL import Image
from sample_tables import content_hashes

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.exports.registry import export
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest

ManifestOf = Callable[..., Manifest]
COLUMNS = {"image": "image", "label": "label"}
COUNT = 130
ROWS = [row for row in range(COUNT) if row % 4]


def pixels(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, (4, 5, 3), np.uint8)


def dataset_of(cells: list[Any], names: list[str], feature: Any = None) -> datasets.Dataset:
    features = datasets.Features({"image": feature or datasets.Image(), "label": datasets.ClassLabel(names=names)})
    table = {"image": cells, "label": [(row * 7) % len(names) for row in range(len(cells))]}
    return datasets.Dataset.from_dict(table, features=features)


@pytest.fixture
def files(tmp_path: Path) -> datasets.Dataset:
    """Images in separate files: PNG, and JPEG with a wrong extension."""
    cells = []
    for row in range(COUNT):
        path = tmp_path / "files" / f"{COUNT - row}.{'PNG' if row % 2 else 'dat'}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels(row)).save(path, "PNG" if row % 2 else "JPEG", quality=95)
        cells.append(str(path))
    return dataset_of(cells, ["ant", "bee", "cat"])


def read_folder(path: Path, cache: Path) -> datasets.Dataset:
    return datasets.load_dataset("imagefolder", data_dir=str(path), split="train", cache_dir=str(cache))


def row_of(image: Any) -> int:
    """Row of a picture of `files`; their names count backwards."""
    return COUNT - int(Path(image["path"]).stem)


def listed(path: Path) -> list[tuple[str, int]]:
    lines = (path / "list.txt").read_text().splitlines()
    return [(name, int(label)) for name, label in (line.rsplit(" ", 1) for line in lines)]


def test_a_folder_per_class(files: datasets.Dataset, manifest_of: ManifestOf, tmp_path: Path) -> None:
    manifest = manifest_of(files, COLUMNS, ROWS)
    path = export(manifest, "imagefolder", dataset=files)
    found = read_folder(path, tmp_path / "cache")
    assert found.features["label"].names == ["ant", "bee", "cat"]
    undecoded = found.cast_column("image", datasets.Image(decode=False))
    # Readers of class folders go class by class, and by name within: the names are the user's own.
    labels = files["label"]
    assert [row_of(cell) for cell in undecoded["image"]] == sorted(
        ROWS, key=lambda row: (labels[row], str(COUNT - row))
    )
    assert {Path(name).suffix for name, _ in listed(path)} == {".PNG", ".jpg"}
    assert [labels[row_of(cell)] for cell in undecoded["image"]] == list(found["label"])
    for cell, image in zip(undecoded["image"], found["image"], strict=True):
        original = Path(files.cast_column("image", datasets.Image(decode=False))[row_of(cell)]["image"]["path"])
        assert Path(cell["path"]).read_bytes() == original.read_bytes()
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(original)))
    order = [row_of({"path": name}) for name, _ in listed(path)]
    assert order == ROWS
    assert [label for _, label in listed(path)] == [labels[row] for row in ROWS]
    assert all((path / name).is_file() for name, _ in listed(path))


def test_one_folder_with_metadata_keeps_the_order(
    files: datasets.Dataset, manifest_of: ManifestOf, tmp_path: Path
) -> None:
    weights = np.linspace(1, 2, COUNT).astype(np.float32)
    manifest = manifest_of(files, COLUMNS, ROWS, weights=weights)
    path = export(manifest, "imagefolder", dataset=files, settings={"layout": "metadata"})
    found = read_folder(path, tmp_path / "cache")
    assert list(found["row"]) == ROWS
    assert list(found["label"]) == [["ant", "bee", "cat"][files["label"][row]] for row in ROWS]
    numbered = {"layout": "metadata", "label_numbers": True}
    numbers = read_folder(
        export(manifest, "imagefolder", tmp_path / "numbers", dataset=files, settings=numbered), tmp_path / "cache"
    )
    assert list(numbers["label"]) == [files["label"][row] for row in ROWS]
    assert np.array_equal(np.asarray(found["weight"], np.float32), weights[ROWS])
    assert [np.asarray(image).tolist() for image in found["image"]] == [
        np.asarray(image).tolist() for image in files.select(ROWS)["image"]
    ]
    assert json.loads((path / "classes.json").read_text())["1"] == {"name": "bee", "folder": "images"}


@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_arrays_become_png(channels: int, manifest_of: ManifestOf, tmp_path: Path) -> None:
    shape = (6, 7) if not channels else (6, 7, channels)
    arrays = [np.random.default_rng(row).integers(0, 256, shape, np.uint8) for row in range(9)]
    feature = datasets.Array2D(shape, "uint8") if not channels else datasets.Array3D(shape, "uint8")
    data = dataset_of(arrays, ["a", "b"], feature)
    plain = dataset_of([Image.new("L", (1, 1), row) for row in range(9)], ["a", "b"])
    manifest = manifest_of(plain, COLUMNS, [0, 4, 5])
    hashed = list(content_hashes(plain, Columns(**COLUMNS)))
    path = export(manifest, "imagefolder", dataset=data, hash_rows=lambda _: hashed, settings={"layout": "metadata"})
    assert sorted(file.name for file in (path / "images").iterdir()) == ["0.png", "4.png", "5.png"]
    found = read_folder(path, tmp_path / "cache")
    for row, image in zip([0, 4, 5], found["image"], strict=True):
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), arrays[row].reshape(6, 7) if channels == 1 else arrays[row])


def test_links_share_the_file_and_copies_do_not(files: datasets.Dataset, manifest_of: ManifestOf) -> None:
    manifest = manifest_of(files, COLUMNS, ROWS)
    original = Path(files.cast_column("image", datasets.Image(decode=False))[ROWS[0]]["image"]["path"])
    for link in (True, False):
        path = export(manifest, "imagefolder", dataset=files, settings={"link": link}, overwrite=True)
        assert os.path.samefile(path / listed(path)[0][0], original) == link


HOSTILE = [
    "../up", "/etc/passwd", "..", ".", "a\0b", "CON", "con.txt", "x" * 5000, "", " ", "caf\u00e9", "cafe\u0301",
    "CAF\u00c9", "a/b", "a\\b", "C:x", "test", "\u202egnp", "~root", "-rf", "a\nb", "*", "straße", "STRASSE",
]  # fmt: skip


@pytest.mark.parametrize("layout", ["classes", "metadata"])
def test_class_names_cannot_leave_the_folder(layout: str, manifest_of: ManifestOf, tmp_path: Path) -> None:
    images = [Image.new("L", (2, 2), row) for row in range(2 * len(HOSTILE))]
    data = dataset_of(images, [str(place) for place in range(len(HOSTILE))])
    manifest = manifest_of(data, COLUMNS, list(range(len(data))), label_names=HOSTILE)
    outer = tmp_path / "outer"
    before = set(tmp_path.rglob("*"))
    path = export(manifest, "imagefolder", outer / "target", dataset=data, settings={"layout": layout})
    new = set(tmp_path.rglob("*")) - before
    assert all(place.is_relative_to(outer) for place in new)
    assert [file.name for file in outer.iterdir()] == ["target"]
    assert len(listed(path)) == len(data)
    assert all((path / name).is_file() for name, _ in listed(path))
    found = read_folder(path, tmp_path / "cache")
    if layout == "classes":
        # Labels survive the reader, which numbers classes by the order of their folders.
        assert [
            int(Path(c["path"]).stem) for c in found.cast_column("image", datasets.Image(decode=False))["image"]
        ] == sorted(range(len(data)), key=lambda row: (data["label"][row], row))
        assert list(found["label"]) == sorted(data["label"])
    described = json.loads((path / "classes.json").read_text())
    assert [described[str(label)]["name"] for label in range(len(HOSTILE))] == HOSTILE


def shards(path: Path) -> list[str]:
    return sorted(str(file) for file in path.glob("shard-*.tar"))


def read_shards(path: Path) -> list[dict[str, Any]]:
    return list(webdataset.WebDataset(shards(path), shardshuffle=False, empty_check=False))


def test_shards_of_images(files: datasets.Dataset, manifest_of: ManifestOf) -> None:
    manifest = manifest_of(files, COLUMNS, ROWS)
    path = export(manifest, "webdataset", dataset=files, settings={"shard_rows": 20, "label_numbers": True})
    assert json.loads((path / "classes.json").read_text()) == {"0": "ant", "1": "bee", "2": "cat"}
    assert json.loads((path / "sizes.json").read_text()) == {
        Path(name).name: min(20, len(ROWS) - 20 * number) for number, name in enumerate(shards(path))
    }
    found = read_shards(path)
    assert [int(sample["__key__"]) for sample in found] == ROWS
    assert {len(sample["__key__"]) for sample in found} == {3}
    assert [int(sample["cls"]) for sample in found] == [files["label"][row] for row in ROWS]
    undecoded = files.cast_column("image", datasets.Image(decode=False))
    for row, sample in zip(ROWS, found, strict=True):
        assert sample["png" if row % 2 else "jpg"] == Path(undecoded[row]["image"]["path"]).read_bytes()
        assert json.loads(sample["json"]) == {"row": row, "label": ["ant", "bee", "cat"][files["label"][row]]}
    decoded = next(
        iter(webdataset.WebDataset(shards(path), shardshuffle=False).decode("rgb8").to_tuple("jpg;png", "cls"))
    )
    assert np.array_equal(decoded[0], np.asarray(files[ROWS[0]]["image"]))
    assert decoded[1] == files["label"][ROWS[0]]


def test_shards_of_texts_and_features(manifest_of: ManifestOf) -> None:
    texts = [f"text {row} ü" for row in range(50)]
    labels = [row % 2 for row in range(50)]
    data = datasets.Dataset.from_dict({"text": texts, "label": labels, "source": ["s"] * 50})
    weights = np.linspace(1, 2, 50).astype(np.float32)
    rows = list(range(1, 50, 4))
    manifest = manifest_of(data, {"text": "text", "label": "label"}, rows, weights=weights)
    found = read_shards(export(manifest, "webdataset", dataset=data))
    assert [(int(s["__key__"]), s["txt"].decode(), "cls" in s) for s in found] == [
        (row, texts[row], False) for row in rows
    ]
    assert [json.loads(s["json"]) for s in found] == [
        {"row": row, "weight": float(weights[row]), "label": labels[row], "source": "s"} for row in rows
    ]


def test_shards_of_tables(manifest_of: ManifestOf) -> None:
    data = datasets.Dataset.from_dict({"x": [row / 7 for row in range(30)], "y": [None, 1, 2] * 10, "label": [0] * 30})
    manifest = manifest_of(data, {"features": ["x", "y"], "label": "label"}, [0, 7, 29])
    found = read_shards(export(manifest, "webdataset", dataset=data))
    assert [json.loads(sample["json"]) for sample in found] == [
        {"row": row, "x": data["x"][row], "y": data["y"][row], "label": 0} for row in (0, 7, 29)
    ]


def test_shards_are_bounded_and_say_nothing_of_who_wrote_them(manifest_of: ManifestOf) -> None:
    data = datasets.Dataset.from_dict({"text": ["x" * 100_000] * 40, "label": [0] * 40, "n": list(range(40))})
    manifest = manifest_of(data, {"text": "text", "label": "label"}, list(range(40)))
    path = export(manifest, "webdataset", dataset=data, settings={"shard_megabytes": 1})
    assert len(shards(path)) == 5
    assert all(Path(shard).stat().st_size <= 1_020_000 for shard in shards(path))
    with tarfile.open(shards(path)[0]) as shard:
        told = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in shard.getmembers()}
    assert told == {(0, 0, 0, "", "", 0o644)}


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (None, "row 1, column 'image': the image is missing"),
        ({"bytes": b"no picture", "path": None}, "row 1, column 'image': the image cannot be decoded"),
        ({"bytes": None, "path": "/nowhere/x.png"}, "row 1, column 'image': there is no file /nowhere/x.png"),
    ],
)
@pytest.mark.parametrize("name", ["imagefolder", "webdataset"])
def test_a_broken_image_is_named_and_leaves_nothing(
    cell: Any, said: str, name: str, manifest_of: ManifestOf, tmp_path: Path
) -> None:
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "PNG")
    data = dataset_of([{"bytes": file.getvalue(), "path": None}, cell], ["a"], datasets.Image(decode=False))
    manifest = manifest_of(data, COLUMNS, [0, 1])
    with pytest.raises(ManifestError, match=said):
        export(manifest, name, dataset=data)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_is_no_image_data_is_refused(manifest_of: ManifestOf) -> None:
    data = datasets.Dataset.from_dict({"text": ["a"], "label": [0]})
    manifest = manifest_of(data, {"text": "text", "label": "label"}, [0])
    with pytest.raises(ManifestError, match="of text, label none holds images"):
        export(manifest, "imagefolder", dataset=data)
    with pytest.raises(ManifestError, match="needs the data set"):
        export(manifest, "imagefolder")


def test_images_are_not_written_over(files: datasets.Dataset, manifest_of: ManifestOf, tmp_path: Path) -> None:
    manifest = manifest_of(files, COLUMNS, ROWS)
    first = export(manifest, "imagefolder", dataset=files)
    again = dataset_of([str(first / name) for name, _ in listed(first)], ["ant", "bee", "cat"])
    other = manifest_of(again, COLUMNS, [0, 1], dataset="again") if not (tmp_path / "m").exists() else None
    assert other is None
    moved = manifest.path.rename(tmp_path / "first")
    other = manifest_of(again, COLUMNS, [0, 1])
    with pytest.raises(ManifestError, match="which is read here"):
        export(other, "imagefolder", first, dataset=again, overwrite=True)
    assert len(listed(first)) == len(ROWS)
    assert moved.is_dir()


def test_metadata_is_plain_csv(files: datasets.Dataset, manifest_of: ManifestOf) -> None:
    path = export(manifest_of(files, COLUMNS, ROWS), "imagefolder", dataset=files)
    with (path / "rows.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert [int(record["row"]) for record in records] == ROWS
    assert all((path / record["file_name"]).is_file() for record in records)


def test_other_columns_of_pictures_stand_in_the_metadata(files: datasets.Dataset, manifest_of: ManifestOf) -> None:
    told = files.add_column("age", list(range(len(files)))).add_column("tags", [["a", "b"]] * len(files))
    path = export(manifest_of(files, COLUMNS, ROWS), "imagefolder", dataset=told, settings={"layout": "metadata"})
    with (path / "metadata.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert [(int(record["age"]), json.loads(record["tags"])) for record in records] == [
        (row, ["a", "b"]) for row in ROWS
    ]
