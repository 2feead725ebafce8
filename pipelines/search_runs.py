"""The searches of a YAML file, run and replayed: the guided one, the same without pruning, and the baselines."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.search import Search
from secateur.pipelines.search_spaces import Evaluate
from secateur.scorers.accuracy_predictor import AccuracyPredictor
from secateur.scorers.architecture_encoding import ArchitectureSpace
from secateur.selectors.ask_tell import ArchitectureSearch, History
from secateur.selectors.ask_tell import search as run_search
from secateur.selectors.gbdt_search import GbdtSearch
from secateur.selectors.random_search import RandomSearch
from secateur.selectors.regularised_evolution import RegularisedEvolution

GUIDED = "gbdt_s3"


def searchers(search: Search, space: ArchitectureSpace) -> dict[str, Callable[[int], ArchitectureSearch]]:
    """Every search by name, to be begun with a seed: the guided one first, plain and baselines beside it."""
    given = search.search
    rounds: dict[str, Any] = {
        "predictor": given.predictor,
        **given.model_dump(include={"initial", "per_round", "explore"}),
    }
    return {
        GUIDED: lambda seed: GbdtSearch(space, **rounds, pruning=given.pruning, seed=seed),
        "gbdt": lambda seed: GbdtSearch(space, **rounds, seed=seed),
        "evolution": lambda seed: RegularisedEvolution(space, **search.evolution.model_dump(), seed=seed),
        "random": lambda seed: RandomSearch(space, seed=seed),
    }


def run(search: Search, name: str, begun: ArchitectureSearch, answer: Evaluate) -> History:
    """Spend the budget; evolution learns from each evaluation, the others from a round of them."""
    batch = 1 if name == "evolution" else search.search.per_round
    return run_search(begun, answer, search.search.budget, batch=batch)


def guided_history(evaluations: pl.LazyFrame) -> History:
    """What the guided search of seed 0 evaluated, in order."""
    mine = evaluations.filter((pl.col("search") == GUIDED) & (pl.col("seed") == 0)).sort("evaluation").collect()
    return History(mine["row"].to_numpy().copy(), mine["accuracy"].to_numpy().copy())


def replay(search: Search, space: ArchitectureSpace, history: History) -> GbdtSearch:
    """The guided search as it was at its end: the same seed asks for the same rows."""
    answers = dict(zip(history.rows.tolist(), history.fitness.tolist(), strict=True))
    begun = searchers(search, space)[GUIDED](0)
    assert isinstance(begun, GbdtSearch)
    run(search, GUIDED, begun, lambda rows: np.array([answers[row] for row in rows.tolist()]))
    return begun


def fitted(search: Search, space: ArchitectureSpace, history: History) -> AccuracyPredictor:
    return AccuracyPredictor.fit(
        space, space.choices_of(history.rows), history.fitness, search.search.predictor, seed=0
    )
