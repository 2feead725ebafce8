"""GBDT-NAS and its pruning beside random search and regularised evolution, on tables of every architecture.

Claims: less regret than random search after 150 and 300 evaluations, and fewer evaluations to the top 0.1%; at
least 10^6 predictions per second on 2 cores.

    python benchmarks/architecture_search.py --data ../shared/data/nas --seeds 20

Test accuracies serve as the signal, because the tables hold no validation accuracies of full trainings; all searches
see the same. Isomorphic cells count once, with the mean of their accuracies. The predictor is the paper's, with leaves
of at least 3 samples and unclipped accuracies. `search_targets.py` compares it with our defaults.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from known_spaces import nas_bench_201, nas_bench_macro

from secateur.scorers.architectures.accuracy_predictor import AccuracyPredictor, PredictorSettings
from secateur.scorers.architectures.encoding import ArchitectureSpace
from secateur.scorers.architectures.rank_metrics import rank_metrics
from secateur.selectors.searches.choice_pruning import PruningSettings
from secateur.selectors.searches.contract import ArchitectureSearch, search
from secateur.selectors.searches.gbdt_search import GbdtSearch
from secateur.selectors.searches.random_search import RandomSearch
from secateur.selectors.searches.regularised_evolution import RegularisedEvolution

TABLES = {
    "NAS-Bench-201, CIFAR-10": ("nasbench201.parquet", nas_bench_201, "cifar10_test_200ep", "unique_string", 85.0),
    "NAS-Bench-201, CIFAR-100": ("nasbench201.parquet", nas_bench_201, "cifar100_test_200ep", "unique_string", 55.0),
    "NAS-Bench-201, ImageNet16-120": (
        "nasbench201.parquet",
        nas_bench_201,
        "imagenet16_test_200ep",
        "unique_string",
        25.0,
    ),
    "NAS-Bench-Macro, CIFAR-10": ("nasbench_macro_cifar10.parquet", nas_bench_macro, "mean_acc", None, None),
}
PAPERS = PredictorSettings(clipped=False, least_in_leaf=3)
LONGEST = 2_000
"""Evaluations of the baselines, enough to see when they reach the top."""
GUIDED = 300


def table_of(
    folder: Path, file: str, known: Callable[[], ArchitectureSpace], column: str, key: str | None
) -> tuple[ArchitectureSpace, np.ndarray]:
    """The space of a table, and the accuracy of each row, averaged over isomorphic rows."""
    table, space = pl.read_parquet(folder / file), known()
    choices = table.select([position.name for position in space.positions]).to_numpy().astype(np.int64)
    accuracies = table[column].to_numpy()
    if key is None:
        return space.having(choices), accuracies
    keys = np.unique(table[key].to_numpy(), return_inverse=True)[1].astype(np.int64)
    return space.having(choices, keys), (np.bincount(keys, accuracies) / np.bincount(keys))[keys]


def searches(space: ArchitectureSpace, failed_below: float | None) -> dict[str, Callable[[int], ArchitectureSearch]]:
    """Constructors of all searches by name, as functions of a seed."""
    plain, kept_out = PAPERS, PAPERS.model_copy(update={"failed_below": failed_below})
    small = {"initial": 20, "per_round": 10}
    found: dict[str, Callable[[int], ArchitectureSearch]] = {
        "random": lambda seed: RandomSearch(space, seed=seed),
        "evolution 50/10": lambda seed: RegularisedEvolution(space, population=50, sample=10, seed=seed),
        "evolution 30/10": lambda seed: RegularisedEvolution(space, population=30, sample=10, seed=seed),
        "GBDT 20+10": lambda seed: GbdtSearch(space, **small, predictor=kept_out, seed=seed),
        "GBDT-S3 20+10": lambda seed: GbdtSearch(
            space, **small, predictor=kept_out, pruning=PruningSettings(per_round=1), seed=seed
        ),
        "GBDT 20+10, 20% random": lambda seed: GbdtSearch(space, **small, predictor=kept_out, explore=0.2, seed=seed),
        "GBDT-S3 20+10, 20% random": lambda seed: GbdtSearch(
            space, **small, predictor=kept_out, pruning=PruningSettings(per_round=1), explore=0.2, seed=seed
        ),
        "GBDT 100+50": lambda seed: GbdtSearch(space, predictor=kept_out, seed=seed),
        "GBDT-S3 100+50": lambda seed: GbdtSearch(space, predictor=kept_out, pruning=PruningSettings(), seed=seed),
        "GBDT-S3 100+50, 6 a round": lambda seed: GbdtSearch(
            space, predictor=kept_out, pruning=PruningSettings(per_round=6), seed=seed
        ),
    }
    if failed_below is not None:
        found |= {
            "GBDT 100+50, failures in": lambda seed: GbdtSearch(space, predictor=plain, seed=seed),
            "GBDT-S3 100+50, failures in": lambda seed: GbdtSearch(
                space, predictor=plain, pruning=PruningSettings(), seed=seed
            ),
        }
    return found


def compare(space: ArchitectureSpace, accuracies: np.ndarray, failed_below: float | None, seeds: int) -> None:
    """One line per search: mean regret, median evaluations to the top 0.1%, and both as ratios to random search."""
    best, top = accuracies.max(), np.sort(accuracies)[-max(1, len(accuracies) // 1000)]
    keys = space.keys_of(np.arange(len(space)))
    there = f"{len(space)} rows, {len(np.unique(keys))} networks, {int((accuracies >= top).sum())} rows in the top 0.1%"
    print(f"{there} (accuracy >= {top:.2f}, best {best:.2f}), {seeds} seeds")
    print("| search | regret@150 | of random | regret@300 | of random | to top 0.1% | of random | reached |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    first: tuple[float, float, float] | None = None
    for name, begin in searches(space, failed_below).items():
        guided, early, late, reached = name.startswith("GBDT"), [], [], []
        for seed in range(seeds):
            history = search(
                begin(seed),
                lambda rows: accuracies[rows],
                GUIDED if guided else LONGEST,
                batch=1 if name.startswith("evolution") else 50,
                enough=best,  # later evaluations change no number
            )
            found = np.maximum.accumulate(history.fitness)
            assert len(set(space.keys_of(history.rows).tolist())) == len(history.rows), "a network counted twice"
            early.append(best - found[min(149, len(found) - 1)])
            late.append(best - found[min(299, len(found) - 1)])
            hits = np.flatnonzero(found >= top)
            reached.append(hits[0] + 1 if len(hits) else np.inf)
        numbers = float(np.mean(early)), float(np.mean(late)), float(np.median(reached))
        first = first or numbers
        cells = [f"{n:.3f} | {n / f:.2f}" for n, f in zip(numbers[:2], first[:2], strict=True)]
        last = f"{numbers[2]:.0f} | {numbers[2] / first[2]:.2f} | {np.isfinite(reached).mean():.0%}"
        print(f"| {name} | {cells[0]} | {cells[1]} | {last} |", flush=True)


def order(space: ArchitectureSpace, accuracies: np.ndarray, failed_below: float | None, seeds: int) -> None:
    """Kendall's tau on architectures outside of the training set, means over seeds."""
    for name, settings in {
        "all": PAPERS,
        "without failures": PAPERS.model_copy(update={"failed_below": failed_below}),
    }.items():
        taus = []
        for count in (100, 300, 1_000):
            found = []
            for seed in range(seeds):
                rows = RandomSearch(space, seed=seed).ask(count)
                fitted = AccuracyPredictor.fit(space, space.choices_of(rows), accuracies[rows], settings, seed=seed)
                known = np.isin(space.keys_of(np.arange(len(space))), space.keys_of(rows))
                others = np.flatnonzero(~known).astype(np.int64)
                found.append(rank_metrics(accuracies[others], fitted.predict(space.choices_of(others))).kendall or 0.0)
            taus.append(f"{count}: {np.mean(found):.3f}")
        print(f"Kendall's tau of unseen networks, trained on {name}: {', '.join(taus)} ({seeds} seeds)", flush=True)
        if failed_below is None:
            break


