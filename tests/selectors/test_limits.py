"""A selector accepts the documented limit of each setting and rejects the value beyond it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from secateur.scorers.architectures.encoding import ArchitectureSpace, Position
from secateur.selectors.class_policy import with_class_policy
from secateur.selectors.contract import resolve_keep, selectors
from secateur.selectors.draws.embedded import spherical_clusters
from secateur.selectors.draws.iterative_stratification import draw_by_labels
from secateur.selectors.draws.keyed_permutation import KeyedPermutation
from secateur.selectors.draws.quotas import apportion
from secateur.selectors.masks.delta_masks import cut_of, draw_count, draw_each, keep_by_row
from secateur.selectors.masks.global_mask import global_mask
from secateur.selectors.masks.largest_of_each import largest_of_each
from secateur.selectors.masks.layer_mask import layer_masks
from secateur.selectors.masks.layer_ratios import checked, erk_plus, uniform_plus
from secateur.selectors.masks.random_mask import random_masks
from secateur.selectors.samplers.contract import Shard
from secateur.selectors.samplers.rs2 import Rs2
from secateur.selectors.searches.gbdt_search import GbdtSearch
from secateur.selectors.searches.regularised_evolution import RegularisedEvolution
from secateur.selectors.searches.token_search import ThresholdAccepting, TokenEvolution
from secateur.selectors.static.coverage_centric import left_by_cutoff
from secateur.selectors.static.el2n_offset import left_by_offset
from secateur.selectors.static.quantile_window import ranks_between
from secateur.selectors.static.stochastic_facility_location import candidates_per_pick

BELOW_0, BELOW_1, ABOVE_1 = float(np.nextafter(0, -1)), float(np.nextafter(1, 0)), float(np.nextafter(1, 2))
TINY = float(np.nextafter(0, 1))
ROW = np.arange(6, dtype=np.float32)
LAYERS = {"a": ROW, "b": ROW[:4]}
SHAPES = {"a": (3, 2), "b": (2, 2), "c": (2, 5)}
SPACE = ArchitectureSpace.product([Position(name, ("x", "y", "z")) for name in "abc"])
STATIC = selectors()


def chosen(name: str, **values: Any) -> Any:
    """A selector of six samples called directly, with the signals that it reads."""
    signals = {"scores": ROW, "aum": ROW, "embeddings": np.eye(6, dtype=np.float32), "mean_probability": ROW / 5}
    read = {one: values.pop(one, signals.get(one, 3)) for one in STATIC[name].reads}
    return STATIC[name](**read, **values, seed=0)


Call = Callable[[Any], Any]
LIMITS: list[tuple[str, Call, list[Any], list[Any]]] = [
    ("count", lambda x: resolve_keep(x, 10), [1, 10], [0, 11]),
    ("share", lambda x: resolve_keep(x, 10), [0.05, 1.0], [0.0499, 0.0, ABOVE_1]),
    ("budget", lambda x: chosen("top", budget=x, end="high"), [1, 6], [0, 7]),
    ("offset", lambda x: left_by_offset(10, offset=x), [0.0, BELOW_1], [BELOW_0, 1.0]),
    ("cutoff", lambda x: left_by_cutoff(10, cutoff=x), [0.0, BELOW_1], [BELOW_0, 1.0]),
    ("low", lambda x: ranks_between(10, low=x, high=1.0), [0.0, BELOW_1], [BELOW_0, 1.0]),
    ("high", lambda x: ranks_between(10, low=0.5, high=x), [0.6, 1.0], [0.5, ABOVE_1]),
    ("epsilon", lambda x: candidates_per_pick(10, 5, x), [TINY, 0.5], [0.0, float(np.nextafter(0.5, 1))]),
    ("neighbours", lambda x: chosen("d2_pruning", cutoff=0.0, neighbours=x), [1], [0]),
    ("gamma", lambda x: chosen("d2_pruning", cutoff=0.0, gamma=x), [0.0], [BELOW_0]),
    ("bins", lambda x: chosen("coverage_centric", cutoff=0.0, bins=x), [1], [0]),
    ("probability", lambda x: chosen("beta_sampling", exponent=5.0, mean_probability=ROW * 0 + np.float32(x)),
     [0.0, 1.0], [-1e-6, 1.000001]),
    ("clusters of", lambda x: chosen("semantic_deduplication", samples_per_cluster=x), [1], [0]),
    ("clusters", lambda x: spherical_clusters(np.eye(6, dtype=np.float32), x, seed=0), [1, 6], [0]),
    ("labels", lambda x: draw_by_labels(np.eye(4, dtype=np.bool_), x, seed=0), [0, 4], [-1, 5]),
    ("quotas", lambda x: apportion(np.array([1, 1]), np.array([4, 3]), x, floor=2), [4, 7], [3, 8]),
    ("floor", lambda x: with_class_policy(STATIC["top"], "none", floor=x), [0], [-1]),
    ("permutation", lambda x: KeyedPermutation(x, 0), [0, 1, 10**12], [-1, 2**62 + 1]),
    ("place", lambda x: KeyedPermutation(10, 0)(np.array([x])), [0, 9], [-1, 10]),
    ("seed", lambda x: Rs2(4, keep=0.5, seed=x), [0, 2**63 - 1], [-1, 2**63]),
    ("samples", lambda x: Rs2(x, keep=1.0), [1], [0]),
    ("epoch", lambda x: Rs2(4, keep=0.5).set_epoch(x), [0], [-1]),
    ("rank", lambda x: Shard(x, 2), [0, 1], [-1, 2]),
    ("each", lambda x: draw_each(0, 4, x, 0), [TINY, 1.0], [0.0, ABOVE_1]),
    ("entries", lambda x: draw_count(4, x, 0), [0, 4], [-1, 5]),
    ("by row", lambda x: keep_by_row(ROW.reshape(2, 3), x, 0, 0), [1, 3], [0, 4]),
    ("cut", lambda x: cut_of(lambda: [(ROW, 0, 0)], x), [1, 6], [0, 7]),
    ("of each", lambda x: largest_of_each(ROW.reshape(2, 3), x, seed=0), [0, 3], [-1, 4]),
    ("drawn", lambda x: random_masks({"a": (3, 2)}, {"a": x}, seed=0), [0, 6], [-1, 7]),
    ("highest", lambda x: layer_masks({"a": ROW}, {"a": x}, seed=0), [0, 6], [-1, 7]),
    ("least", lambda x: global_mask(LAYERS, x, seed=0, least=3), [6], [5]),
    ("density", lambda x: checked(SHAPES, x), [TINY, 1.0], [0.0, ABOVE_1]),
    ("uniform+", lambda x: uniform_plus(SHAPES, x), [0.6], [0.59]),  # 6 of the first and 0.6 · 10 of the last of 20
    ("erk+", lambda x: erk_plus(SHAPES, x), [0.51], [0.5]),  # the last has 10 of 20
    ("layers", lambda x: uniform_plus(dict([*SHAPES.items()][:x]), 0.9), [3], [2]),
    ("two layers", lambda x: erk_plus(dict([*SHAPES.items()][:x]), 0.9), [2], [1]),
    ("initial", lambda x: GbdtSearch(SPACE, initial=x), [2], [1]),
    ("per round", lambda x: GbdtSearch(SPACE, per_round=x), [1], [0]),
    ("candidates", lambda x: GbdtSearch(SPACE, candidates=x), [1], [0]),
    ("explore", lambda x: GbdtSearch(SPACE, explore=x), [0.0, BELOW_1], [BELOW_0, 1.0]),
    ("sample", lambda x: RegularisedEvolution(SPACE, population=5, sample=x), [1, 5], [0, 6]),
    ("asked", lambda x: RegularisedEvolution(SPACE).ask(x), [1], [0]),
    ("tokens", lambda x: TokenEvolution(np.array([True, False, False]), longest=x), [2, 3], [1, 4]),
    ("one token", lambda x: TokenEvolution(np.ones(3, np.bool_), longest=x), [1], [0]),
    ("population", lambda x: TokenEvolution(np.ones(3, np.bool_), population=x), [1], [0]),
    ("offspring", lambda x: TokenEvolution(np.ones(3, np.bool_), offspring=x), [1], [0]),
    ("prompts", lambda x: TokenEvolution(np.ones(3, np.bool_)).ask(x), [1], [0]),
    ("threshold", lambda x: ThresholdAccepting(np.ones(3, np.bool_), threshold=x), [TINY, 1.0], [0.0, ABOVE_1]),
    ("fitness", lambda x: ThresholdAccepting(np.ones(3, np.bool_)).learn(np.ones(3, np.bool_), x), [0.0], [BELOW_0]),
]  # fmt: skip


@pytest.mark.parametrize(("call", "taken", "refused"), [row[1:] for row in LIMITS], ids=[row[0] for row in LIMITS])
def test_a_limit_is_where_it_is_said_to_be(call: Call, taken: list[Any], refused: list[Any]) -> None:
    for value in taken:
        call(value)
    for value in refused:
        with pytest.raises((ValueError, IndexError)):
            call(value)
