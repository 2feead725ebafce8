"""Kept rows of Parquet stay where they are: from the user's files by the shell's export to a loader and to tables."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from sample_tables import study_manifest
from shell_here import secateur_here
from small_studies import REST
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import secateur as sc
from secateur.pipelines.exports.registry import export
from secateur.pipelines.in_place.parquet import Parquet
from secateur.pipelines.in_place.stream import Stream
from secateur.pipelines.in_place.view import InPlace
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.selectors.samplers.contract import Shard

COUNT, GROUP = 240, 20
STUDY = "name: s\nsource: {kind: parquet, train: rows/*.parquet, test_fraction: 0.3}\n" + (
    "columns: {features: [x, shop], label: label}\n" + REST
)


def write_rows(folder: Path) -> pd.DataFrame:
    """Two files of 120 rows in row groups of 20, in `folder/rows`."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "id": [f"id {row}" for row in range(COUNT)],
            "x": rng.normal(size=COUNT),
            "shop": [["north", "süd", "east"][row % 3] for row in range(COUNT)],
            "label": [["yes", "no"][row % 2] for row in range(COUNT)],
        }
    )
    (folder / "rows").mkdir()
    for place, part in enumerate((table[:120], table[120:])):
        part.to_parquet(folder / "rows" / f"{place}.parquet", row_group_size=GROUP, index=False)
    return table


@pytest.fixture
def made(tmp_path: Path) -> tuple[pd.DataFrame, Manifest]:
    """The rows, and a manifest of every third training sample of a study of them."""
    table = write_rows(tmp_path)
    manifest = study_manifest(STUDY, tmp_path, lambda samples: (samples["row"] % 3 == 0).to_numpy())[1]
    return table, manifest


def kept_ids(table: pd.DataFrame, manifest: Manifest) -> list[str]:
    """Ids of kept rows, by the files and rows of the manifest."""
    starts = {"rows/0.parquet": 0, "rows/1.parquet": 120}
    return [table["id"][starts[file] + row] for file, row in manifest.places.select("file", "row").iter_rows()]


def test_from_the_shell_to_a_loader_pandas_and_polars(tmp_path: Path, made: Any, monkeypatch: Any) -> None:
    table, manifest = made
    expected = kept_ids(table, manifest)
    assert 40 < len(expected) < 80
    monkeypatch.chdir(tmp_path)
    study = str(tmp_path / "study.yaml")
    done = secateur_here("export", "manifest", "--to", "in_place", "--study", study, "--json", "-o", "kept.parquet")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == len(expected)
    assert (tmp_path / "kept.parquet").stat().st_size <= 8 * len(expected) + 2**16
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # paths of data start at the file's own folder
    view = sc.in_place("../kept.parquet")
    ids = [name for batch in DataLoader(view, batch_size=7) for name in batch["id"]]
    assert ids == expected
    shuffled = [name for batch in DataLoader(view, batch_size=7, shuffle=True) for name in batch["id"]]
    assert sorted(shuffled) == sorted(expected)
    rows = table.set_index("id").loc[expected].reset_index()
    pd.testing.assert_frame_equal(view.table().to_pandas(), rows, check_dtype=False)
    assert view.lazy().collect().equals(pl.from_pandas(rows))
    found = view.lazy().filter(pl.col("shop") == "süd").select("id").collect()["id"].to_list()
    assert found == rows[rows["shop"] == "süd"]["id"].to_list()
    assert view.places["row"].to_list() == manifest.places["row"].to_list()


def test_the_same_rows_from_python_by_content_by_id_and_by_number(tmp_path: Path, made: Any) -> None:
    table, manifest = made
    expected = kept_ids(table, manifest)
    data = tmp_path / "rows"
    numbers = [int(name.split()[1]) for name in expected]
    views = [
        sc.in_place(manifest, data),
        sc.in_place(manifest.path, str(data / "*.parquet")),
        sc.in_place(numbers, [data / "0.parquet", data / "1.parquet"]),
        sc.in_place(np.array(numbers), data),
        sc.in_place(expected[::-1], data, key="id"),
        sc.in_place(export(manifest, "in_place", tmp_path / "k.parquet", settings={"data": str(data)}, warn=print)),
    ]
    assert all([item["id"] for item in view] == expected for view in views)


def test_ids_of_a_study_find_rows_whose_values_have_changed(tmp_path: Path) -> None:
    table = write_rows(tmp_path)
    text = STUDY.replace("label: label}", "label: label, id: id}")
    manifest = study_manifest(text, tmp_path, lambda samples: (samples["row"] % 5 == 0).to_numpy())[1]
    cleaned = table.assign(x=0.0)[::-1]
    cleaned.to_parquet(tmp_path / "cleaned.parquet", index=False)
    view = sc.in_place(manifest, tmp_path / "cleaned.parquet")
    assert sorted(item["id"] for item in view) == sorted(manifest.table["id"].to_list())


