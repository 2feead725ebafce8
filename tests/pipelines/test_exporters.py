"""The library that people use for each format reads the export back, with equal rows and order."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import xxhash

from secateur.pipelines.exports.registry import export, exporters
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.provenance import Provenance
from secateur.pipelines.manifests.rows import Rows

TEXTS = [f"text {row}" for row in range(21)]
KEPT = [1, 4, 5, 8, 20]
SHAPED = ("imagefolder", "axolotl", "in_place", "llama_factory", "trl")
"""Formats that need data of a certain shape; their own tests compare bytes."""


def hash_texts(dataset: datasets.Dataset) -> list[str]:
    return [xxhash.xxh3_128_hexdigest(text.encode()) for text in dataset["text"]]


def dataset_of(texts: list[str]) -> datasets.Dataset:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    return datasets.Dataset.from_dict({"text": texts, "label": [int(text[-1]) % 2 for text in texts]}, features)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    data = dataset_of(TEXTS)
    samples = pl.DataFrame({"row": np.arange(21), "content_hash": hash_texts(data), "label": list(data["label"])})
    keep = np.isin(np.arange(21), KEPT)
    provenance = Provenance(
        dataset="texts",
        revision="1",
        selection="some",
        selector="uniform_random",
        selector_version="1",
        settings={},
        keep=5,
        budget=5,
        seed=0,
    )
    return Manifest.write(tmp_path / "m", Rows.chosen(samples, keep), provenance)


def test_every_format_is_there() -> None:
    assert set(exporters()) == {
        "axolotl", "bitmap", "card", "csv", "datasets", "hub", "imagefolder", "in_place", "indices", "jsonl",
        "llama_factory", "parquet", "text", "trl", "webdataset",
    }  # fmt: skip
    assert all(exporter.summary.endswith(".") for exporter in exporters().values())


def test_indices_are_numpy(manifest: Manifest) -> None:
    path = export(manifest.path, "indices")
    assert path == manifest.path.with_name("m_indices.npy")
    rows = np.load(path, allow_pickle=False)
    assert rows.dtype == np.int64
    assert rows.tolist() == KEPT


def test_text_is_one_row_per_line(manifest: Manifest) -> None:
    path = export(manifest, "text")
    assert np.loadtxt(path, dtype=np.int64).tolist() == KEPT
    assert path.read_text() == "1\n4\n5\n8\n20\n"


def test_bitmap_unpacks_to_the_mask(manifest: Manifest) -> None:
    bits = np.load(export(manifest, "bitmap"), allow_pickle=False)
    assert bits.nbytes == 3
    keep = np.unpackbits(bits, count=21, bitorder="little").astype(bool)
    assert np.array_equal(keep, manifest.keep())


def test_parquet_of_a_data_set_is_its_kept_rows(manifest: Manifest) -> None:
    path = export(manifest, "parquet", dataset=dataset_of(TEXTS), hash_rows=hash_texts)
    read = datasets.Dataset.from_parquet(str(path), cache_dir=str(path.parent / "cache"))
    expected = dataset_of(TEXTS).select(KEPT)
    assert read.features == expected.features
    assert read.to_dict() == expected.to_dict()


def test_parquet_without_a_data_set_is_the_table(manifest: Manifest) -> None:
    assert pq.read_table(export(manifest, "parquet")).to_pylist() == manifest.table.to_dicts()


def test_jsonl_of_a_data_set_is_its_kept_rows(manifest: Manifest) -> None:
    path = export(manifest, "jsonl", dataset=dataset_of(TEXTS), hash_rows=hash_texts)
    read = datasets.Dataset.from_json(str(path), cache_dir=str(path.parent / "cache"))
    expected = dataset_of(TEXTS).select(KEPT)
    assert list(read["text"]) == list(expected["text"])
    assert list(read["label"]) == ["ab"[label] for label in expected["label"]]


def test_jsonl_without_a_data_set_is_the_table(manifest: Manifest) -> None:
    lines = export(manifest, "jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == manifest.table.to_dicts()


def test_images_travel_within_the_parquet(tmp_path: Path) -> None:
    from PIL import Image

    pictures = [Image.fromarray(np.full((4, 4), 50 * row, np.uint8)) for row in range(4)]
    for row, picture in enumerate(pictures):
        picture.save(tmp_path / f"{row}.png")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    data = datasets.Dataset.from_dict(
        {"image": [str(tmp_path / f"{row}.png") for row in range(4)], "label": [0, 0, 1, 1]}, features
    )
    from sample_tables import samples_table

    from secateur.pipelines.data.columns import Columns

    columns = {"image": "image", "label": "label"}
    provenance = Provenance(
        dataset="pictures", revision="", selection="s", selector="top", selector_version="1", settings={}, keep=2,
        budget=2, seed=0, columns=columns,
    )  # fmt: skip
    samples = samples_table(data, Columns(**columns))
    rows = Rows.chosen(samples, np.array([0, 1, 0, 1], bool))
    manifest = Manifest.write(tmp_path / "m", rows, provenance)
    path = export(manifest, "parquet", dataset=data)
    with pytest.raises(ManifestError, match="JSON lines cannot hold the column 'image'"):
        export(manifest, "jsonl", dataset=data)
    for row in range(4):
        (tmp_path / f"{row}.png").unlink()
    read = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert [np.asarray(picture).tolist() for picture in read["image"]] == [
        np.asarray(pictures[row]).tolist() for row in (1, 3)
    ]


def test_moved_rows_are_exported_where_they_are(manifest: Manifest) -> None:
    moved = dataset_of(["new 0", *TEXTS])
    rows = np.load(export(manifest, "indices", dataset=moved, hash_rows=hash_texts))
    assert rows.tolist() == [row + 1 for row in KEPT]
    bits = np.load(export(manifest, "bitmap", dataset=moved, hash_rows=hash_texts))
    assert np.flatnonzero(np.unpackbits(bits, count=22, bitorder="little")).tolist() == rows.tolist()


def test_existing_targets_are_refused(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "there.npy").write_bytes(b"theirs")
    told = r"exists already: name another path, or replace it with --overwrite \(in Python overwrite=True\)$"
    with pytest.raises(ManifestError, match=told):
        export(manifest, "indices", tmp_path / "there.npy")
    assert (tmp_path / "there.npy").read_bytes() == b"theirs"
    export(manifest, "indices", tmp_path / "there.npy", overwrite=True)
    assert np.load(tmp_path / "there.npy").tolist() == KEPT
    below = tmp_path / "there.npy" / "rows.npy"
    with pytest.raises(ManifestError, match=r": .*rows\.npy: .*there\.npy is no folder; name another path$") as told:
        export(manifest, "indices", below)
    assert "--out" not in str(told.value)


def test_mistakes_get_one_sentence_and_leave_nothing(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ManifestError, match="there is no 'zip'; there are: axolotl, bitmap, card, csv, datasets, hub"):
        export(manifest, "zip")
    with pytest.raises(ManifestError, match="inside the manifest"):
        export(manifest, "indices", manifest.path / "rows.npy")
    with pytest.raises(ManifestError, match="5 of its 5 kept samples are missing"):
        export(manifest, "parquet", dataset=dataset_of(["other 1"]), hash_rows=hash_texts)
    with pytest.raises(ManifestError, match="there is no file"):
        export(tmp_path / "nowhere", "indices")
    with pytest.raises(ManifestError, match="is a folder"):
        export(manifest, "indices", tmp_path / "folder", overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Every write beyond this number of bytes of a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(place: Path) -> dict[str, bytes]:
    """The bytes of a file, or of each file of a folder by name."""
    if place.is_file():
        return {"": place.read_bytes()}
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", ["parquet", "datasets", "webdataset", "hub"])
def test_a_full_disk_leaves_what_was_there(name: str, manifest: Manifest, tmp_path: Path) -> None:
    target = tmp_path / "target"
    for overwrite in (False, True):
        before = sorted(tmp_path.rglob("*")), contents(target)
        with pytest.raises(ManifestError, match=r"^[^:]*cannot be written: the file would be larger"), full_disk(40):
            export(manifest, name, target, dataset=dataset_of(TEXTS), hash_rows=hash_texts, overwrite=overwrite)
        assert (sorted(tmp_path.rglob("*")), contents(target)) == before
        export(manifest, name, target, dataset=dataset_of(TEXTS), hash_rows=hash_texts, overwrite=overwrite)
        assert contents(target)


def test_same_manifest_exports_the_same_bytes(manifest: Manifest, tmp_path: Path) -> None:
    for name, exporter in exporters().items():
        for dataset in (None, dataset_of(TEXTS)):
            if name in SHAPED or (name == "webdataset" and dataset is None):
                continue
            paths = [tmp_path / f"{turn}_{name}{exporter.suffix}" for turn in "ab"]
            for path in paths:
                export(manifest, name, path, dataset=dataset, hash_rows=hash_texts, overwrite=True)
            assert contents(paths[0]) == contents(paths[1])


def test_settings_are_checked_before_anything_is_written(manifest: Manifest, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for name, settings, said in (
        ("webdataset", {"shard_rows": 0}, "shard_rows: Input should be greater than or equal to 1, got 0"),
        ("imagefolder", {"layout": "tree"}, "layout: Input should be 'classes' or 'metadata', got 'tree'"),
        ("indices", {"shard_rows": 5}, "shard_rows: there is no such key"),
    ):
        with pytest.raises(ManifestError, match=said):
            export(manifest, name, settings=settings, dataset=dataset_of(TEXTS), hash_rows=hash_texts)
    assert sorted(tmp_path.rglob("*")) == before


def test_only_exports_are_replaced(manifest: Manifest, tmp_path: Path) -> None:
    data = dataset_of(TEXTS)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("precious")
    for target in (theirs, tmp_path, manifest.path.parent / ".", tmp_path / "m" / ".."):
        with pytest.raises(ManifestError, match=r"no export of ours|which is read here|exists already"):
            export(manifest, "datasets", target, dataset=data, hash_rows=hash_texts, overwrite=True)
    (theirs / "secateur.json").write_text("[" * 100_000)
    with pytest.raises(ManifestError, match="no export of ours"):
        export(manifest, "datasets", theirs, dataset=data, hash_rows=hash_texts, overwrite=True)
    assert (theirs / "thesis.tex").read_text() == "precious"
    assert manifest.path.is_dir()


def test_data_is_not_written_over(manifest: Manifest, tmp_path: Path) -> None:
    first = export(manifest, "datasets", dataset=dataset_of(TEXTS), hash_rows=hash_texts)
    kept = datasets.load_from_disk(str(first))
    before = contents(first)
    for target in (first, tmp_path):
        with pytest.raises(ManifestError, match="which is read here"):
            export(manifest, "datasets", target, dataset=kept, hash_rows=hash_texts, overwrite=True)
    assert contents(first) == before


def test_a_mask_of_what_was_only_claimed_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    import dataclasses

    claimed = manifest.declaration.model_copy(update={"of": 2**40})
    with pytest.raises(ManifestError, match="export indices instead"):
        export(dataclasses.replace(manifest, declaration=claimed), "bitmap")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_long_bitmap_is_numpys_own(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.pipelines.exports import numbers as export_numbers

    monkeypatch.setattr(export_numbers, "BLOCK", 1)
    bits = np.load(export(manifest, "bitmap"), allow_pickle=False)
    assert np.array_equal(bits, np.packbits(manifest.keep(), bitorder="little"))
