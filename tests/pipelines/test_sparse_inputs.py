"""Sparse inputs in the store, in workers and in a whole study of texts."""

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
import scipy.sparse
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer

from secateur.pipelines.materialise import run_study
from secateur.pipelines.runs.worker import files_of
from secateur.pipelines.storage.ledger import digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile, load_study
from secateur.trainers.contract import Data
from secateur.trainers.sparse_rows import SparseRows

STUDY: dict[str, Any] = {
    "name": "words",
    "source": {"kind": "parquet", "train": "train.parquet", "test": "test.parquet"},
    "columns": {"text": "text", "label": "label"},
    "keep": [0.5],
    "seeds": 1,
    "proxy": {"model": "mlp", "model_settings": {"hidden": [8]}, "epochs": 2},
    "training": {"model": "mlp", "model_settings": {"hidden": [8]}, "epochs": 2, "batch_size": 32},
    "scores": {"el2n": {}, "checkpoint_loss": {}},
    "selections": {"hardest": {"selector": "top", "score": "el2n"}},
}


def rows_of(*rows: list[float]) -> SparseRows:
    matrix = scipy.sparse.csr_matrix(np.array(rows, np.float32))
    return SparseRows.of(matrix.indptr, matrix.indices, matrix.data, matrix.shape[1])


def texts(seed: int, count: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    words = random.integers(0, 30, (count, 12)) + 20 * labels[:, None]
    return pl.DataFrame({"text": [" ".join(f"w{word}" for word in row) for row in words], "label": labels})


def test_a_store_holds_sparse_rows_in_place_of_an_array(tmp_path: Path) -> None:
    store, rows = Store(tmp_path / "store"), rows_of([0, 2], [1, 0])
    store.save(("s", "inputs"), np.zeros(3))
    rows.save(tmp_path / "made.npz")
    assert store.save(("s", "inputs"), tmp_path / "made.npz").name == "inputs.npz"
    found = store.load(("s", "inputs"))
    assert isinstance(found, SparseRows)
    np.testing.assert_array_equal(found[:], rows[:])
    store.save(("s", "inputs"), np.ones(3))
    np.testing.assert_array_equal(store.load(("s", "inputs")), np.ones(3))
    store.remove(("s", "inputs"))
    assert store.find(("s", "inputs")) is None


@pytest.mark.parametrize("stored", [False, True])
def test_workers_read_sparse_rows_from_their_file(stored: bool, tmp_path: Path) -> None:
    rows = rows_of([0, 2], [1, 0], [0, 0])
    if stored:
        rows.save(tmp_path / "elsewhere.npz")
        rows = SparseRows.open(tmp_path / "elsewhere.npz")
    (tmp_path / "job").mkdir()
    files = files_of(Data(rows, np.array([0, 1, 1]), 2), tmp_path / "job")
    assert files.inputs == (tmp_path / "elsewhere.npz" if stored else tmp_path / "job" / "inputs.npz")
    np.testing.assert_array_equal(files.load().inputs[:], rows[:])
    part = files_of(files.load().take(np.array([2, 0])), tmp_path / "job")
    np.testing.assert_array_equal(part.load().inputs[:], rows[[2, 0]])


def test_digests_follow_numbers_and_places() -> None:
    same = [digest_of(inputs=rows_of([0, 2], [1, 0])) for _ in range(2)]
    others = [digest_of(inputs=rows_of(*rows)) for rows in (([2, 0], [1, 0]), ([0, 3], [1, 0]), ([0, 2], [0, 1]))]
    assert len({*same, *others}) == 4


def test_a_study_of_texts_reads_sparse_rows_from_file_to_manifest(tmp_path: Path) -> None:
    train, test = texts(0, 300), texts(1, 100)
    train.write_parquet(tmp_path / "train.parquet")
    test.write_parquet(tmp_path / "test.parquet")
    (tmp_path / "words.yaml").write_text(yaml.safe_dump(STUDY))
    file = StudyFile(tmp_path / "words.yaml", load_study(tmp_path / "words.yaml"))
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, tmp_path / "assets", instance)
    store = Store(tmp_path / "assets")
    reference = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(train["text"])
    for name, frame in (("inputs", train), ("test_inputs", test)):
        found = store.load(("words", name))
        assert isinstance(found, SparseRows)
        np.testing.assert_allclose(found[:], reference.transform(frame["text"]).toarray(), atol=1e-6)
    [kept] = (tmp_path / "assets" / "words" / "manifest").rglob("hardest@0.5/*/kept.parquet")
    assert len(pl.read_parquet(kept)) == 150
    metrics = store.load(("words", "yardstick"))
    assert metrics["model"]["inputs"] == "the same TF-IDF vectors"
    assert metrics["model"]["metrics"]["accuracy"] > 0.9
    assert metrics["proxy"]["test"]["accuracy"] > 0.7
