"""Sparse rows equal their dense matrix in memory, in a file and in front of a network."""

import numpy as np
import pytest
import scipy.sparse
import torch

from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.batches import Held, HeldSparse, source_of
from secateur.trainers.loop.train import train
from secateur.trainers.sparse_rows import SparseRows, inputs_at, open_inputs

CPU = torch.device("cpu")


def drawn(count=90, width=23, seed=0):
    """A sparse matrix with a tenth of its values nonzero, with empty rows and columns, and the same as an array."""
    random = np.random.default_rng(seed)
    dense = random.normal(size=(count, width)) * (random.random((count, width)) < 0.1)
    dense[[0, 7, count - 1]] = dense[:, [0, width - 1]] = 0
    matrix = scipy.sparse.csr_matrix(dense.astype(np.float32))
    return SparseRows.of(matrix.indptr, matrix.indices, matrix.data, width), dense.astype(np.float32)


@pytest.mark.parametrize(
    "rows",
    [
        slice(None), slice(3, 50), slice(40, 10), slice(2, 80, 7), [5], [], [7, 0, 7, 89, -1],
        np.arange(90) % 3 == 1, np.zeros(90, bool), 12, -2,
    ],
    ids=str,
)  # fmt: skip
def test_rows_are_those_of_the_array(rows):
    sparse, dense = drawn()
    picked = np.array(rows, np.int64) if isinstance(rows, list) else rows
    np.testing.assert_array_equal(sparse[picked], dense[picked])
    if not isinstance(rows, int):
        part = sparse.take(picked)
        assert isinstance(part, SparseRows)
        np.testing.assert_array_equal(np.asarray(part), dense[picked])
        np.testing.assert_array_equal(part.csr().toarray(), dense[picked])
        assert (part.shape, len(part), part.dtype) == (dense[picked].shape, len(dense[picked]), dense.dtype)


def test_a_file_is_that_of_scipy_and_is_mapped(tmp_path):
    sparse, dense = drawn()
    for path in (tmp_path / "a.npz", tmp_path / "b.npz"):
        sparse.save(path)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    np.testing.assert_array_equal(scipy.sparse.load_npz(tmp_path / "a.npz").toarray(), dense)
    scipy.sparse.save_npz(tmp_path / "theirs.npz", sparse.csr(), compressed=False)
    for name in ("a", "theirs"):
        opened = open_inputs(inputs_at(tmp_path / f"{name}.npy"))
        assert isinstance(opened, SparseRows)
        assert opened.path == tmp_path / f"{name}.npz"
        assert isinstance(opened.values, np.memmap)
        np.testing.assert_array_equal(opened[:], dense)
    aligned = open_inputs(tmp_path / "a.npz")
    assert all(array.flags.aligned for array in (aligned.starts, aligned.columns, aligned.values))


def test_a_matrix_without_a_number_is_stored(tmp_path):
    SparseRows.of([0, 0, 0], [], [], 4).save(tmp_path / "none.npz")
    assert not open_inputs(tmp_path / "none.npz")[:].any()


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"arrays\.npz holds no rows of a sparse matrix, but a"):
        SparseRows.open(tmp_path / "arrays.npz")
    scipy.sparse.save_npz(tmp_path / "packed.npz", drawn()[0].csr())
    with pytest.raises(ValueError, match="is compressed: write it without compression"):
        SparseRows.open(tmp_path / "packed.npz")


@pytest.mark.parametrize("rows", [None, np.arange(3, 90, 2)])
def test_moments_are_those_of_the_array(rows, monkeypatch):
    monkeypatch.setattr("secateur.trainers.sparse_rows.BLOCK", 8)
    sparse, dense = drawn()
    wide = dense.astype(np.float64) if rows is None else dense[rows].astype(np.float64)
    mean, variance = sparse.moments(rows)
    np.testing.assert_allclose(mean, wide.mean(axis=0), atol=1e-15)
    np.testing.assert_allclose(variance, wide.var(axis=0), atol=1e-15)


@pytest.mark.parametrize("loading", ["memory", "workers"])
def test_a_network_learns_the_same_of_sparse_rows(loading, tmp_path):
    sparse, dense = drawn(120)
    sparse.save(tmp_path / "inputs.npz")
    targets = np.arange(120) % 3
    config = TrainingConfig(model_settings={"hidden": [5]}, epochs=2, batch_size=32, loading=loading, workers=1)
    reference = train(Data(dense, targets, 3), config.model_copy(update={"loading": "memory"}), seed=0, device=CPU)
    found = train(Data(open_inputs(tmp_path / "inputs.npz"), targets, 3), config, seed=0, device=CPU)
    for name, value in reference.model.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[name], value, msg=name)


def test_batches_are_made_dense_on_the_device():
    sparse, dense = drawn()
    data, rows = Data(sparse, np.arange(90) % 3, 3), torch.arange(2, 90, 3)
    ids = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    parts = [slice(0, 10), slice(10, 11), slice(11, len(ids))]
    assert isinstance(source_of(data, rows, CPU, loading="memory", workers=1), Held)
    for batch, part in zip(HeldSparse(data, rows, CPU).batches(ids, ids, parts), parts, strict=True):
        np.testing.assert_array_equal(batch.numpy(), dense[ids[part].numpy()])
