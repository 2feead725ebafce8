"""An audit's count of wrong numbers, against the planted number.

    python benchmarks/wrong_numbers.py [--rows 1000] [--seeds 2] [--noise gaussian heteroscedastic]
                                       [--planted none swapped far] [--shares 0.01 0.05 0.2]

Four of five columns make a curved sum; the noise is a seventh of its deviation, or its size differs by column. Planted
numbers are another row's (swapped), or off by 16 deviations (far). Predictions are those of `cross_fitted`.
"""

import argparse
import time

import numpy as np

from secateur.trainers.judging.cross_fitting import cross_fitted
from secateur.trainers.judging.wrong_labels import wrong_numbers


def made(rows: int, noise: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Columns, numbers, and the generator for the planted errors."""
    random = np.random.default_rng((seed, 1))
    columns = random.normal(size=(rows, 5))
    mean = 3 * columns[:, 0] + 2 * np.sin(2 * columns[:, 1]) + columns[:, 2] * columns[:, 3]
    scattered = random.normal(size=rows)
    differing = 0.15 + 0.5 * abs(columns[:, 4]) + 0.2 * abs(columns[:, 0])
    return columns, mean + scattered * (differing if noise == "heteroscedastic" else 0.5), random


def planted(numbers: np.ndarray, share: float, how: str, random: np.random.Generator) -> np.ndarray:
    """Numbers with this share of wrong ones."""
    wrong = random.permutation(len(numbers))[: round(share * len(numbers))]
    given = numbers.copy()
    if how == "swapped":
        given[wrong] = random.permutation(numbers)[: len(wrong)]
    elif how == "far":
        given[wrong] += 16 * numbers.std()
    return given


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--noise", nargs="+", default=["gaussian", "heteroscedastic"])
    parser.add_argument("--planted", nargs="+", default=["none", "swapped", "far"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.01, 0.05, 0.2])
    asked = parser.parse_args()
    print("| noise | planted | counted (95%) | explains | CPU s |\n| --- | --- | --- | ---: | ---: |")
    for noise in asked.noise:
        for how in asked.planted:
            for share in asked.shares if how != "none" else [0.0]:
                for seed in range(asked.seeds):
                    columns, numbers, random = made(asked.rows, noise, seed)
                    given = planted(numbers, share, how, random)[:, None]
                    begun = time.process_time()
                    told = cross_fitted(columns.astype(np.float32), given, kind="features", task="numbers")
                    found = wrong_numbers(told, given)
                    seconds = time.process_time() - begun
                    count = f"{found.count:.0f} ({found.low:.0f} to {found.high:.0f})"
                    print(
                        f"| {noise} | {round(share * asked.rows)} {how} | {count} | {found.accuracy:.0%} "
                        f"| {seconds:.1f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