def test_only_row_groups_that_hold_kept_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path)
    read: list[tuple[int, Any]] = []
    whole = pq.ParquetFile.read_row_group

    def counted(self: Any, group: int, columns: Any = None, **more: Any) -> Any:
        read.append((group, columns))
        return whole(self, group, columns=columns, **more)

    view = sc.in_place([3, 5, 45, 200], tmp_path / "rows", columns=["id"])
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    assert [item["id"] for item in view] == ["id 3", "id 5", "id 45", "id 200"]
    assert read == [(0, ["id"]), (2, ["id"]), (4, ["id"])]
    read.clear()
    assert view.lazy().select("id").head(2).collect().height == 2
    assert [group for group, _ in read] == [0]


def test_few_rows_in_many_row_groups_are_better_written(tmp_path: Path, made: Any) -> None:
    write_all = sc.in_place(range(COUNT), tmp_path / "rows")
    assert write_all.advice == ""
    view = sc.in_place(range(0, COUNT, GROUP), tmp_path / "rows")
    read, own = view.bytes_read or (0, 0)
    assert read == sum(
        column.total_compressed_size
        for path in sorted((tmp_path / "rows").iterdir())
        for group in range(6)
        for column in [pq.read_metadata(path).row_group(group).column(place) for place in range(4)]
    )
    assert abs(read / own - GROUP) < 0.1
    assert "20.0 times" in view.advice
    few = made[1].of_rows(made[1].selection.of_file(0), "of a file")
    warned: list[str] = []
    settings = {"data": str(tmp_path / "rows" / "0.parquet")}
    export(few, "in_place", tmp_path / "few.parquet", settings=settings, warn=warned.append)
    assert any("times their own" in text for text in warned)


@pytest.mark.parametrize("weighted", [False, True])
def test_eight_bytes_a_row_however_the_rows_lie(tmp_path: Path, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    pl.DataFrame({"x": np.zeros(400_000, np.int8)}).write_parquet(tmp_path / "data.parquet")
    for share in (0.001, 0.03, 0.5, 1.0):
        rows = np.flatnonzero(rng.random(400_000) < share)
        view = sc.in_place(rows, tmp_path / "data.parquet")
        kept = view.kept.__class__(view.kept.shard, view.kept.row, rng.random(len(rows)).astype(np.float32))
        view = InPlace.of(view.reader, kept) if weighted else view
        path = view.save(tmp_path / f"{share}.parquet")
        assert path.stat().st_size <= 8 * len(rows) + 2**16
        again = sc.in_place(path)
        assert np.array_equal(again.kept.row, rows)
        assert again.weights is None or np.array_equal(again.weights, kept.weights)


def shares(view: InPlace, world: int, workers: int, epoch: int, **how: Any) -> list[list[str]]:
    """Ids that each of the processes gets from a stream."""
    found = []
    for rank in range(world):
        stream = view.stream(shard=Shard(rank, world), **how)
        stream.set_epoch(epoch)
        loader = DataLoader(stream, batch_size=4, num_workers=workers)
        found.append([name for batch in loader for name in batch["id"]])
        assert len(found[-1]) == len(stream)
    return found


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (3, 0), pytest.param(2, 2, marks=pytest.mark.nightly)])
def test_each_row_once_over_processes_and_workers(tmp_path: Path, world: int, workers: int) -> None:
    write_rows(tmp_path)
    rows = [row for row in range(COUNT) if row % 7 in (0, 3)]
    view = sc.in_place(rows, tmp_path / "rows", columns=["id"])
    for shuffle in (False, True):
        parts = shares(view, world, workers, 2, shuffle=shuffle, seed=5)
        assert sorted(name for part in parts for name in part) == sorted(f"id {row}" for row in rows)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert shares(view, 1, 0, 2, shuffle=True, seed=5) == shares(view, 1, 0, 2, shuffle=True, seed=5)
    assert shares(view, 1, 0, 2, shuffle=True, seed=5) != shares(view, 1, 0, 3, shuffle=True, seed=5)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.nightly)])
def test_a_stream_goes_on_where_it_was_stopped(tmp_path: Path, workers: int) -> None:
    write_rows(tmp_path)
    view = sc.in_place(range(0, COUNT, 2), tmp_path / "rows", columns=["id"])

    def loader(rank: int) -> Any:
        stream = view.stream(shuffle=True, shard=Shard(rank, 2))
        stream.set_epoch(1)
        return StatefulDataLoader(stream, batch_size=4, num_workers=workers)

    for rank in range(2):
        whole = [batch["id"] for batch in loader(rank)]
        first, before = loader(rank), []
        for batch in first:
            before.append(batch["id"])
            if len(before) == 5:
                break
        state = pickle.loads(pickle.dumps(first.state_dict()))
        second = loader(rank)
        second.load_state_dict(state)
        assert before + [batch["id"] for batch in second] == whole


