"""The libraries that people use read tables back, with equal rows, order, columns and weights."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from secateur.pipelines.exports.registry import export
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest

ManifestOf = Callable[..., Manifest]
COLUMNS = {"text": "text", "label": "label"}
KEPT = [0, 3, 4, 5, 9, 4998, 6001, 9999]


@pytest.fixture
def texts() -> datasets.Dataset:
    """10,000 rows, more than one read takes, with a column of every type of JSON."""
    rows = range(10_000)
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["ant", "bee"]),
            "big": datasets.Value("int64"),
            "real": datasets.Value("float64"),
            "day": datasets.Value("date32"),
            "parts": datasets.List(datasets.Value("int32")),
        }
    )
    table = {
        "text": [f'täxt {row}\n"quoted"\t\u2028' for row in rows],
        "label": [row % 2 for row in rows],
        "big": [2**62 + row if row % 3 else None for row in rows],
        "real": [float("nan") if row == 5 else row / 3 for row in rows],
        "day": [datetime.date(2000, 1, 1) + datetime.timedelta(row % 365) for row in rows],
        "parts": [[row, row + 1] for row in rows],
    }
    return datasets.Dataset.from_dict(table, features=features)


def same(found: datasets.Dataset, expected: datasets.Dataset) -> None:
    assert found.features == expected.features
    assert found.to_polars().equals(expected.to_polars(), null_equal=True)


@pytest.fixture
def manifest(texts: datasets.Dataset, manifest_of: ManifestOf) -> Manifest:
    return manifest_of(texts, COLUMNS, KEPT)


def test_a_datasets_folder_loads_memory_mapped(texts: datasets.Dataset, manifest: Manifest) -> None:
    path = export(manifest, "datasets", dataset=texts)
    assert path == manifest.path.with_name("m_datasets")
    found = datasets.load_from_disk(str(path))
    same(found, texts.select(KEPT))
    assert found.cache_files[0]["filename"].startswith(str(path))


def test_original_rows_travel_along(texts: datasets.Dataset, manifest: Manifest) -> None:
    told = {"row_column": "row"}
    folder = export(manifest, "datasets", dataset=texts, settings=told)
    assert list(datasets.load_from_disk(str(folder))["row"]) == KEPT
    assert pl.read_parquet(export(manifest, "parquet", dataset=texts, settings=told))["row"].to_list() == KEPT
    lines = export(manifest, "jsonl", dataset=texts, settings=told).read_text().split("\n")
    assert [json.loads(line)["row"] for line in lines if line] == KEPT
    with pytest.raises(ManifestError, match="has a column 'label' already"):
        export(manifest, "jsonl", dataset=texts, settings={"row_column": "label"}, overwrite=True)


def test_weights_travel_along(texts: datasets.Dataset, manifest_of: ManifestOf) -> None:
    weights = np.linspace(0.5, 2, len(texts)).astype(np.float32)
    manifest = manifest_of(texts, COLUMNS, KEPT, weights=weights)
    # Rows keep their weights when they move.
    turned = texts.select(range(len(texts) - 1, -1, -1))
    for data, expected in ((texts, weights[KEPT]), (turned, weights[KEPT][::-1])):
        found = datasets.load_from_disk(str(export(manifest, "datasets", dataset=data, overwrite=True)))
        assert np.array_equal(np.asarray(found["weight"], np.float32), expected)
        table = pl.read_parquet(export(manifest, "parquet", dataset=data, overwrite=True))
        assert np.array_equal(table["weight"].to_numpy(), expected)


def test_json_lines_keep_every_value(texts: datasets.Dataset, manifest: Manifest) -> None:
    path = export(manifest, "jsonl", dataset=texts)
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    for record, expected in zip(found, texts.select(KEPT), strict=True):
        assert record["big"] == expected["big"]
        assert record["text"] == expected["text"]
        assert record["day"] == expected["day"].isoformat()
        assert record["parts"] == expected["parts"]
        assert record["real"] == (None if np.isnan(expected["real"]) else expected["real"])
    read = datasets.Dataset.from_json(str(path), cache_dir=str(path.parent / "cache"))
    assert list(read["text"]) == list(texts.select(KEPT)["text"])
    assert list(read["big"]) == list(texts.select(KEPT)["big"])


def test_data_in_another_order_of_memory_is_read_alike(texts: datasets.Dataset, manifest_of: ManifestOf) -> None:
    shuffled = texts.select(np.random.default_rng(0).permutation(len(texts)))
    rows = list(range(0, 10_000, 3))
    manifest = manifest_of(shuffled, COLUMNS, rows)
    same(datasets.load_from_disk(str(export(manifest, "datasets", dataset=shuffled))), shuffled.select(rows))


def test_shards_are_of_the_size_that_was_asked_for(manifest_of: ManifestOf) -> None:
    count = 30_000
    data = datasets.Dataset.from_dict({"text": [f"{row}" * 40 for row in range(count)], "label": [0] * count})
    manifest = manifest_of(data, COLUMNS, list(range(count)))
    path = export(manifest, "datasets", dataset=data, settings={"shard_megabytes": 1})
    sizes = [file.stat().st_size for file in path.glob("*.arrow")]
    assert len(sizes) > 5
    assert max(sizes) < 1_100_000
    assert list(datasets.load_from_disk(str(path))["text"]) == list(data["text"])


def test_images_travel_within_a_datasets_folder(tmp_path: Path, manifest_of: ManifestOf) -> None:
    for row in range(150):
        Image.fromarray(np.full((4, 5), row, np.uint8)).save(tmp_path / f"{row}.png")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = {"image": [str(tmp_path / f"{row}.png") for row in range(150)], "label": [row % 2 for row in range(150)]}
    data = datasets.Dataset.from_dict(table, features=features)
    rows = list(range(0, 150, 2))
    manifest = manifest_of(data, {"image": "image", "label": "label"}, rows)
    path = export(manifest, "datasets", dataset=data)
    for file in tmp_path.glob("*.png"):
        file.unlink()
    found = datasets.load_from_disk(str(path))
    assert [int(np.asarray(image)[0, 0]) for image in found["image"]] == rows


def test_bytes_are_no_json(manifest_of: ManifestOf) -> None:
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1], "raw": [[b"\x00"], [b"\x01"]]})
    manifest = manifest_of(data, COLUMNS, [1])
    with pytest.raises(ManifestError, match="JSON lines cannot hold the column 'raw'"):
        export(manifest, "jsonl", dataset=data)
    assert pq.read_table(export(manifest, "parquet", dataset=data))["raw"].to_pylist() == [[b"\x01"]]


def test_progress_is_told_to_the_end(texts: datasets.Dataset, manifest_of: ManifestOf) -> None:
    few = texts.select(range(4200))
    manifest = manifest_of(few, COLUMNS, list(range(4200)))
    for name in ("indices", "text", "bitmap", "parquet", "jsonl", "datasets", "webdataset"):
        told: list[tuple[int, int]] = []
        export(
            manifest,
            name,
            dataset=texts.select(range(4200)),
            progress=lambda done, total, told=told: told.append((done, total)),
        )
        assert told[-1] == (4200, 4200)
        assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_rows_are_read_a_few_at_a_time(texts: datasets.Dataset, manifest_of: ManifestOf) -> None:
    manifest = manifest_of(texts, COLUMNS, list(range(10_000)))
    told: list[int] = []
    export(manifest, "jsonl", dataset=texts, progress=lambda done, total: told.append(done))
    assert told == [4096, 8192, 10_000]
