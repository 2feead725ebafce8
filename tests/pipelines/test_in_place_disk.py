"""Kept rows of a folder that `datasets` saved: its own memory maps, with indices."""

from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import polars as pl
import pytest
from PIL import Image
from stopped_streams import of_two_ranks
from torch.utils.data import DataLoader

import secateur as sc
from secateur.pipelines.exports.registry import export
from secateur.pipelines.manifests.manifest import Manifest

COLUMNS = {"text": "text", "label": "label"}
KEPT = [0, 3, 4, 29, 30, 55, 89]


@pytest.fixture
def saved(tmp_path: Path) -> datasets.Dataset:
    """90 rows in three files below `tmp_path/data`."""
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    table = {"text": [f"text {row}" for row in range(90)], "label": [row % 2 for row in range(90)]}
    datasets.Dataset.from_dict(table, features).save_to_disk(tmp_path / "data", num_shards=3)
    return datasets.load_from_disk(str(tmp_path / "data"))


def test_from_a_manifest_to_datasets_a_loader_and_polars(
    tmp_path: Path, saved: datasets.Dataset, manifest_of: Callable[..., Manifest]
) -> None:
    weights = np.linspace(1, 2, 90).astype(np.float32)
    manifest = manifest_of(saved, COLUMNS, KEPT, weights=weights)
    path = export(manifest, "in_place", tmp_path / "kept.parquet", settings={"data": str(tmp_path / "data")})
    assert path.stat().st_size <= 8 * len(KEPT) + 2**16
    view = sc.in_place(path)
    assert view.weights is not None
    assert np.array_equal(view.weights, weights[KEPT])
    found = view.dataset()
    assert found.features == saved.features
    assert found.to_dict() == saved.select(KEPT).to_dict()
    assert [cached["filename"] for cached in found.cache_files] == [cached["filename"] for cached in saved.cache_files]
    assert [text for batch in DataLoader(view, batch_size=3) for text in batch["text"]] == list(found["text"])
    assert view.lazy().select("text").collect()["text"].to_list() == list(found["text"])
    assert view.table().equals(found.with_format("arrow")[:].combine_chunks())
    assert view.places["shard"].to_list()[2:4] == ["data-00000-of-00003.arrow"] * 2
    assert sorted(item["text"] for item in view.stream(shuffle=True)) == sorted(found["text"])


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_two_ranks_read_each_row_once_and_go_on_after_a_stop(tmp_path: Path, saved: datasets.Dataset) -> None:
    rows = list(range(1, 90, 2))
    parts = of_two_ranks(sc.in_place(rows, tmp_path / "data"), "text")
    assert sorted(parts[0] + parts[1]) == sorted(saved[row]["text"] for row in rows)
    assert abs(len(parts[0]) - len(parts[1])) <= 1


def test_rows_that_follow_each_other_are_a_slice(tmp_path: Path, saved: datasets.Dataset) -> None:
    found = sc.in_place(range(20, 50), tmp_path / "data").dataset()
    assert found._indices is None
    assert list(found["text"]) == list(saved["text"])[20:50]


def test_pictures_come_decoded(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.full((4, 4), 10 * row, np.uint8)) for row in range(5)]
    datasets.Dataset.from_dict({"image": pictures}).cast_column("image", datasets.Image()).save_to_disk(tmp_path / "d")
    view = sc.in_place([1, 4], tmp_path / "d")
    assert [np.asarray(item["image"])[0, 0] for item in view] == [10, 40]


def test_a_changed_file_and_several_splits_are_refused(tmp_path: Path, saved: datasets.Dataset) -> None:
    path = sc.in_place([0, 89], tmp_path / "data").save(tmp_path / "kept.parquet")
    kept_of_first = sc.in_place([0], tmp_path / "data").save(tmp_path / "first.parquet")
    shard = tmp_path / "data" / "data-00002-of-00003.arrow"
    content = bytearray(shard.read_bytes())
    content[content.index(b"text 89")] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"data-00002-of-00003\.arrow has changed"):
        sc.in_place(path)
    assert pl.DataFrame(sc.in_place(kept_of_first).places).height == 1
    datasets.DatasetDict({"train": saved}).save_to_disk(tmp_path / "splits")
    with pytest.raises(ValueError, match="several splits"):
        sc.in_place([0], tmp_path / "splits")
    saved.to_parquet(str(tmp_path / "x.parquet"))
    with pytest.raises(ValueError, match="no folder that `datasets` saved"):
        sc.in_place([0], tmp_path / "x.parquet").dataset()
