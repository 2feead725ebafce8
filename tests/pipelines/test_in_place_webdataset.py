"""Kept samples of tar shards: found by key, read like the webdataset package does, each once, with resumption."""

import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pytest
import webdataset as wds
from sample_tables import study_manifest
from small_studies import REST
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import secateur as sc
from secateur.pipelines.exports.registry import export
from secateur.pipelines.manifests.manifest import Manifest
from secateur.selectors.samplers.contract import Shard

SAMPLES = 40


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Four shards of 40 samples each, written by the webdataset package; keys have folders, and one name is long."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(4):
        with wds.TarWriter(str(folder / f"shard-{shard}.tar")) as writer:
            for row in range(SAMPLES):
                key = f"deep/{'x' * 150 if row == 7 else 'k'}{shard * SAMPLES + row:04d}"
                content = np.random.default_rng(row).bytes(700 * (row % 3))
                writer.write({"__key__": key, "bin": content, "json": {"row": row}, "left.cls": row % 5})
    return folder


def whole(folder: Path) -> list[dict[str, Any]]:
    """All samples as the webdataset package reads them."""
    urls = sorted(map(str, folder.glob("*.tar")))
    return list(wds.WebDataset(urls, shardshuffle=False, empty_check=False))


def same(found: list[Any], expected: list[dict[str, Any]]) -> None:
    own = [{name: value for name, value in item.items() if name != "__local_path__"} for item in expected]
    assert [{**item, "__url__": str(item["__url__"])} for item in found] == own


def test_items_are_those_of_the_webdataset_package(tmp_path: Path, shards: Path) -> None:
    everything = whole(shards)
    rows = [0, 7, 8, 39, 40, 101, 159]
    keys = [everything[row]["__key__"] for row in rows]
    view = sc.in_place(keys[::-1], shards)
    same(list(view), [everything[row] for row in rows])
    path = view.save(tmp_path / "kept.parquet")
    again = sc.in_place(path, shards)
    same(list(again), [everything[row] for row in rows])
    assert again.places.row(3) == ("shard-0.tar", 39)
    by_shard = sc.in_place(["shard-1.tar:" + everything[40]["__key__"]], str(shards / "*.tar"), key="shard:__key__")
    same(list(by_shard), [everything[40]])
    assert [set(item) for item in sc.in_place([3], shards, columns=["json"])] == [{"__key__", "__url__", "json"}]


def test_decoding_goes_on_from_a_stream(shards: Path) -> None:
    view = sc.in_place([1, 50], shards)
    pipeline = wds.DataPipeline(view.stream(), wds.decode(), wds.to_tuple("json", "left.cls"))
    assert list(pipeline) == [({"row": 1}, 1), ({"row": 10}, 0)]


def test_from_a_study_of_keys_and_scores_to_the_shards(tmp_path: Path, shards: Path) -> None:
    keys = [sample["__key__"] for sample in whole(shards)]
    rows = range(len(keys))
    table = pl.DataFrame({"key": keys, "x": [float(row) for row in rows], "y": ["ab"[row % 2] for row in rows]})
    table[::-1].write_parquet(tmp_path / "scores.parquet")
    text = "name: s\nsource: {kind: parquet, train: scores.parquet, test_fraction: 0.2}\n"
    text += f"columns: {{features: [x], label: y, id: key}}\n{REST}"
    manifest = study_manifest(text, tmp_path, lambda samples: (samples["row"] % 4 == 0).to_numpy())[1]
    path = export(manifest, "in_place", tmp_path / "kept.parquet", settings={"data": str(shards)})
    assert path.stat().st_size <= 8 * manifest.declaration.count + 2**16
    found = [item["__key__"] for item in sc.in_place(path)]
    assert found == [key for key in keys if key in set(manifest.table["id"])]
    assert len(found) == manifest.declaration.count


