"""Searches over architectures: no network twice, the end of every space, states, rounds by hand, real tables."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_spaces import mobile_net_like, nas_bench_201

from secateur.scorers.architectures.accuracy_predictor import AccuracyPredictor, PredictorSettings
from secateur.scorers.architectures.choice_contributions import PairContributions
from secateur.scorers.architectures.encoding import ArchitectureSpace, Position
from secateur.selectors.searches.choice_pruning import PruningSettings, prune, prune_first_order, prune_second_order
from secateur.selectors.searches.contract import ArchitectureSearch, AskTell, search
from secateur.selectors.searches.gbdt_search import GbdtSearch
from secateur.selectors.searches.random_search import RandomSearch
from secateur.selectors.searches.regularised_evolution import RegularisedEvolution

QUICK = PredictorSettings(trees=8, leaves=4, least_in_leaf=1)
SPACE = ArchitectureSpace.product([Position(name, ("0", "1", "2")) for name in "abcd"])
SEARCHES: dict[str, Callable[[ArchitectureSpace, int], ArchitectureSearch]] = {
    "random": lambda space, seed: RandomSearch(space, seed=seed),
    "evolution": lambda space, seed: RegularisedEvolution(space, population=10, sample=3, seed=seed),
    "gbdt": lambda space, seed: GbdtSearch(space, initial=12, per_round=7, predictor=QUICK, seed=seed),
    "s3": lambda space, seed: GbdtSearch(
        space, initial=12, per_round=7, predictor=QUICK, pruning=PruningSettings(), seed=seed
    ),
}


def isomorphic_space() -> ArchitectureSpace:
    """Order does not matter: 15 networks among 81 rows."""
    assert SPACE.listed is not None
    ordered = np.sort(SPACE.listed, axis=1)
    _, keys = np.unique(ordered, axis=0, return_inverse=True)
    return SPACE.having(SPACE.listed, keys.astype(np.int64).ravel())


def quality(rows: np.ndarray, space: ArchitectureSpace = SPACE) -> np.ndarray:
    """A smooth fitness with one optimum, 2222."""
    choices = space.choices_of(rows)
    return choices @ np.array([1.0, 0.7, 0.5, 0.3]) + 0.2 * (choices == 2).all(axis=1)


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("space", [SPACE, isomorphic_space()], ids=["distinct", "isomorphic"])
def test_a_search_without_end_evaluates_each_network_once_and_stops(name: str, space: ArchitectureSpace) -> None:
    searcher = SEARCHES[name](space, 0)
    assert isinstance(searcher, AskTell)
    history = search(searcher, quality, 10_000, batch=5)
    keys = space.keys_of(history.rows)
    assert len(set(keys.tolist())) == len(keys)
    if name != "s3":
        every = space.keys_of(np.arange(len(space)))
        assert set(keys.tolist()) == set(every.tolist())
        assert history.fitness[np.argmax(history.fitness)] == pytest.approx(5.2)
        assert history.best_row == len(space) - 1
    assert not len(searcher.ask(5))


def test_wrong_tellings_are_refused() -> None:
    searcher = RandomSearch(SPACE)
    rows = searcher.ask(3)
    with pytest.raises(ValueError, match=r"NaN or infinite at row "):
        searcher.tell(rows, np.array([1.0, np.nan, 1.0]))
    searcher.tell(rows, np.ones(3))
    with pytest.raises(ValueError, match="not asked for, or told already"):
        searcher.tell(rows[:1], np.ones(1))
    with pytest.raises(ValueError, match="must be at least 1"):
        searcher.ask(0)
    with pytest.raises(ValueError, match="sample must be within 1 … 5"):
        RegularisedEvolution(SPACE, population=5, sample=6)
    waiting = GbdtSearch(SPACE, initial=4, predictor=QUICK)
    waiting.ask(4)
    with pytest.raises(RuntimeError, match="4 evaluations are not told yet"):
        waiting.ask(1)


def test_a_round_is_the_best_predicted_of_what_was_not_seen() -> None:
    searcher = GbdtSearch(SPACE, initial=20, per_round=6, predictor=QUICK, seed=4)
    first = searcher.ask(20)
    fitness = quality(first)
    searcher.tell(first, fitness)
    proposed = searcher.ask(100)
    fitted = AccuracyPredictor.fit(SPACE, SPACE.choices_of(first), fitness, QUICK, seed=4)
    others = np.setdiff1d(np.arange(81), first)
    predicted = fitted.predict(SPACE.choices_of(others))
    assert len(proposed) == 6
    expected = np.sort(predicted)[::-1][:6]
    np.testing.assert_array_equal(np.sort(predicted[np.isin(others, proposed)])[::-1], expected)


def test_a_round_may_explore_and_its_best_predicted_stay() -> None:
    proposed = {}
    for explore in (0.0, 0.5):
        searcher = GbdtSearch(SPACE, initial=20, per_round=6, predictor=QUICK, explore=explore, seed=4)
        first = searcher.ask(20)
        searcher.tell(first, quality(first))
        proposed[explore] = searcher.ask(6).tolist()
    assert proposed[0.5][:3] == proposed[0.0][:3]
    assert proposed[0.5][3:] != proposed[0.0][3:]
    assert len(set(proposed[0.5]) | set(first.tolist())) == 26
    with pytest.raises(ValueError, match=r"explore is a share of each round in \[0, 1\), got 1"):
        GbdtSearch(SPACE, explore=1.0)


def test_failed_networks_count_as_evaluated_and_do_not_teach() -> None:
    settings_ = QUICK.model_copy(update={"failed_below": 100.0})
    searcher = GbdtSearch(SPACE, initial=10, per_round=5, predictor=settings_, seed=0)
    history = search(searcher, quality, 30, batch=5)
    assert len(set(history.rows.tolist())) == 30
    assert searcher.rounds == 0


def test_evolution_changes_one_choice_of_a_member() -> None:
    searcher = RegularisedEvolution(SPACE, population=10, sample=10, seed=1)
    rows = searcher.ask(10)
    searcher.tell(rows, quality(rows))
    parent = rows[np.argmax(quality(rows))]
    child = searcher.ask(1)
    assert np.sum(SPACE.choices_of(child)[0] != SPACE.choices_of(np.array([parent]))[0]) == 1
    searcher.tell(child, quality(child))
    assert [row for row, _ in searcher.members] == [*rows[1:].tolist(), int(child[0])]


def test_spaces_that_are_not_listed_are_searched_from_draws() -> None:
    space = mobile_net_like()
    weights = np.random.default_rng(0).normal(size=147)

    def evaluate(rows: np.ndarray) -> np.ndarray:
        return space.encode(space.choices_of(rows)).astype(np.float64) @ weights

    guided = GbdtSearch(space, initial=60, per_round=30, candidates=400, predictor=PredictorSettings(trees=30))
    found = search(guided, evaluate, 150, batch=30)
    random = search(RandomSearch(space), evaluate, 150, batch=30)
    assert len(set(found.rows.tolist())) == 150
    assert space.are_alive(space.choices_of(found.rows), space.allowed).all()
    assert found.fitness.max() > random.fitness.max()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_position_is_ever_emptied(data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    count = data.draw(st.integers(1, 12))
    alive = generator.random(12) < 0.7
    alive[::3] |= ~alive.reshape(4, 3).any(axis=1)
    left = prune_first_order(SPACE, generator.normal(size=12) - 1, alive, count)
    one, two = np.triu_indices(12, k=1)
    pairs = PairContributions(np.stack([one, two], axis=1).astype(np.int64), generator.normal(size=(len(one), 4)) - 1)
    for result in (left, prune_second_order(SPACE, pairs, alive, count)):
        assert result.reshape(4, 3).any(axis=1).all()
        assert not np.any(result & ~alive)
        assert np.sum(alive & ~result) <= count


def test_the_lowest_contributions_below_zero_go_first() -> None:
    means = np.array([-3.0, -1.0, 2.0, -2.0, 0.5, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    alive = np.ones(12, dtype=bool)
    assert np.flatnonzero(~prune_first_order(SPACE, means, alive, 2)).tolist() == [0, 3]
    assert np.flatnonzero(~prune_first_order(SPACE, means, alive, 9)).tolist() == [0, 1, 3]
    last = alive.copy()
    last[[1, 2]] = False
    assert prune_first_order(SPACE, means, last, 2)[0]


def test_pairs_prune_both_or_the_one_that_is_bad_alone() -> None:
    alive = np.ones(12, dtype=bool)

    def left(table: dict[tuple[int, int], list[float]], count: int) -> list[int]:
        pairs = PairContributions(np.array(list(table), dtype=np.int64), np.array(list(table.values())))
        return np.flatnonzero(~prune_second_order(SPACE, pairs, alive, count)).tolist()

    assert left({(0, 3): [-5.0, 1.0, 1.0, 1.0]}, 2) == [0, 3]
    assert left({(0, 3): [-5.0, 1.0, 1.0, 1.0]}, 1) == [0]
    assert left({(0, 3): [1.0, -5.0, -1.0, 1.0]}, 2) == [0]
    assert left({(0, 3): [1.0, 1.0, -1.0, 1.0]}, 2) == [3]
    assert left({(0, 3): [1.0, 1.0, 1.0, -1.0]}, 2) == []
    assert left({(0, 1): [-9.0, -9.0, -9.0, 1.0]}, 2) == []
    assert left({(0, 3): [1.0, -5.0, 0.0, 0.0], (0, 6): [-1.0, 0.0, 0.0, 0.0]}, 2) == [0, 6]


def test_pruning_takes_away_choices_that_hurt_and_keeps_the_optimum() -> None:
    rows = np.random.default_rng(0).permutation(81)[:40].astype(np.int64)
    choices = SPACE.choices_of(rows)
    settings_ = PredictorSettings(trees=40, least_in_leaf=2, clipped=False)
    fitted = AccuracyPredictor.fit(SPACE, choices, quality(rows), settings_)
    for order in ("first", "second"):
        left = prune(fitted, choices, SPACE.allowed, PruningSettings(per_round=2, order=order))
        assert left[[2, 5, 8, 11]].all()
        if order == "first":
            assert not left[0]


@pytest.mark.parametrize("clipped", [False, True])
def test_a_search_prunes_by_ranks_where_accuracies_are_clipped(clipped: bool) -> None:
    """The choices that go are those that a fit to ranks, or to accuracies as they are, lets go."""
    settings_ = PredictorSettings(trees=40, least_in_leaf=2, clipped=clipped, failed_below=1.0)
    searcher = GbdtSearch(SPACE, initial=40, per_round=6, predictor=settings_, pruning=PruningSettings(), seed=3)
    first = searcher.ask(40)
    fitness = quality(first)
    searcher.tell(first, fitness)
    searcher.ask(1)
    taught = fitness >= 1.0
    choices, targets = SPACE.choices_of(first[taught]), fitness[taught]
    if clipped:
        targets = (targets[:, None] >= targets).sum(axis=1) - ((targets[:, None] == targets).sum(axis=1) - 1) / 2
        targets = targets / len(targets)
    plain = settings_.model_copy(update={"clipped": False, "failed_below": None})
    expected = prune(
        AccuracyPredictor.fit(SPACE, choices, targets, plain, seed=3), choices, SPACE.allowed, PruningSettings()
    )
    np.testing.assert_array_equal(searcher.alive, expected)
    assert searcher.alive[[2, 5, 8, 11]].all(), "choices of the optimum"
    assert not searcher.alive.all()


def test_failures_and_long_tails_do_not_blind_the_search_by_default() -> None:
    """As it was, the search is no better than random on made-up tables with failures and a long tail."""
    from planted_spaces import PLANTED, planted

    before = PredictorSettings(clipped=False, least_in_leaf=3)
    regrets: dict[str, list[float]] = {"default": [], "before": []}
    space, accuracies = planted(PLANTED["failures"], 0)
    for seed in range(3):
        for name, settings_ in (("default", PredictorSettings()), ("before", before)):
            searcher = GbdtSearch(space, predictor=settings_, seed=seed)
            found = search(searcher, lambda rows: accuracies[rows], 200, batch=50)
            regrets[name].append(accuracies.max() - found.fitness.max())
    assert np.mean(regrets["default"]) < 0.5 * np.mean(regrets["before"])


def table_201(folder: Path) -> tuple[ArchitectureSpace, np.ndarray]:
    table = pl.read_parquet(folder / "nas" / "nasbench201.parquet")
    space = nas_bench_201()
    choices = table.select([p.name for p in space.positions]).to_numpy().astype(np.int64)
    keys = np.unique(table["unique_string"].to_numpy(), return_inverse=True)[1].astype(np.int64)
    accuracies = table["cifar10_test_200ep"].to_numpy()
    return space.having(choices, keys), (np.bincount(keys, accuracies) / np.bincount(keys))[keys]


def test_the_predictor_beats_random_on_nas_bench_201(real_data: Path) -> None:
    space, accuracies = table_201(real_data)

    def evaluate(rows: np.ndarray) -> np.ndarray:
        return accuracies[rows]

    settings_ = PredictorSettings(failed_below=85.0)
    regrets: dict[str, list[float]] = {"gbdt": [], "random": []}
    for seed in range(3):
        guided = search(GbdtSearch(space, initial=100, predictor=settings_, seed=seed), evaluate, 150, batch=50)
        random = search(RandomSearch(space, seed=seed), evaluate, 150, batch=50)
        assert len(set(space.keys_of(guided.rows).tolist())) == 150
        regrets["gbdt"].append(accuracies.max() - guided.fitness.max())
        regrets["random"].append(accuracies.max() - random.fitness.max())
    assert np.mean(regrets["gbdt"]) < 0.5 * np.mean(regrets["random"])
