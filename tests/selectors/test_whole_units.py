"""Whole groups and budgets of a column, against a plain walk through the order of a selection."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.contract import selectors
from secateur.selectors.draws.ranks import random_keys
from secateur.selectors.unit_quotas import choose_by_quota
from secateur.selectors.whole_units import Units, choose_units

NESTED = {
    "top": {"end": "low"},
    "uniform_random": {},
    "band": {"low": 1.0, "high": 4.0},
    "k_center": {},
}
"""Selectors whose larger budgets add to smaller ones, with their settings."""


def walked(order: np.ndarray, costs: np.ndarray, total: float) -> np.ndarray:
    """Units in their order, each if it still fits."""
    taken, left = np.zeros(len(costs), np.bool_), total
    for unit in order:
        if costs[unit] <= left:
            taken[unit], left = True, left - costs[unit]
    return taken


def order_of(name: str, arguments: dict[str, np.ndarray], count: int, ids: np.ndarray) -> np.ndarray:
    """Units in the order in which a selector's growing budget takes them, one call for each."""
    order = list[int]()
    for budget in range(1, count + 1):
        keep = selectors()[name](
            **arguments, budget=budget, seed=3, **({"ids": ids} if name != "uniform_random" else {})
        )
        order += [unit for unit in np.flatnonzero(keep) if unit not in order]
    return np.array(order)


@pytest.mark.parametrize("name", NESTED)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(3, 30), grouped=st.booleans(), priced=st.booleans())
def test_units_are_taken_in_the_order_of_the_selection_if_they_fit(name, seed, count, grouped, priced) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, count // 2 + 1, count) if grouped else None
    costs = rng.integers(0, 30, count) if priced else None
    scores = rng.integers(0, 6, count).astype(np.float32)
    vectors = rng.normal(size=(count, 2)).astype(np.float32)
    read = {"top": {"scores": scores}, "band": {"scores": scores}, "k_center": {"embeddings": vectors}}.get(name, {})
    units, ids = Units.made_of(count, groups, costs), rng.permutation(count)
    signals, own = units.signals(read), units.ids(ids)
    allowed = selectors()[name].allowed(signals | NESTED[name])
    can = np.ones(len(own), np.bool_) if allowed is None else allowed
    if not can.any():
        return
    total = float(rng.integers(int(units.costs[can].min()), int(units.costs[can].sum()) + 1))
    if not total:
        return
    keep = choose_units(selectors()[name], read, units, total, settings=NESTED[name], seed=3, ids=ids)
    arguments = signals | NESTED[name] | ({"ids": own} if name == "uniform_random" else {})
    order = order_of(name, arguments, int(can.sum()), own)
    assert (keep == walked(order, units.costs, total)[units.of]).all()


def test_a_group_is_its_mean_its_commonest_class_and_all_its_labels() -> None:
    units = Units.made_of(5, np.array([7, 7, 3, 7, 3]), np.array([1, 2, 3, 4, 5]))
    assert units.of.tolist() == [1, 1, 0, 1, 0]
    assert units.costs.tolist() == [8, 7]
    labels = np.array([[1, 0], [0, 0], [0, 1], [0, 0], [0, 0]], np.bool_)
    found = units.signals(
        {"scores": np.float32([1, 2, 10, 6, 20]), "strata": np.array([4, 9, 2, 9, 1]), "memberships": labels}
    )
    assert found["scores"].tolist() == [15, 3]
    assert found["strata"].tolist() == [1, 9]
    assert found["memberships"].tolist() == [[False, True], [True, False]]
    assert units.ids(np.array([50, 40, 30, 20, 10])).tolist() == [10, 20]


