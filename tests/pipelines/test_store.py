"""Files between assets: values after a round trip, and the state after a failure."""

from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial

KEY = dg.AssetKey(["study", "thing"])


def test_arrays_come_back_memory_mapped(tmp_path: Path) -> None:
    store, values = Store(tmp_path), np.arange(6, dtype=np.float32).reshape(2, 3)
    assert store.save(KEY, values) == tmp_path / "study" / "thing.npy"
    loaded = store.load(KEY)
    assert isinstance(loaded, np.memmap)
    np.testing.assert_array_equal(loaded, values)


def test_tables_come_back_lazy_and_data_parsed(tmp_path: Path) -> None:
    store, table = Store(tmp_path), pl.DataFrame({"row": [1, 2]})
    store.save(KEY, table)
    assert store.load(KEY).collect().equals(table)
    store.save(dg.AssetKey(["study", "facts"]), {"a": [1, None]})
    assert store.load(dg.AssetKey(["study", "facts"])) == {"a": [1, None]}


def test_cells_have_places_of_their_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed in (0, 1):
        store.save(KEY, np.array([seed]), Trial("top@0.3", seed))
    assert store.load(KEY, Trial("top@0.3", 1))[0] == 1
    assert store.find(KEY) is None or store.find(KEY) == tmp_path / "study" / "thing"


def test_what_is_not_there_says_what_to_materialise(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"study/thing \[1\|top@0.3\].*materialise it first"):
        Store(tmp_path).load(KEY, Trial("top@0.3", 1))


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(KEY, np.arange(3))
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        store.save(KEY, np.array([object()]))
    np.testing.assert_array_equal(store.load(KEY), np.arange(3))
    folder = dg.AssetKey(["study", "folder"])
    with store.folder(folder) as partial:
        (partial / "whole").touch()

    def fail() -> None:
        with store.folder(folder) as partial:
            (partial / "half").touch()
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail()
    assert [path.name for path in store.load(folder).iterdir()] == ["whole"]
    assert {path.name for path in (tmp_path / "study").glob("[!.]*")} == {"thing.npy", "folder"}
    assert store.load(folder) == tmp_path / "study" / "folder"
    assert not [path for path in tmp_path.rglob("*") if ".partial" in path.name]


def test_nothing_infinite_enters_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Store(tmp_path).save(KEY, {"loss": float("nan")})


def test_pickles_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "study" / "thing.npy"
    path.parent.mkdir()
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects in dtype"):
        Store(tmp_path).load(KEY)
