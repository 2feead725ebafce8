"""Laws for every selector of other units than samples: the exact budget, the seed, NaN, and what it says of itself."""

import typing

import numpy as np
import pytest

from secateur.scorers.contract import Unit
from secateur.selectors.contract import MaskSelector, declared, mask_selector, mask_selectors, selectors

EVERY = {name: one for name, one in declared().items() if isinstance(one, MaskSelector)}
SHAPES = {"first": (40, 30), "second": (25, 40), "third": (10, 25)}


def signals(chosen: MaskSelector[..., typing.Any], keep: float, seed: int = 0) -> dict[str, typing.Any]:
    """What a selector reads: scores by group, or `[layers, heads]` for heads."""
    draws = np.random.default_rng(seed)
    if "head" in chosen.units:
        return {"scores": (draws.random((12, 8)) ** 6).astype(np.float32), "keep": keep}
    scores = {name: draws.random(shape).astype(np.float32) for name, shape in SHAPES.items()}
    return {name: {"scores": scores, "shapes": SHAPES, "keep": keep}[name] for name in chosen.reads}


def joined(masks: typing.Any) -> np.ndarray:
    return np.concatenate([mask.ravel() for mask in (masks.values() if isinstance(masks, dict) else [masks])])


@pytest.mark.parametrize("name", sorted(EVERY))
@pytest.mark.parametrize("keep", [0.31, 0.9, 1.0])
def test_exactly_the_budget_stays_and_the_same_seed_repeats_it(name: str, keep: float) -> None:
    chosen = EVERY[name]
    mask = joined(chosen(**signals(chosen, keep), seed=3))
    budget = int(keep * len(mask) + 0.5)
    assert mask.dtype == np.bool_
    assert mask.sum() == budget if chosen.exact else mask.sum() >= budget
    assert np.array_equal(mask, joined(chosen(**signals(chosen, keep), seed=3)))
    others = [joined(chosen(**signals(chosen, keep), seed=seed)) for seed in range(4, 9)]
    if chosen.draws and keep < 1 and mask.sum() == budget:
        assert any((mask != other).any() for other in others)
    elif not chosen.draws:
        assert all((mask == other).all() for other in others), "nothing is tied"


@pytest.mark.parametrize("name", sorted(name for name, one in EVERY.items() if "scores" in one.reads))
def test_what_does_not_draw_keeps_the_highest_scores_of_each_group(name: str) -> None:
    chosen = EVERY[name]
    if chosen.draws or name == "without_highest_heads":
        pytest.skip("draws, or masks the highest")
    given = signals(chosen, 0.4)
    for group, mask in chosen(**given, seed=0).items():
        scores = given["scores"][group]
        assert scores[mask].min() > scores[~mask].max()


def test_declarations_are_whole_and_found_by_unit() -> None:
    assert not set(EVERY) & set(selectors())
    for name, chosen in EVERY.items():
        assert chosen.name == name
        assert chosen.summary.endswith(".")
        assert set(chosen.units) <= set(typing.get_args(Unit))
        for unit in typing.get_args(Unit)[1:]:
            assert (name in mask_selectors(unit)) == (not chosen.units or unit in chosen.units)


def test_a_selector_that_misses_its_budget_is_caught() -> None:
    @mask_selector("weight")
    def one_short(scores: dict[str, np.ndarray], keep: float, *, seed: int = 0) -> dict[str, np.ndarray]:
        """Keeps nothing."""
        return {name: np.zeros(values.shape, dtype=np.bool_) for name, values in scores.items()}

    with pytest.raises(RuntimeError, match="'one_short' kept 0 units, the budget is 2"):
        one_short({"a": np.ones((2, 2))}, 0.5)
