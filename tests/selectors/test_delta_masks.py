"""Masks over deltas: exact counts, draws as likely as they should be, and nothing that depends on how entries come."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.draws.ranks import random_keys
from secateur.selectors.masks import delta_masks
from secateur.selectors.masks.delta_masks import cut_of, draw_count, draw_each, keep_by_row, tensor_seed


def blocks_of(tensors, size):
    """Scores by tensor name, cut into blocks."""

    def blocks():
        for name, scores in tensors.items():
            for first in range(0, len(scores), size):
                yield scores[first : first + size], first, tensor_seed(3, name)

    return blocks


def masked(tensors, budget, size):
    """The masks that a cut makes, tensor by tensor."""
    blocks = blocks_of(tensors, size)
    cut = cut_of(blocks, budget)
    flat = np.concatenate([cut(block) for block in blocks()])
    return dict(zip(tensors, np.split(flat, np.cumsum([len(each) for each in tensors.values()])[:-1]), strict=True))


def brute_force(tensors, budget):
    """The same by sorting everything in memory: by score, then by hash."""
    names = np.concatenate([np.full(len(scores), number) for number, scores in enumerate(tensors.values())])
    keys = np.concatenate([random_keys(len(each), tensor_seed(3, name)) for name, each in tensors.items()])
    order = np.lexsort((keys, np.concatenate(list(tensors.values()))))
    keep = np.zeros(len(names), bool)
    keep[order[len(order) - budget :]] = True
    return {name: keep[names == number] for number, name in enumerate(tensors)}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_cut_keeps_what_sorting_everything_keeps(data):
    numbers = st.one_of(st.sampled_from([0.0, 0.5, 2.0**-140, 3.0]), st.floats(0, 2.0**100, width=32))
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    tensors = {
        f"t{place}": np.float32(data.draw(st.lists(numbers, min_size=size, max_size=size)))
        for place, size in enumerate(sizes)
    }
    budget = data.draw(st.integers(1, sum(sizes)))
    collected = data.draw(st.sampled_from([0, 2, 1 << 22]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delta_masks, "COLLECTED", collected)
        got = masked(tensors, budget, data.draw(st.integers(1, 50)))
    expected = brute_force(tensors, budget)
    assert sum(int(mask.sum()) for mask in got.values()) == budget
    for name in tensors:
        np.testing.assert_array_equal(got[name], expected[name])


def test_entries_of_equal_rank_fill_the_budget_exactly(monkeypatch):
    """Were all hashes equal, the first entries would stay; the count holds."""
    monkeypatch.setattr(delta_masks, "random_keys", lambda samples, seed: np.zeros(len(samples), np.uint64))
    for collected in (0, 1 << 22):
        monkeypatch.setattr(delta_masks, "COLLECTED", collected)
        mask = masked({"only": np.ones(10, np.float32)}, 4, 3)["only"]
        assert np.flatnonzero(mask).tolist() == [0, 1, 2, 3]


def test_a_drawn_count_is_exact_nested_and_moves_with_the_seed():
    smaller, larger = draw_count(10_000, 100, 1), draw_count(10_000, 1_000, 1)
    assert (smaller.sum(), larger.sum()) == (100, 1_000)
    assert not (smaller & ~larger).any()
    assert (draw_count(10_000, 1_000, 2) & larger).sum() < 200
    assert draw_count(5, 0, 1).sum() == 0
    assert draw_count(5, 5, 1).all()


def test_every_entry_is_drawn_equally_often():
    counts = sum(draw_count(50, 10, seed).astype(int) for seed in range(3_000))
    each = sum(draw_each(0, 50, 0.2, seed).astype(int) for seed in range(3_000))
    for drawn in (counts, each):
        assert abs(drawn.mean() - 600) < 20
        assert np.abs(drawn - 600).max() < 5 * np.sqrt(600 * 0.8)


def test_independent_draws_have_the_binomial_spread_and_no_memory_of_blocks():
    whole = draw_each(0, 100_000, 0.01, 9)
    parts = np.concatenate([draw_each(0, 777, 0.01, 9), draw_each(777, 100_000, 0.01, 9)])
    np.testing.assert_array_equal(whole, parts)
    totals = [int(draw_each(0, 10_000, 0.1, seed).sum()) for seed in range(300)]
    assert np.std(totals) == pytest.approx(30, rel=0.2)
    assert draw_each(3, 9, 1.0, 0).all()


def test_tensors_draw_apart():
    assert tensor_seed(0, "a.weight") != tensor_seed(0, "b.weight") != tensor_seed(1, "b.weight")
    first, second = (draw_each(0, 10_000, 0.5, tensor_seed(0, name)) for name in ("a", "b"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 12), st.integers(0, 100), st.data())
def test_rows_keep_their_own_highest(rows, columns, seed, data):
    budget = data.draw(st.integers(1, columns))
    scores = np.float32(np.random.default_rng(seed).integers(0, 4, (rows, columns)))
    keep = keep_by_row(scores, budget, 0, seed)
    assert (keep.sum(axis=1) == budget).all()
    for row in range(rows):
        dropped = scores[row][~keep[row]]
        assert not len(dropped) or scores[row][keep[row]].min() >= dropped.max()
    half = rows // 2
    below = keep_by_row(scores[half:], budget, half * columns, seed)
    np.testing.assert_array_equal(below, keep[half:])


@pytest.mark.parametrize(
    "call",
    [
        lambda: draw_count(5, 6, 0),
        lambda: draw_each(0, 5, 0.0, 0),
        lambda: draw_each(0, 5, 1.5, 0),
        lambda: cut_of(blocks_of({"t": np.ones(3, np.float32)}, 2), 4),
        lambda: keep_by_row(np.ones((2, 3), np.float32), 0, 0, 0),
    ],
)
def test_budgets_that_cannot_be_are_refused(call):
    with pytest.raises(ValueError, match="within"):
        call()