@pytest.mark.parametrize("name", ["coverage_centric", "stratified_random", "beta_sampling"])
def test_of_other_selectors_too_no_group_is_split_and_no_budget_exceeded(name) -> None:
    rng = np.random.default_rng(0)
    chosen, count = selectors()[name], 400
    groups, costs = rng.integers(0, 120, count), rng.lognormal(3, 1, count)
    every = {name: rng.random(count).astype(np.float32) for name in ("scores", "aum", "aleatoric", "mean_probability")}
    every["strata"] = every["memberships"] = rng.integers(0, 3, count)
    read = {signal: every[signal] for signal in chosen.reads if signal not in ("ids", "budget")}
    tuned = {setting: values[0] for setting, values in chosen.tunable.items()}
    units = Units.made_of(count, groups, costs)
    for share in (0.1, 0.5):
        total = share * costs.sum()
        keep = choose_units(chosen, read, units, total, settings=tuned, seed=0, ids=np.arange(count))
        assert len(np.unique(groups[keep])) + len(np.unique(groups[~keep])) == len(np.unique(groups))
        assert 0.9 * total < costs[keep].sum() <= total
        rest = np.setdiff1d(groups, groups[keep])
        if chosen.room is None:  # nothing that would still fit is left out
            assert min(costs[groups == group].sum() for group in rest) > total - costs[keep].sum()


def test_real_costs_never_come_to_more_than_the_budget_in_any_order_of_adding_up() -> None:
    rng = np.random.default_rng(1)
    costs, ids = rng.random(2000) * 0.1, np.arange(2000)
    total = float(costs[random_keys(ids, 0) % 2 == 0].sum())
    units = Units.made_of(2000, None, costs)
    keep = choose_units(selectors()["uniform_random"], {}, units, total, settings={}, seed=0, ids=ids)
    assert max(costs[keep].sum(), costs[keep][::-1].sum(), sum(costs[keep]), sum(sorted(costs[keep]))) <= total


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_costs_that_are_none_are_refused_by_row(wrong) -> None:
    with pytest.raises(ValueError, match=r"row 2 costs .*one of 1 that"):
        Units.made_of(4, None, np.array([1.0, 2.0, wrong, 4.0]))


def test_budgets_that_cannot_be_met_are_refused() -> None:
    scores, ids = np.float32([0.1, 0.5, 0.6, 0.9]), np.arange(4)
    how = {"settings": {"low": 0.4, "high": 0.7}, "seed": 0, "ids": ids}
    band = selectors()["band"]
    with pytest.raises(ValueError, match="a budget of 40 is above 30, all that can be kept"):
        choose_units(band, {"scores": scores}, Units.made_of(4, None, np.array([5, 10, 20, 5])), 40.0, **how)
    with pytest.raises(ValueError, match="nothing fits a budget of 6: the cheapest that can be kept costs 10"):
        choose_units(band, {"scores": scores}, Units.made_of(4, None, np.array([5, 10, 20, 5])), 6.0, **how)
    with pytest.raises(ValueError, match="budget 3 is above 2, all that"):
        choose_units(band, {"scores": scores}, Units.made_of(4, None, None), 3.0, **how)


@pytest.mark.parametrize(
    ("share", "wanted"),
    [
        ("proportional", {0: 200, 1: 80, 2: 20}),
        ("balanced", {0: 125, 1: 125, 2: 50}),
        ({0: 0.5, 2: 0.1}, {0: 150, 1: 0, 2: 30}),
    ],
)
def test_values_of_a_column_get_their_parts(share, wanted) -> None:
    strata = np.repeat([0, 1, 2], [500, 200, 50])
    scores = np.random.default_rng(0).random(750)
    units = Units.made_of(750, None, None)
    keep = choose_by_quota(
        selectors()["top"], {"scores": scores}, units, 300.0, strata=strata, share=share,
        settings={"end": "high"}, seed=0, ids=np.arange(750),
    )  # fmt: skip
    assert {value: int(keep[strata == value].sum()) for value in wanted} == wanted
    for value, count in wanted.items():  # the best of each
        assert set(scores[keep & (strata == value)]) == set(np.sort(scores[strata == value])[500 - 500 :][::-1][:count])


def test_quotas_of_a_band_count_what_the_band_holds() -> None:
    strata, scores = np.repeat([0, 1], 100), np.concatenate([np.full(100, 0.5), np.linspace(0, 1, 100)])
    keep = choose_by_quota(
        selectors()["band"], {"scores": scores}, Units.made_of(200, None, None), 80.0, strata=strata,
        share="balanced", settings={"low": 0.45, "high": 0.55}, seed=0, ids=np.arange(200),
    )  # fmt: skip
    assert [int(keep[strata == value].sum()) for value in (0, 1)] == [70, 10]