def test_a_state_of_another_stream_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path)
    view = sc.in_place(range(10), tmp_path / "rows")
    stream: Stream = view.stream(shuffle=True)
    for _, _ in zip(range(4), stream, strict=False):
        pass
    again = view.stream(shuffle=True)
    again.load_state_dict(stream.state_dict())
    assert [item["id"] for item in again] == [item["id"] for item in view.stream(shuffle=True)][4:]
    assert len(list(again)) == 10
    with pytest.raises(ValueError, match="another stream"):
        view.stream(seed=1).load_state_dict(stream.state_dict())


def change_a_byte(path: Path) -> None:
    """Change one byte, but neither size nor time."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a byte": (change_a_byte, "1.parquet has changed: its bytes are others"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "1.parquet has changed: it has"),
    "gone": (lambda path: path.unlink(), "1.parquet is not there"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_shard_is_refused_by_name(tmp_path: Path, change: str) -> None:
    write_rows(tmp_path)
    path = sc.in_place([3, 130], tmp_path / "rows").save(tmp_path / "kept.parquet")
    other = sc.in_place([3], tmp_path / "rows").save(tmp_path / "other.parquet")
    make, said = CHANGES[change]
    make(tmp_path / "rows" / "1.parquet")
    with pytest.raises(ValueError, match=said):
        sc.in_place(path)
    assert len(sc.in_place(other)) == 1  # the selection keeps no row of the changed file


def test_data_that_moved_are_named(tmp_path: Path) -> None:
    write_rows(tmp_path)
    path = sc.in_place([3, 130], tmp_path / "rows").save(tmp_path / "kept.parquet")
    (tmp_path / "rows").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="name the data's folder as data"):
        sc.in_place(path)
    assert [item["id"] for item in sc.in_place(path, tmp_path / "moved")] == ["id 3", "id 130"]


def test_what_cannot_be_kept_is_refused_with_a_reason(tmp_path: Path, made: Any) -> None:
    data = tmp_path / "rows"
    other = datasets.Dataset.from_dict({"x": [1.0], "shop": ["west"], "label": ["no"]})
    other.to_parquet(str(tmp_path / "other.parquet"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain.csv").write_text("a\n1\n")
    for kept, where, more, said in (
        ([240], data, {}, "row 240 is none"),
        ([-1], data, {}, "row -1 is none"),
        ([4, 4], data, {}, "row 4: each row is kept once"),
        ([1.5], data, {}, "whole numbers"),
        (["id 3", "id 999"], data, {"key": "id"}, "1 of 2 kept ids are not in 'id'"),
        (["north"], data, {"key": "shop"}, "have one id"),
        (["id 3"], data, {"key": "uuid"}, "no column 'uuid'"),
        (["id 3"], data, {}, "name the column"),
        ([1], data, {"columns": ["y"]}, "there is no column 'y'"),
        ([1], None, {}, "name the files"),
        ([1], tmp_path / "empty", {}, "is none of"),
        ([1], tmp_path / "plain.csv", {}, "is none of"),
        ([1], tmp_path / "nowhere.parquet", {}, "there is no file"),
        (made[1], tmp_path / "other.parquet", {}, "are missing from the 1 rows"),
        (made[1], data, {"key": "id"}, "the manifest has no ids"),
        (data / "0.parquet", data, {}, "that this project wrote"),
        (tmp_path / "nowhere.parquet", None, {}, "there is no file"),
    ):
        with pytest.raises(ValueError, match=said):
            sc.in_place(kept, where, **more)
    with pytest.raises(ManifestError, match="--set data=PATH"):
        export(made[1], "in_place", tmp_path / "k.parquet")
    with pytest.raises(ValueError, match="is one of the files"):
        sc.in_place([1], data).save(data / "0.parquet", overwrite=True)
    with pytest.raises(FileExistsError, match="name another path, or replace it with overwrite=True"):
        sc.in_place([1], data).save(data / "0.parquet")


def test_a_view_goes_to_other_processes(tmp_path: Path) -> None:
    write_rows(tmp_path)
    view = sc.in_place([0, 239], tmp_path / "rows")
    assert isinstance(view.reader, Parquet)
    assert [item["id"] for item in view] == ["id 0", "id 239"]
    assert [item["id"] for item in pickle.loads(pickle.dumps(view))] == ["id 0", "id 239"]
    assert view[-1]["id"] == "id 239"
    with pytest.raises(IndexError):
        view[2]
