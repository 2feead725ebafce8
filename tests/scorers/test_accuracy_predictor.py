"""The predictor: LightGBM's own predictions and SHAP values, interaction values by brute force, rank metrics."""

from itertools import chain, combinations
from math import comb, factorial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from known_spaces import mobile_net_like, nas_bench_101, nas_bench_201, nas_bench_macro

from secateur.scorers.architectures import choice_contributions
from secateur.scorers.architectures.accuracy_predictor import AccuracyPredictor, PredictorSettings, cross_validate
from secateur.scorers.architectures.boosted_trees import leaves_of
from secateur.scorers.architectures.choice_contributions import interactions, mean_where_used, pair_contributions
from secateur.scorers.architectures.encoding import ArchitectureSpace, Position
from secateur.scorers.architectures.rank_metrics import out_of_fold, rank_metrics


def synthetic(space: ArchitectureSpace, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Choices and accuracies with effects of single choices and of pairs."""
    generator = np.random.default_rng(seed)
    choices = space.choices_of(space.candidates(space.allowed, count, generator)[:count])
    features = space.encode(choices).astype(np.float64)
    single, pairs = generator.normal(size=features.shape[1]), generator.normal(size=(features.shape[1],) * 2)
    return choices, 70 + features @ single + np.einsum("ni,ij,nj->n", features, pairs, features) / 4


@pytest.mark.parametrize("space", [nas_bench_201(), nas_bench_macro(), mobile_net_like(), nas_bench_101()])
def test_tables_predict_what_lightgbm_predicts_to_the_bit(space: ArchitectureSpace) -> None:
    choices, accuracies = synthetic(space, 400)
    fitted = AccuracyPredictor.fit(space, choices, accuracies, seed=1)
    other = space.choices_of(space.candidates(space.allowed, 3_000, np.random.default_rng(5)))
    expected = fitted.booster.predict(space.encode(other).astype(float)) * fitted.deviation + fitted.mean
    assert np.array_equal(fitted.predict(other), expected)
    assert np.array_equal(fitted.predict(other, threads=1), expected)
    assert np.ptp(expected) > 1


def test_the_same_call_gives_the_same_trees_whatever_the_threads() -> None:
    space = nas_bench_macro()
    choices, accuracies = synthetic(space, 200)
    one, two, other = (
        AccuracyPredictor.fit(space, choices, accuracies, PredictorSettings(trees=10), seed=seed, threads=threads)
        for seed, threads in ((3, 1), (3, 2), (4, 1))
    )
    assert np.array_equal(one.predict(choices), two.predict(choices))
    assert not np.array_equal(one.predict(choices), other.predict(choices))


def test_a_small_pool_still_splits() -> None:
    space = nas_bench_macro()
    choices, accuracies = synthetic(space, 40)
    fitted = AccuracyPredictor.fit(space, choices, accuracies)
    assert np.ptp(fitted.predict(choices)) > 1
    stuck = AccuracyPredictor.fit(space, choices, accuracies, PredictorSettings(least_in_leaf=40))
    assert np.ptp(stuck.predict(choices)) == 0


def test_failed_networks_do_not_teach() -> None:
    space = nas_bench_macro()
    choices, accuracies = synthetic(space, 300)
    failed = np.arange(300) % 4 == 0
    settings = PredictorSettings(failed_below=10.0, least_in_leaf=3)
    with_failures = AccuracyPredictor.fit(space, choices, np.where(failed, 1.0, accuracies), settings)
    without = AccuracyPredictor.fit(space, choices[~failed], accuracies[~failed], settings)
    assert np.array_equal(with_failures.predict(choices), without.predict(choices))


def test_the_poorer_half_of_the_pool_counts_as_its_median() -> None:
    space = nas_bench_macro()
    choices, accuracies = synthetic(space, 100)
    accuracies[accuracies < np.quantile(accuracies, 0.3)] -= 1000.0
    clipped = AccuracyPredictor.fit(space, choices, accuracies)
    same = AccuracyPredictor.fit(
        space, choices, np.maximum(accuracies, np.median(accuracies)), PredictorSettings(clipped=False)
    )
    every = space.choices_of(np.arange(len(space)))
    assert np.array_equal(clipped.predict(every), same.predict(every))
    whole = AccuracyPredictor.fit(space, choices, accuracies, PredictorSettings(clipped=False))
    assert whole.predict(every).min() < np.median(accuracies) - 500 < clipped.predict(every).min()


@pytest.mark.parametrize(("pool", "least"), [(20, 3), (31, 3), (50, 5), (99, 9), (100, 10), (5000, 10)])
def test_leaves_grow_with_the_pool(pool: int, least: int) -> None:
    assert PredictorSettings().parameters(pool, 0, 1)["min_data_in_leaf"] == least
    assert PredictorSettings(least_in_leaf=7).parameters(pool, 0, 1)["min_data_in_leaf"] == 7


def test_missing_accuracies_and_pools_of_failures_are_refused() -> None:
    space = nas_bench_macro()
    choices, accuracies = synthetic(space, 20)
    accuracies[[3, 7]] = np.nan
    with pytest.raises(ValueError, match="missing or infinite at rows 3, 7"):
        AccuracyPredictor.fit(space, choices, accuracies)
    with pytest.raises(ValueError, match=r"0 of 2 architectures reach failed_below = 99"):
        AccuracyPredictor.fit(space, choices[:2], accuracies[:2], PredictorSettings(failed_below=99.0))


def predicted_with(node: dict[str, Any], row: np.ndarray, known: frozenset[int]) -> float:
    """TreeSHAP's expectation of a tree where only some features are known: straight down LightGBM's own dump."""
    if "leaf_value" in node:
        return float(node["leaf_value"])
    sides = node["left_child"], node["right_child"]
    if node["split_feature"] in known:
        return predicted_with(sides[int(row[node["split_feature"]] > node["threshold"])], row, known)
    counts = [side.get("internal_count", side.get("leaf_count")) for side in sides]
    values = [predicted_with(side, row, known) for side in sides]
    return float(np.average(values, weights=counts))


def subsets(items: list[int]) -> chain[tuple[int, ...]]:
    return chain.from_iterable(combinations(items, size) for size in range(len(items) + 1))


def brute_interaction(value: Any, players: list[int], one: int, two: int) -> float:
    """Half of the Shapley interaction index by its definition over all coalitions."""
    others = [player for player in players if player not in (one, two)]
    total = 0.0
    for coalition in map(frozenset, subsets(others)):
        weight = factorial(len(coalition)) * factorial(len(players) - len(coalition) - 2) / factorial(len(players) - 1)
        both, first, second = value(coalition | {one, two}), value(coalition | {one}), value(coalition | {two})
        total += weight * (both - first - second + value(coalition))
    return total / 2


def test_interaction_values_are_those_of_the_definition() -> None:
    places = {"a": ("0", "1", "2"), "b": ("0", "1"), "c": ("0", "1")}
    space = ArchitectureSpace.product([Position(name, choices) for name, choices in places.items()])
    choices, accuracies = synthetic(space, 12, seed=2)
    settings = PredictorSettings(trees=5, leaves=8, least_in_leaf=1, feature_fraction=1.0, bagging_fraction=1.0)
    fitted = AccuracyPredictor.fit(space, choices, accuracies, settings)
    features = space.encode(choices)
    dumped = [tree["tree_structure"] for tree in fitted.booster.dump_model()["tree_info"]]
    found = interactions(fitted.trees, features)
    players = list(range(features.shape[1]))
    for row in (0, 5):

        def value(known: frozenset[int], row: int = row) -> float:
            return sum(predicted_with(tree, features[row], known) for tree in dumped)

        expected = np.array(
            [[brute_interaction(value, players, i, j) if i != j else 0.0 for j in players] for i in players]
        )
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(found[row], expected, atol=1e-10)


def test_pairs_are_averaged_by_which_of_the_two_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    space = nas_bench_macro()
    choices, accuracies = synthetic(space, 150)
    fitted = AccuracyPredictor.fit(space, choices, accuracies, PredictorSettings(trees=10))
    features = space.encode(choices)
    monkeypatch.setattr(choice_contributions, "BLOCK", 37)
    values, found = interactions(fitted.trees, features), pair_contributions(fitted.trees, features)
    for pair in (0, 50, 200):
        one, two = found.pairs[pair]
        for kind, (a, b) in enumerate([(1, 1), (1, 0), (0, 1), (0, 0)]):
            chosen = [n for n in range(150) if features[n, one] == a and features[n, two] == b]
            expected = np.mean([values[n, one, two] for n in chosen]) if chosen else 0.0
            np.testing.assert_allclose(found.means[pair, kind], expected, atol=1e-12)


def test_contributions_add_up_and_are_averaged_where_a_choice_is_used() -> None:
    space = nas_bench_macro()
    choices, accuracies = synthetic(space, 120)
    fitted = AccuracyPredictor.fit(space, choices, accuracies)
    features = space.encode(choices)
    values = fitted.contributions(features)
    rest = fitted.predict(choices) - values.sum(axis=1)
    np.testing.assert_allclose(rest, rest[0], atol=1e-9)
    means = fitted.first_order(choices)
    for feature in (0, 7, 23):
        users = [n for n in range(120) if features[n, feature]]
        np.testing.assert_allclose(means[feature], np.mean([values[n, feature] for n in users]), atol=1e-12)
    assert mean_where_used(values, np.zeros_like(features)).tolist() == [0.0] * 24


def test_leaves_share_out_every_architecture_exactly_once() -> None:
    space = nas_bench_201()
    choices, accuracies = synthetic(space, 300)
    fitted = AccuracyPredictor.fit(space, choices, accuracies)
    features = space.encode(choices).astype(bool)
    for leaves in leaves_of(fitted.booster)[:20]:
        reached = np.array([[all(row[f] == on for f, on in leaf.wants.items()) for leaf in leaves] for row in features])
        assert (reached.sum(axis=1) == 1).all()


def test_rank_metrics_are_those_of_their_definitions() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 12, 40).astype(np.float64)
    guess = true + generator.normal(size=40).round()
    signs = [np.sign(true[i] - true[j]) * np.sign(guess[i] - guess[j]) for i in range(40) for j in range(i)]
    pairs = comb(40, 2)
    tied = [sum(v[i] == v[j] for i in range(40) for j in range(i)) for v in (true, guess)]
    tau = sum(signs) / np.sqrt((pairs - tied[0]) * (pairs - tied[1]))
    found = rank_metrics(true, guess)
    assert found.kendall == pytest.approx(tau)
    ranks = [np.array([(v < x).sum() + ((v == x).sum() + 1) / 2 for x in v]) for v in (true, guess)]
    assert found.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])
    best = [set(sorted(range(40), key=lambda row: (-v[row], row))[:4]) for v in (true, guess)]
    assert found.precision_of_top == len(best[0] & best[1]) / 4
    constant = rank_metrics(true, np.ones(40))
    assert constant.kendall is None
    assert constant.spearman is None


def test_folds_never_part_isomorphic_architectures_nor_show_what_they_ask() -> None:
    groups = np.repeat(np.arange(11), 3)
    asked: list[int] = []

    def fit_predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == 33
        asked.extend(test.tolist())
        return test.astype(np.float64)

    assert out_of_fold(fit_predict, groups).tolist() == list(range(33))
    assert sorted(asked) == list(range(33))
    with pytest.raises(ValueError, match="2 different architectures cannot be predicted from each other"):
        out_of_fold(fit_predict, np.array([0, 1, 1]))


def test_cross_validation_finds_order_where_there_is_one_and_none_where_there_is_none() -> None:
    space = nas_bench_macro()
    choices, accuracies = synthetic(space, 250)
    keys, settings = np.arange(250), PredictorSettings(trees=30, learning_rate=0.1)
    found, predicted = cross_validate(space, choices, accuracies, keys, settings)
    assert found.kendall is not None
    assert found.kendall > 0.5
    assert predicted.shape == (250,)
    shuffled, _ = cross_validate(space, choices, np.random.default_rng(0).permutation(accuracies), keys, settings)
    assert shuffled.kendall is not None
    assert abs(shuffled.kendall) < 0.2


@pytest.mark.parametrize(
    ("name", "column", "space", "least"),
    [
        ("nasbench201", "cifar10_test_200ep", nas_bench_201(), 0.4),
        ("nasbench_macro_cifar10", "mean_acc", nas_bench_macro(), 0.8),
    ],
)
def test_real_tables_are_ordered_after_300_evaluations(
    real_data: Path, name: str, column: str, space: ArchitectureSpace, least: float
) -> None:
    table = pl.read_parquet(real_data / "nas" / f"{name}.parquet")
    choices = table.select([p.name for p in space.positions]).to_numpy().astype(np.int64)
    accuracies = table[column].to_numpy()
    order = np.random.default_rng(0).permutation(len(table))
    fitted = AccuracyPredictor.fit(space, choices[order[:300]], accuracies[order[:300]])
    found = rank_metrics(accuracies[order[300:]], fitted.predict(choices[order[300:]]))
    assert found.kendall is not None
    assert found.kendall > least
