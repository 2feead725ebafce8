"""Exact neighbour graph: its share of this machine's float32 matrix-product rate, and its ratio to scikit-learn.

    python benchmarks/knn.py                                      # about a minute
    python benchmarks/knn.py --samples 50000 --rivals 50000       # the sizes of the claims
    python benchmarks/knn.py --grid 5000 20000 50000              # the ratio to faiss.knn alone, by size and dimension

Claims: at least 80% of the measured sgemm rate for d >= 512, and at least 5 times scikit-learn's brute force at
50,000 x 128. Each pair is multiplied once and counted twice, as n² pairs of 2·d operations, so a share may exceed 100%.
The whole call is timed: checks, search, true distances, ties and the audit of its recall.
"""

import argparse
import time
from collections.abc import Callable
from itertools import product

import faiss
import numpy as np
from sklearn.neighbors import NearestNeighbors

from secateur.scorers.geometry.exact_search import self_search
from secateur.scorers.geometry.neighbours import nearest_neighbours
from secateur.scorers.geometry.vectors import Vectors


def sgemm(dimensions: int) -> tuple[float, float]:
    """FLOP per second and per core-second of a product of `[4096, d]` by `[d, 4096]`, the best of five."""
    left = np.random.default_rng(0).standard_normal((4096, dimensions), dtype=np.float32)
    out = np.empty((4096, 4096), np.float32)
    taken = [timed(lambda: np.matmul(left, left.T, out=out)) for _ in range(5)]
    wall, core = (min(column) for column in zip(*taken, strict=True))
    return 2 * 4096**2 * dimensions / wall, 2 * 4096**2 * dimensions / core


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds of one call, and its core-seconds, which other load on the machine does not lengthen."""
    start, core = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - core


def share_of_sgemm(samples: int, dimensions: int, neighbours: int, repeats: int) -> None:
    """Print one line; the product is timed before and after each search, and its best time counts."""
    embeddings = np.random.default_rng(0).standard_normal((samples, dimensions), dtype=np.float32)
    peaks, taken = [sgemm(dimensions)], []
    for _ in range(repeats):
        taken.append(timed(lambda: nearest_neighbours(embeddings, neighbours, engine="exact")))
        peaks.append(sgemm(dimensions))
    peak, core_peak = (max(column) for column in zip(*peaks, strict=True))
    seconds, core_seconds = (min(column) for column in zip(*taken, strict=True))
    operations = 2 * samples**2 * dimensions
    rate = operations / seconds
    print(
        f"{samples:,} x {dimensions}, k={neighbours}: {seconds:.2f} s, "
        f"{rate / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s = {rate / peak:.0%} of sgemm (target >= 80%); "
        f"per core-second {operations / core_seconds / core_peak:.0%}"
    )


def ratio_to_rivals(samples: int, dimensions: int, neighbours: int) -> None:
    """Print seconds and ratios against scikit-learn's and FAISS's brute force on the same rows."""
    embeddings = np.random.default_rng(0).standard_normal((samples, dimensions), dtype=np.float32)
    ours, _ = timed(lambda: nearest_neighbours(embeddings, neighbours, engine="exact"))
    theirs = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(embeddings)
    sklearn_seconds, _ = timed(lambda: theirs.kneighbors())
    faiss_seconds, _ = timed(lambda: faiss.knn(embeddings, embeddings, neighbours + 1))
    ours = min(ours, timed(lambda: nearest_neighbours(embeddings, neighbours, engine="exact"))[0])
    print(
        f"{samples:,} x {dimensions}, k={neighbours}: ours {ours:.2f} s, scikit-learn brute {sklearn_seconds:.2f} s = "
        f"{sklearn_seconds / ours:.1f} times ours (target >= 5), faiss.knn {faiss_seconds:.2f} s = "
        f"{faiss_seconds / ours:.1f} times ours"
    )


def ratio_to_faiss(samples: int, dimensions: int, neighbours: int, repeats: int) -> None:
    """Print the seconds of the bare search and of faiss.knn, the least of `repeats` alternating runs, and the ratio.

    Core-seconds are printed too: other load on a shared machine lengthens them little.
    """
    embeddings = np.random.default_rng(0).standard_normal((samples, dimensions), dtype=np.float32)
    vectors = Vectors(embeddings, "euclidean")
    rows = vectors.prepared(slice(None))
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(timed(lambda: self_search(vectors, neighbours)))
        theirs.append(timed(lambda: faiss.knn(rows, rows, neighbours + 1)))
    wall, core = (min(column) for column in zip(*ours, strict=True))
    faiss_wall, faiss_core = (min(column) for column in zip(*theirs, strict=True))
    print(
        f"{samples:,} x {dimensions}, k={neighbours}: self_search {wall:.2f} s, faiss.knn {faiss_wall:.2f} s = "
        f"{faiss_wall / wall:.2f} times ours; core-seconds {core:.2f} and {faiss_core:.2f} = {faiss_core / core:.2f}",
        flush=True,
    )


def main() -> None:
    """Read the sizes and print one line per claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000, help="rows for the share of sgemm")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[512, 768])
    parser.add_argument("--rivals", type=int, default=20_000, help="rows of 128 dimensions for the ratios")
    parser.add_argument("--grid", type=int, nargs="+", help="rows; measures the ratio to faiss.knn alone")
    parser.add_argument("--grid-dimensions", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--neighbours", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=2)
    chosen = parser.parse_args()
    print(f"{faiss.omp_get_max_threads()} threads, faiss {faiss.__version__}, numpy {np.__version__}")
    if chosen.grid:
        for samples, dimensions in product(chosen.grid, chosen.grid_dimensions):
            ratio_to_faiss(samples, dimensions, chosen.neighbours, chosen.repeats)
        return
    for dimensions in chosen.dimensions:
        share_of_sgemm(chosen.samples, dimensions, chosen.neighbours, chosen.repeats)
    ratio_to_rivals(chosen.rivals, 128, chosen.neighbours)


if __name__ == "__main__":
    main()
