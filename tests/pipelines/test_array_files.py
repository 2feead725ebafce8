"""Files of NumPy that a user names: one reader, whose messages begin with the option."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import secateur as sc
from secateur.pipelines.data.array_files import array_at
from secateur.pipelines.data.own_values import NumbersFile
from secateur.pipelines.data.source_kinds.files import SourceError

FAULTY = {
    "text.npy": "is no",
    "cut.npy": "is no",
    "pickled.npy": "is no",
    "archive.npy": "is no",
    "none.npy": "no file",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.npy").write_text("1,2\n")
    np.save(tmp_path / "whole.npy", np.arange(600.0).reshape(200, 3))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:300])
    np.save(tmp_path / "pickled.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    with (tmp_path / "archive.npy").open("wb") as file:
        np.savez(file, one=np.arange(3))
    return tmp_path


def test_an_array_is_mapped_into_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    found = array_at("~/whole.npy", "vectors")
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, np.arange(600.0).reshape(200, 3))


TABLE = pl.DataFrame({"x": np.arange(200.0), "y": np.arange(200) % 2})
CALLERS: dict[str, Callable[[Path], Any]] = {
    "embeddings": lambda path: sc.audit(TABLE, label="y", embeddings=path, progress=False),
    "probabilities": lambda path: sc.audit(TABLE, label="y", probabilities=path, progress=False),
    "vectors.file": lambda path: NumbersFile(path, "vectors").array(),
    "labels": lambda path: sc.scores_of(np.full((200, 2), 0.5), path, kind="probabilities"),
    "outputs": lambda path: sc.scores_of(path, np.arange(200) % 2),
}


@pytest.mark.parametrize("option", CALLERS)
def test_each_option_names_itself_the_file_and_the_remedy(option: str, folder: Path) -> None:
    for name, fault in FAULTY.items():
        if option == "outputs" and name == "none.npy":
            continue  # a path of another format is looked for first
        with pytest.raises(SourceError, match=rf"^{option}: .*{fault}.*{name}|^{option}: .*{name} {fault}") as told:
            CALLERS[option](folder / name)
        assert fault == "no file" or "save it by numpy.save(file, array)" in str(told.value)


def test_select_names_the_option_of_a_faulty_file_of_vectors(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"^embeddings: .*text\.npy is no \.npy file of numbers"):
        sc.select(TABLE, selector="k_center", embeddings=folder / "text.npy", keep=0.5)
