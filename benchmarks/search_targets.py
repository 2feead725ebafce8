"""Best target and leaf size of a guided search's predictor, on tables with and without long tails of poor networks.

Claim: with the defaults, accuracies clipped at the pool's median and leaves of a tenth of the pool (3 to 10), a search
is far better than before on tables with failures or a long tail, and equal on the others. Ranks are even better on the
made-up table with both failures and a long tail.

    python benchmarks/search_targets.py --data ../shared/data/nas --seeds 20
    python benchmarks/search_targets.py --graphs NAS-Bench-Graph/nas-bench-graph/light  # its tables, too

Every search sees only its own evaluations of a table. Made-up tables are those of `planted_spaces`; those of
NAS-Bench-Graph (Qin et al. 2022, arXiv 2206.09166) are pickles of numbers, and the loader accepts nothing else.
"""

import argparse
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from architecture_search import TABLES, table_of
from planted_spaces import PLANTED, planted
from scipy.stats import rankdata

from secateur.scorers.architectures.accuracy_predictor import PredictorSettings
from secateur.scorers.architectures.encoding import ArchitectureSpace, Position
from secateur.selectors.searches.contract import ArchitectureSearch, search
from secateur.selectors.searches.gbdt_search import GbdtSearch
from secateur.selectors.searches.random_search import RandomSearch
from secateur.selectors.searches.regularised_evolution import RegularisedEvolution

Table = tuple[str, ArchitectureSpace, np.ndarray]
GRAPHS = ("cora", "arxiv", "physics")
OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
SHARED: dict[str, dict[str, Any]] = {
    "100+50": {},
    "20+10, 20% random": {"initial": 20, "per_round": 10, "explore": 0.2},
}
"""Rounds: the defaults of `GbdtSearch`, and those of a search in YAML."""


class RankedSearch(GbdtSearch):
    """Fits the predictor to the ranks of accuracies."""

    def _next_round(self) -> None:
        accuracies = self.fitness
        self.fitness = rankdata(accuracies).tolist()
        super()._next_round()
        self.fitness = accuracies


class ThirdOfHundredth(PredictorSettings):
    """Leaves of a 300th of the pool, within 3 … 20."""

    def parameters(self, pool: int, seed: int, threads: int) -> dict[str, Any]:
        """The parent's parameters with this leaf size."""
        return super().parameters(pool, seed, threads) | {"min_data_in_leaf": min(20, max(3, pool // 300))}


CANDIDATES: dict[str, tuple[type[GbdtSearch], PredictorSettings]] = {
    "accuracies, leaves of 3": (GbdtSearch, ThirdOfHundredth(clipped=False)),
    "accuracies": (GbdtSearch, PredictorSettings(clipped=False)),
    "ranks": (RankedSearch, PredictorSettings(clipped=False)),
    "clipped, leaves of 3": (GbdtSearch, ThirdOfHundredth()),
    "clipped (default)": (GbdtSearch, PredictorSettings()),
}


class OfNumbers(pickle.Unpickler):
    """Loads only pickles of numbers and numpy scalars."""

    def find_class(self, module: str, name: str) -> Any:
        """Numpy's scalars and their types; raises ValueError for any other class."""
        if module.partition(".")[0] != "numpy" or name not in ("scalar", "dtype"):
            raise ValueError(f"{module}.{name} is no number")
        return super().find_class(module, name)


def graph_table(path: Path) -> tuple[ArchitectureSpace, np.ndarray]:
    """A table of NAS-Bench-Graph: nine ways to link four layers, nine operations in each."""
    with path.open("rb") as file:
        told = OfNumbers(file).load()
    codes = np.array(list(told), dtype=np.int64)
    digits = codes[:, None] // 10 ** np.arange(4, -1, -1) % 10
    places = [Position("links", tuple(map(str, range(9)))), *(Position(f"layer{n}", OPERATIONS) for n in range(4))]
    return ArchitectureSpace.product(places).having(digits), np.array([each["perf"] for each in told.values()])


def tables(data: Path, graphs: Path | None, draws: int) -> Iterator[Table]:
    """Every available table: name, space, accuracies."""
    for name, (file, known, column, key, _) in TABLES.items():
        if (data / file).exists():
            yield name, *table_of(data, file, known, column, key)
    for name in GRAPHS if graphs else ():
        yield f"NAS-Bench-Graph, {name}", *graph_table(graphs / f"{name}.bench")
    for name, how in PLANTED.items():
        for seed in range(draws):
            yield f"made up: {name}", *planted(how, seed)


def judged(
    begin: Callable[[int], ArchitectureSearch], accuracies: np.ndarray, seeds: int, budget: int, batch: int
) -> tuple[float, float]:
    """Mean regret at the budget, and median evaluations to the top 0.1%."""
    best, top = accuracies.max(), np.sort(accuracies)[-max(1, len(accuracies) // 1000)]
    regret, reached = [], []
    for seed in range(seeds):
        history = search(begin(seed), lambda rows: accuracies[rows], budget, batch=batch, enough=best)
        hits = np.flatnonzero(history.fitness >= top)
        regret.append(best - history.fitness.max())
        reached.append(hits[0] + 1 if len(hits) else np.inf)
    return float(np.mean(regret)), float(np.median(reached))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "nas")
    options.add_argument("--graphs", type=Path, help="folder of NAS-Bench-Graph's .bench files")
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--draws", type=int, default=1, help="made-up tables of each kind")
    options.add_argument("--budget", type=int, default=300)
    options.add_argument("--rounds", choices=[*SHARED], default="100+50")
    given = options.parse_args()
    names = ["random", "evolution", *CANDIDATES]
    print(f"{given.rounds}, {given.seeds} seeds: median evaluations to the top 0.1% (mean regret at {given.budget}).")
    print(f"| table | {' | '.join(names)} |\n|---|{'---:|' * len(names)}")
    for name, space, accuracies in tables(given.data, given.graphs, given.draws):
        ways: list[tuple[Callable[[int], ArchitectureSearch], int]] = [
            (lambda seed, space=space: RandomSearch(space, seed=seed), 50),  # type: ignore[misc]
            (lambda seed, space=space: RegularisedEvolution(space, population=30, sample=10, seed=seed), 1),  # type: ignore[misc]
        ]
        for kind, settings in CANDIDATES.values():

            def begin(
                seed: int,
                space: ArchitectureSpace = space,
                kind: type[GbdtSearch] = kind,
                settings: PredictorSettings = settings,
            ) -> ArchitectureSearch:
                return kind(space, predictor=settings, seed=seed, **SHARED[given.rounds])

            ways.append((begin, 50))
        found = [judged(way, accuracies, given.seeds, given.budget, batch) for way, batch in ways]
        cells = [
            f"{reached:.0f} ({regret:.3g})" if np.isfinite(reached) else f"none ({regret:.3g})"
            for regret, reached in found
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