def speed(space: ArchitectureSpace, accuracies: np.ndarray, count: int, threads: int) -> None:
    """Predictions per second, best of three passes, beside LightGBM's own."""
    rows = RandomSearch(space, seed=0).ask(300)
    fitted = AccuracyPredictor.fit(space, space.choices_of(rows), accuracies[rows])
    choices = space.choices_of(np.random.default_rng(0).integers(0, len(space), count))
    fitted.predict(choices[:1000])
    seconds = np.inf
    for _ in range(3):
        start = time.perf_counter()
        ours = fitted.predict(choices, threads=threads)
        seconds = min(seconds, time.perf_counter() - start)
    part = choices[: count // 20]
    start = time.perf_counter()
    own = fitted.booster.predict(space.encode(part).astype(np.float64), num_threads=threads)
    own_rate = len(part) / (time.perf_counter() - start)
    assert np.array_equal(own * fitted.deviation + fitted.mean, ours[: len(part)])
    rate = count / seconds
    print(f"{rate / 1e6:.2f} million predictions per second on {threads} threads (claim: at least 1), to the bit those")
    print(f"of LightGBM, ratio to its own predict with encoding {rate / own_rate:.1f}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "nas")
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--order-seeds", type=int, default=5)
    options.add_argument("--predictions", type=int, default=1_000_000)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--only", choices=[*TABLES], help="one table")
    given = options.parse_args()
    for name, (file, known, column, key, failed_below) in TABLES.items():
        if given.only not in (None, name):
            continue
        if not (given.data / file).exists():
            print(f"{name}: no {file} in {given.data}, left out (name the folder by --data)")
            continue
        print(f"\n## {name}\n")
        space, accuracies = table_of(given.data, file, known, column, key)
        order(space, accuracies, failed_below, given.order_seeds)
        speed(space, accuracies, given.predictions, given.threads)
        compare(space, accuracies, failed_below, given.seeds)


if __name__ == "__main__":
    main()
