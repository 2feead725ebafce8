"""Every selector keeps every law, and the laws catch selectors that do not."""

import inspect
import pydoc
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from secateur.scorers.contract import Scores
from secateur.scorers.geometry.density import density
from secateur.selectors.check_selector import check_selector
from secateur.selectors.contract import declared, selector, selectors
from secateur.selectors.draws.ranks import Ids, Keep, keep_smallest, random_keys
from secateur.selectors.static.top import top
from secateur.selectors.static.uniform_random import uniform_random

SETTINGS = {
    "band": {"low": -1e9, "high": 1e9},
    "prototypes": {"clusters": 5},
    "semantic_deduplication": {"samples_per_cluster": 8},
}
"""Where the defaults are for more samples than the laws use."""


@pytest.mark.parametrize("name", sorted(selectors()))
def test_laws_hold(name):
    check_selector(selectors()[name], settings=SETTINGS.get(name))


@pytest.mark.parametrize("name", sorted(name for name, chosen in selectors().items() if chosen.tunable))
def test_laws_hold_at_every_candidate_of_a_tuned_setting(name):
    chosen = selectors()[name]
    for setting, values in chosen.tunable.items():
        check_selector(chosen, settings={setting: values[-1]}, samples=24)


@selector()
def first_rows(scores: Scores, budget: int, *, seed: int = 0, ids: Ids | None = None) -> Keep:
    """Breaks ties by row order."""
    keep = np.zeros(len(scores), dtype=np.bool_)
    keep[np.argsort(-scores, kind="stable")[:budget]] = True
    return keep


@selector()
def one_short(scores: Scores, budget: int, *, seed: int = 0, ids: Ids | None = None) -> Keep:
    """Loses the highest score, as the published CCS does."""
    keep = keep_smallest(-scores, budget, seed=seed, ids=ids)
    keep[scores.argmax()] = False
    return keep


@selector(draws=True)
def global_generator(scores: Scores, budget: int, *, seed: int = 0, ids: Ids | None = None) -> Keep:
    """Draws from the generator of the process."""
    return keep_smallest(np.random.random(len(scores)), budget, seed=seed, ids=ids)


@selector(draws=True)
def by_row_number(scores: Scores, budget: int, *, seed: int = 0, ids: Ids | None = None) -> Keep:
    """Draws by row numbers although ids are given."""
    return keep_smallest(random_keys(len(scores), seed), budget, seed=seed)


@selector(monotone=True)
def middle_third(scores: Scores, budget: int, *, seed: int = 0, ids: Ids | None = None) -> Keep:
    """Keeps another end for odd budgets."""
    return keep_smallest(scores if budget % 2 else -scores, budget, seed=seed, ids=ids)


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (first_rows, "another order"),
        (global_generator, "one seed gave two choices"),
        (by_row_number, "another order"),
        (middle_third, "monotone=True"),
        (replace(top, draws=True), "draws=True"),
        (replace(uniform_random, draws=False), "draws=False"),
        (replace(top, room=lambda count: count - 1), "budget"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_laws_catch_what_breaks_them(broken, text):
    if text == "budget":
        check_selector(broken)  # a selector that promises less than it can do still keeps the laws
        return
    with pytest.raises(AssertionError, match=text):
        check_selector(broken)


def test_a_missed_budget_never_leaves_the_selector():
    with pytest.raises(RuntimeError, match="kept 2 samples, was asked for 3"):
        one_short(np.float32([1, 2, 3, 4]), 3)


def test_rows_of_broken_scores_are_named():
    scores = np.zeros(100_000, np.float32)
    scores[[7, 70_000]] = np.nan, -np.inf
    with pytest.raises(ValueError, match="'scores' is NaN or infinite at rows 7, 70000"):
        top(scores, 5)


def test_settings_without_a_value_are_asked_for():
    bare = replace(selectors()["double_end"], tunable={})
    with pytest.raises(AssertionError, match="needs values for the settings \\['cutoff'\\]"):
        check_selector(bare)


@pytest.mark.parametrize("chosen", declared().values(), ids=lambda one: one.name)
def test_a_selector_looks_like_its_function(chosen) -> None:
    assert inspect.signature(chosen) == inspect.signature(chosen.choose)
    assert inspect.getdoc(chosen) == inspect.getdoc(chosen.choose)
    shown = pydoc.render_doc(chosen, renderer=pydoc.plaintext)
    assert chosen.summary[:40] in shown
    assert f"{chosen.name}({next(iter(inspect.signature(chosen.choose).parameters))}, " in repr(chosen)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([0.1, 0.2], "of type list, and a NumPy array is needed: give np.asarray(scores)"),
        (pd.Series([0.1, 0.2]), "of type pandas.Series, and a NumPy array is needed: give scores.to_numpy()"),
        (pl.Series([0.1, 0.2]), "of type polars.Series, and a NumPy array is needed: give scores.to_numpy()"),
        (torch.ones(2), "of type torch.Tensor, and a NumPy array is needed: give scores.detach().cpu().numpy()"),
        (pd.DataFrame({"scores": [0.1]}), "of type pandas.DataFrame, .* such as scores=table['scores'].to_numpy()"),
        (0.5, "of type float, and a NumPy array is needed: give one number per sample"),
    ],
    ids=["list", "pandas", "polars", "tensor", "table", "number"],
)
def test_what_is_no_array_is_named_with_the_remedy(given: object, said: str) -> None:
    pattern = re.escape(said).replace(re.escape(".*"), ".*")
    with pytest.raises(ValueError, match=f"selector 'top': scores is {pattern}"):
        top(given, 1)
    with pytest.raises(ValueError, match="scorer 'density': neighbour_distances is of type"):
        density(given)


def test_arguments_that_do_not_fit_are_named() -> None:
    scores = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match=r"selector 'top': budget is 0.5, and a count .* is round\(0.5 \* n\)"):
        top(scores, 0.5)
    with pytest.raises(TypeError, match=r"'budget'; it takes \(scores, budget, \*, end='high', seed=0, ids=None"):
        top(scores)
