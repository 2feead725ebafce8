"""Masks over weights: exact counts, every weight as likely as another, the highest scores as a sort finds them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.masks.global_mask import global_mask
from secateur.selectors.masks.layer_mask import layer_masks
from secateur.selectors.masks.random_mask import random_masks

SHAPES = {"a": (6, 5), "b": (3, 4, 2, 2), "c": (2, 6)}


@given(counts=st.tuples(st.integers(0, 30), st.integers(0, 48), st.integers(0, 12)), seed=st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_counts_are_exact_and_more_contain_fewer(counts: tuple[int, ...], seed: int) -> None:
    asked = dict(zip(SHAPES, counts, strict=True))
    masks = random_masks(SHAPES, asked, seed=seed)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == asked
    assert {name: mask.shape for name, mask in masks.items()} == SHAPES
    fewer = random_masks(SHAPES, {name: count // 2 for name, count in asked.items()}, seed=seed)
    assert all((masks[name] | ~fewer[name]).all() for name in SHAPES)


def test_every_weight_is_as_likely_and_layers_are_drawn_apart() -> None:
    shapes = {"a": (4, 5), "b": (4, 5)}
    drawn = [random_masks(shapes, {"a": 5, "b": 5}, seed=seed) for seed in range(2000)]
    a, b = (np.stack([masks[name].ravel() for masks in drawn]).astype(float) for name in "ab")
    assert np.abs(a.mean(axis=0) - 0.25).max() < 4.5 * np.sqrt(0.25 * 0.75 / 2000)
    together = (a[:, 0] * b[:, 0]).mean()
    assert abs(together - 1 / 16) < 4.5 * np.sqrt(1 / 16 * 15 / 16 / 2000)


@given(seed=st.integers(0, 2**32), budget=st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_highest_scores_as_a_sort_finds_them(seed: int, budget: int) -> None:
    draws = np.random.default_rng(seed)
    scores = {name: draws.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    masks = global_mask(scores, budget, seed=0)
    joined = np.concatenate([scores[name].ravel() for name in SHAPES])
    chosen = np.concatenate([masks[name].ravel() for name in SHAPES])
    assert chosen.sum() == budget
    assert set(np.flatnonzero(chosen)) == set(np.argsort(-joined, kind="stable")[:budget])
    each = {name: min(budget, values.size) for name, values in scores.items()}
    for name, mask in layer_masks(scores, each, seed=0).items():
        assert set(np.flatnonzero(mask)) == set(np.argsort(-scores[name].ravel(), kind="stable")[: each[name]])


@given(seed=st.integers(0, 1000), least=st.integers(1, 12), more=st.integers(0, 54))
@settings(max_examples=40, deadline=None)
def test_every_layer_keeps_the_least_and_the_rest_goes_by_score(seed: int, least: int, more: int) -> None:
    draws = np.random.default_rng(seed)
    scores = {name: draws.normal(size=shape) + 9.0 * (name == "b") for name, shape in SHAPES.items()}
    scores["b"].flat[0] = np.inf
    masks = global_mask(scores, 3 * least + more, seed=0, least=least)
    safe = {name: np.sort(values, axis=None)[-least] for name, values in scores.items()}
    rest = np.sort(np.concatenate([values[values < safe[name]] for name, values in scores.items()]))
    bar = rest[-more] if more else np.inf
    for name, values in scores.items():
        assert np.array_equal(masks[name], (values >= safe[name]) | (values >= bar))


def test_a_least_that_the_budget_cannot_pay_is_refused() -> None:
    scores = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    with pytest.raises(ValueError, match="5 of 90 units cannot leave 2 in each of 3 layers: raise keep"):
        global_mask(scores, 5, seed=0, least=2)


def test_ties_are_drawn_and_not_the_first_ones() -> None:
    scores = {"a": np.zeros((10, 10), np.float32)}
    masks = [global_mask(scores, 50, seed=seed)["a"] for seed in (0, 1)]
    assert not np.array_equal(*masks)
    assert not masks[0].ravel()[:50].all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="'a': 31 of 30"):
        random_masks(SHAPES, {"a": 31, "b": 1, "c": 1}, seed=0)
    with pytest.raises(ValueError, match="'a': 1 of 2 scores are NaN"):
        global_mask({"a": np.array([np.nan, 1.0])}, 1, seed=0)
    with pytest.raises(ValueError, match="'a': 3 of 2"):
        layer_masks({"a": np.array([0.0, 1.0])}, {"a": 3}, seed=0)
