"""Cached logits: rounding by float16, the loss of information with top_k, files, and the choice of cache or model."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
from torch import nn

from secateur.trainers.augmentation import Augmentation
from secateur.trainers.contract import Data
from secateur.trainers.distillation import teacher as teachers
from secateur.trainers.distillation.cached_logits import (
    TeacherLogits,
    cache_logits,
    compress,
    logits_in_blocks,
    write,
)
from secateur.trainers.distillation.objective import distil
from secateur.trainers.distillation.teacher import Teacher

CPU = torch.device("cpu")


class Table(nn.Module):
    """Returns the logits of the row whose number is the first value of the input; counts its calls."""

    def __init__(self, table):
        super().__init__()
        self.table, self.rows = nn.Parameter(table), 0
        self.noise = nn.Dropout(0.9)

    def forward(self, inputs):
        self.rows += len(inputs)
        return self.noise(self.table[inputs.flatten(1)[:, 0].long()])


def logits(count, classes, seed, scale=4.0):
    return scale * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))


def numbered(count, classes=3):
    return Data(np.arange(count, dtype=np.float32)[:, None], np.zeros(count, np.int64), classes)


def read(cached, rows=None):
    ids = torch.arange(len(cached)) if rows is None else torch.as_tensor(rows)
    return Teacher(cached=cached)(ids, torch.zeros(len(ids), 1))


shapes = st.tuples(st.integers(1, 9), st.integers(2, 40), st.integers(0, 10**6), st.sampled_from([0.01, 4.0, 300.0]))


@settings(max_examples=60, deadline=None)
@given(shape=shapes, temperature=st.floats(0.5, 20))
def test_float16_rounds_by_a_share_of_the_distance_from_the_top(shape, temperature):
    exact = logits(*shape).double()
    relative = exact - exact.amax(1, keepdim=True)
    found = read(compress(exact.float())).double()
    assert torch.all((found - relative).abs() <= relative.abs() * (2**-11 + 2**-20) + 2**-25 + 1e-4 * (shape[3] > 100))
    # Rounding a logit at a distance d by 2^-11 d moves mass of at most 2^-11 d exp(-d) / T and its share of the sum.
    distance = np.abs(relative.numpy()) / temperature
    moved = (softmax(-distance, axis=1) * distance).sum(1) * 2**-11 * 2
    apart = np.abs(softmax(found.numpy() / temperature, 1) - softmax(relative.numpy() / temperature, 1)).sum(1)
    assert np.all(apart <= moved * 1.01 + 1e-4 * (shape[3] > 100) + 1e-6)
    assert torch.equal(found.argmax(1), exact.argmax(1)) or shape[3] < 1


@settings(max_examples=60, deadline=None)
@given(shape=shapes, temperature=st.floats(0.5, 20), data=st.data())
def test_the_highest_keep_their_probability_and_the_rest_its_mass(shape, temperature, data):
    classes = shape[1]
    top_k = data.draw(st.integers(1, classes - 1))
    exact = logits(*shape)
    cached = compress(exact, top_k=top_k, temperature=temperature)
    assert cached.values.shape == (len(exact), top_k)
    assert cached.indices.dtype == np.int16
    found, whole = (softmax(each.double().numpy() / temperature, 1) for each in (read(cached), exact))
    order = np.argsort(-exact.numpy(), axis=1, kind="stable")
    np.testing.assert_array_equal(cached.indices, order[:, :top_k])
    kept, others = order[:, :top_k], order[:, top_k:]
    near = {"rtol": 2e-3 * max(1, 30 * shape[3] / temperature / 10), "atol": 1e-4}
    np.testing.assert_allclose(np.take_along_axis(found, kept, 1), np.take_along_axis(whole, kept, 1), **near)
    np.testing.assert_allclose(
        np.take_along_axis(found, others, 1).sum(1), np.take_along_axis(whole, others, 1).sum(1), **near
    )
    # All other classes get equal shares of it.
    assert np.ptp(np.take_along_axis(found, others, 1), axis=1).max() == 0


@settings(max_examples=30, deadline=None)
@given(shape=shapes, more=st.integers(0, 3))
def test_as_many_as_there_are_classes_is_the_full_cache(shape, more):
    exact = logits(*shape)
    full, all_of_them = compress(exact), compress(exact, top_k=shape[1] + more, temperature=3.0)
    np.testing.assert_array_equal(full.values, all_of_them.values)
    assert all_of_them.indices is None
    assert all_of_them.temperature is None


@settings(max_examples=30, deadline=None)
@given(shape=shapes, temperature=st.floats(0.5, 20))
def test_all_but_one_say_what_all_of_them_say(shape, temperature):
    """The rest is then a single class, so its mass is its probability."""
    exact = logits(*shape)
    all_but_one, full = read(compress(exact, top_k=shape[1] - 1, temperature=temperature)), read(compress(exact))
    torch.testing.assert_close(all_but_one, full, rtol=1.1e-3, atol=1e-6)


def test_more_classes_than_int16_counts():
    exact = logits(2, 40_000, 0)
    cached = compress(exact, top_k=2)
    assert cached.indices.dtype == np.int32
    np.testing.assert_array_equal(cached.indices[:, 0], exact.argmax(1))
    mass = logsumexp(np.sort(exact.double().numpy(), 1)[:, :-2], axis=1) - exact.amax(1).double().numpy()
    np.testing.assert_allclose(cached.rest.astype(float) + np.log(39_998), mass, atol=0.01)


def test_distances_beyond_float16_stay_finite():
    cached = compress(torch.tensor([[1e5, -1e5, 0.0], [0.0, 1.0, -3e38]]))
    assert np.isfinite(cached.values).all()
    np.testing.assert_allclose(softmax(cached.values.astype(float), 1), [[1, 0, 0], [0.2689, 0.7311, 0]], atol=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_no_numbers_are_refused_by_row(bad):
    table = logits(40, 3, 0)
    table[21, 1] = bad
    with pytest.raises(ValueError, match=r"teacher's logits are NaN or infinite at row 21, 1 of .*diverged"):
        list(logits_in_blocks(Table(table), numbered(40), device=CPU, block=16, batch_size=8))


@pytest.mark.parametrize("top_k", [None, 2])
def test_files_hold_it_all_and_blocks_make_the_same_files(tmp_path, top_k):
    table = logits(40, 5, 0)
    whole = cache_logits(Table(table), numbered(40, 5), top_k=top_k, temperature=3.0)
    blocks = list(
        logits_in_blocks(
            Table(table), numbered(40, 5), device=CPU, top_k=top_k, temperature=3.0, block=16, batch_size=7
        )
    )
    assert [len(block) for block in blocks] == [16, 16, 8]
    later = list(
        logits_in_blocks(Table(table), numbered(40, 5), device=CPU, top_k=top_k, temperature=3.0, block=16, start=32)
    )
    np.testing.assert_array_equal(later[0].values, blocks[2].values)
    for name in ("one", "blocks"):
        (tmp_path / name).mkdir()
    whole.save(tmp_path / "one")
    write(tmp_path / "blocks", iter(blocks), 40)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "blocks").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "blocks" / name).read_bytes() for name in files)
    back = TeacherLogits.load(tmp_path / "one")
    assert torch.equal(read(back), read(whole))
    assert {**vars(back), **back.arrays}.keys() == {**vars(whole), **whole.arrays}.keys()
    assert (back.temperature, back.width, back.augmentation) == (whole.temperature, whole.width, None)
    rows = np.array([39, 0, 7])
    assert torch.equal(read(back.take(rows)), read(whole, rows))
    with pytest.raises(ValueError, match="teacher logits of 32 rows, there are 40"):
        write(tmp_path / "blocks", blocks[:2], 40)
    with pytest.raises(ValueError, match="start 5 is not"):
        next(logits_in_blocks(Table(table), numbered(40, 5), device=CPU, block=16, start=5))


def test_the_cache_is_made_in_evaluation_mode_of_samples_as_stored():
    table = logits(40, 3, 0)
    model = Table(table).train()
    cached = cache_logits(model, numbered(40))
    assert not model.training
    torch.testing.assert_close(read(cached), table - table.amax(1, keepdim=True), rtol=2**-11, atol=1e-6)
    assert model.table.grad is None


def test_the_cache_answers_for_stored_samples_and_the_model_for_varied_ones():
    table = logits(12, 3, 0)
    model, cached = Table(table), compress(logits(12, 3, 1))
    ids, inputs = torch.tensor([3, 5]), torch.tensor([[4.0], [6.0]])
    plain = Teacher(model, cached=cached)
    assert torch.equal(plain(ids, inputs), read(cached, ids))
    assert torch.equal(Teacher(model, cached=cached, augmentation=Augmentation())(ids, inputs), read(cached, ids))
    assert model.rows == 0
    for augmentation in (Augmentation(flip=True), Augmentation(crop_padding=1), Augmentation(cutout=2)):
        varied = Teacher(model.train(), cached=cached, augmentation=augmentation)
        answer = varied(ids, inputs)
        assert torch.equal(answer, table[[4, 6]])
        assert not answer.requires_grad
    assert torch.equal(Teacher(model)(ids, inputs), table[[4, 6]])


@pytest.mark.parametrize("top_k", [None, 2])
def test_a_cache_too_large_for_the_device_is_read_by_the_batch(tmp_path, monkeypatch, top_k):
    compress(logits(12, 5, 0), top_k=top_k).save(tmp_path)
    cached, ids = TeacherLogits.load(tmp_path), torch.tensor([7, 0, 11, 7])
    whole = Teacher(cached=cached)
    monkeypatch.setattr(teachers, "RESIDENT", 0)
    by_batch = Teacher(cached=cached)
    assert torch.equal(by_batch(ids, ids), whole(ids, ids))
    assert whole._tables
    assert not by_batch._tables


def test_what_cannot_answer_is_refused():
    cached = compress(logits(12, 3, 0))
    with pytest.raises(ValueError, match="give the teacher's model"):
        Teacher()
    with pytest.raises(ValueError, match=r"cached for samples as stored, .* augmented: give the teacher's model"):
        Teacher(cached=cached, augmentation=Augmentation(flip=True))
    varied = TeacherLogits(cached.values, 3, augmentation={"flip": True})
    with pytest.raises(ValueError, match="varied view"):
        Teacher(cached=varied)
    few = compress(logits(12, 9, 0), top_k=2, temperature=4.0)
    with pytest.raises(ValueError, match=r"highest 2 teacher logits were cached for temperature 4, .* serve 2"):
        distil(Teacher(cached=few), alpha=0.5, temperature=2.0)
    assert distil(Teacher(cached=few), alpha=0.5, temperature=4.0)