def test_bytes_of_dropped_samples_are_not_read(shards: Path) -> None:
    view = sc.in_place([38], shards)
    view.reader.rows  # noqa: B018 - the headers
    asked: list[int] = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(size or 0)
            return super().read(size)

    counted = Counted((shards / "shard-0.tar").read_bytes())
    view.reader.opened(0, lambda: counted)
    assert view[0]["json"] == b'{"row": 38}'
    assert sum(asked) <= 14 * 512  # a header, and one more for its time, of each of three members; 5 blocks in them


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (2, 0), (2, 2)])
def test_each_sample_once_over_processes_and_workers(shards: Path, world: int, workers: int) -> None:
    rows = list(range(0, 160, 3))
    view = sc.in_place(rows, shards)
    for shuffle in (False, True):
        found = []
        for rank in range(world):
            stream = view.stream(shuffle=shuffle, shard=Shard(rank, world), window=2)
            loader: Any = DataLoader(stream, batch_size=None, num_workers=workers)
            found += [item["__key__"] for item in loader]
        assert sorted(found) == sorted(item["__key__"] for item in view)


def test_a_forked_worker_does_not_move_its_parents_place(shards: Path) -> None:
    view = sc.in_place(range(40), shards)
    assert view[3]["json"] == b'{"row": 3}'
    stream = view.reader.opened(0, lambda: None)
    assert stream is not None
    before = os.lseek(stream.fileno(), 0, os.SEEK_CUR)
    [last] = list(DataLoader(view, batch_size=None, sampler=[39], num_workers=1))
    assert last["json"] == b'{"row": 39}'
    assert os.lseek(stream.fileno(), 0, os.SEEK_CUR) == before


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_a_stopped_loader_goes_on(shards: Path) -> None:
    view = sc.in_place(range(0, 160, 2), shards)

    def loader() -> Any:
        return StatefulDataLoader(view.stream(shuffle=True, shard=Shard(1, 2)), batch_size=None, num_workers=2)

    expected = [item["__key__"] for item in loader()]
    first, found = loader(), []
    for item in first:
        found.append(item["__key__"])
        if len(found) == 11:
            break
    second = loader()
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert found + [item["__key__"] for item in second] == expected


def test_what_secateur_exports_as_shards_is_read_in_place(tmp_path: Path, manifest_of: Callable[..., Manifest]) -> None:
    texts = datasets.Dataset.from_dict({"text": [f"text {row}" for row in range(30)], "label": [0, 1] * 15})
    manifest = manifest_of(texts, {"text": "text", "label": "label"}, range(30))
    folder = export(manifest, "webdataset", tmp_path / "w", dataset=texts, settings={"shard_rows": 7})
    view = sc.in_place(["03", "21"], folder)
    assert [item["txt"] for item in view] == [b"text 3", b"text 21"]
    assert [json.loads(item["json"])["row"] for item in view] == [3, 21]


def test_shards_that_cannot_be_kept_from_are_refused(tmp_path: Path, shards: Path) -> None:
    path = sc.in_place([0, 159], shards).save(tmp_path / "kept.parquet")
    content = bytearray((shards / "shard-3.tar").read_bytes())
    content[600] ^= 1
    (shards / "shard-3.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"shard-3\.tar has changed"):
        sc.in_place(path)
    with pytest.raises(ValueError, match="write a glob"):
        sc.in_place([0], f"{shards}/shard-{{0..3}}.tar")
    with pytest.raises(ValueError, match="no 'uuid'"):
        sc.in_place(["a"], shards, key="uuid")
    (tmp_path / "packed.tar").write_bytes(b"\x1f\x8b not a tar")
    with pytest.raises(ValueError, match=r"packed\.tar is no tar file"):
        sc.in_place([0], tmp_path / "packed.tar")
    with tarfile.open(tmp_path / "mixed.tar", "w") as archive:
        for name in ("a.txt", "b.txt", "a.json"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(ValueError, match="do not follow each other"):
        sc.in_place([0], tmp_path / "mixed.tar")
    other = tmp_path / "other"
    other.mkdir()
    for name in ("0.tar", "1.tar"):
        with tarfile.open(other / name, "w") as archive:
            archive.addfile(tarfile.TarInfo("same.txt"))
    with pytest.raises(ValueError, match="have one id 'same'"):
        sc.in_place(["same"], other)
    assert len(sc.in_place(["1.tar:same"], other, key="shard:__key__")) == 1
