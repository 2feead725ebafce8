"""k-center greedy compared with as many products of the embeddings with one vector.

Claim: picking 1,000 of 50,000 × 128 costs at most twice as much as 1,000 matrix-vector products of that size.

    python benchmarks/k_center.py
"""  # noqa: RUF002

import argparse
import statistics
import time

import numpy as np

from secateur.selectors.static.k_center import k_center


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--samples", type=int, default=50_000)
    options.add_argument("--dimensions", type=int, default=128)
    options.add_argument("--budget", type=int, default=1_000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    numbers = np.random.default_rng(0)
    embeddings = numbers.standard_normal((given.samples, given.dimensions), dtype=np.float32)
    k_center(embeddings, 2, seed=0)
    products, ours = [], []
    for _ in range(given.rounds):
        start = time.perf_counter()
        for row in range(given.budget):
            embeddings @ embeddings[row]
        products.append(time.perf_counter() - start)
        start = time.perf_counter()
        k_center(embeddings, given.budget, seed=0)
        ours.append(time.perf_counter() - start)
    print(f"{given.budget} of {given.samples} x {given.dimensions} float32, median of {given.rounds}")
    print(f"products {statistics.median(products):.2f} s, k-center {statistics.median(ours):.2f} s")
    print(f"ratio {statistics.median(ours) / statistics.median(products):.2f} (claim: at most 2)")


if __name__ == "__main__":
    main()
