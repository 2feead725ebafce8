"""Estimated cost of a nearest-neighbour search before it starts, and an error where it does not fit into memory.

Time follows from the rate at which this machine multiplies float32 matrices, measured once per process; memory follows
from the sizes. Free memory is that of the operating system, or of the limit of a container.
"""

import timeit
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from secateur.scorers.memory import DoesNotFit, available_memory, gigabytes

Engine = Literal["exact", "ivf"]

WORKSPACE = 1 << 30
"""Bytes of prepared float32 rows that a search holds at once, whatever the number of samples."""

SHARE_OF_SGEMM = {"exact": 1.0, "ivf": 0.25}
"""Scalar products per second of each engine as a share of the matrix product's: low, so that estimates err upwards."""


@dataclass(frozen=True)
class SearchCost:
    """Estimated seconds and peak bytes (beyond the embeddings) of a search, and the sizes that they follow from."""

    engine: Engine
    samples: int
    dimensions: int
    neighbours: int
    seconds: float
    memory: int
    rate: float
    """Floating-point operations per second of a float32 matrix product on this machine."""

    def __str__(self) -> str:
        sizes = f"{self.samples:,} samples of {self.dimensions} dimensions, {self.neighbours} neighbours"
        return (
            f"{self.engine} search over {sizes}: about {self.seconds:,.1f} s at {self.rate / 1e9:,.0f} GFLOP/s "
            f"and {gigabytes(self.memory)} beside the embeddings"
        )


def estimate(
    samples: int,
    dimensions: int,
    neighbours: int,
    *,
    engine: Engine,
    rate: float | None = None,
    pairs: float | None = None,
) -> SearchCost:
    """Cost of finding the `neighbours` nearest of every sample; `rate` in FLOP/s is measured where it is left out.

    `pairs` is the number of pairs to compare where that is not all of them (a search within classes). Exact search
    multiplies every pair once (2·d operations per pair, half the pairs by symmetry, counted in full). Inverted lists
    visit a sixteenth of the samples per query, in lists whose centres cost some 12 k-means rounds.
    """
    rate = sgemm_rate() if rate is None else rate
    pairs = float(samples) * samples if pairs is None else pairs
    if engine == "ivf":
        pairs = pairs / 16 + 12.0 * samples * lists_of(samples)
    operations = 2.0 * pairs * dimensions
    candidates = min(candidate_count(neighbours), max(samples - 1, 1))
    row = 4 * (dimensions + 2)
    held = samples * row + 8 * samples if engine == "ivf" else min(2 * WORKSPACE, 2 * samples * row)
    # Two generations of a block of refined vectors and their float64 differences, and the tile of similarities.
    scratch = 256 << 20
    graph = samples * (candidates * 12 + neighbours * 12)
    return SearchCost(
        engine=engine,
        samples=samples,
        dimensions=dimensions,
        neighbours=neighbours,
        seconds=operations / (rate * SHARE_OF_SGEMM[engine]),
        memory=int(held + graph + scratch),
        rate=rate,
    )


def candidate_count(neighbours: int) -> int:
    """Number of candidates of a float32 search such that rounding cannot cost one of the `neighbours` nearest."""
    return neighbours + 4 + neighbours // 8


def lists_of(samples: int) -> int:
    """Number of inverted lists for so many samples: 4·√n (FAISS guidelines), with at least 39 training points each."""
    return max(1, min(int(4 * samples**0.5), samples // 39))


def refuse_beyond(cost: SearchCost, available: int | None = None) -> None:
    """Raise DoesNotFit, with the sizes, where `cost` needs more than `available` bytes (read from the OS if None)."""
    free = available_memory() if available is None else available
    if cost.memory > free:
        raise DoesNotFit(
            f"{cost}, but only {gigabytes(free)} is available; ask for fewer neighbours, fewer samples, "
            "fewer dimensions, or a machine with more memory"
        )


@cache
def sgemm_rate() -> float:
    """FLOP/s of a float32 matrix product of `[1024, 512]` by `[512, 4096]`, the best of a few; takes about 0.2 s."""
    left, right = np.ones((1024, 512), np.float32), np.ones((4096, 512), np.float32)
    out = np.empty((1024, 4096), np.float32)
    seconds = min(timeit.repeat(lambda: np.matmul(left, right.T, out=out), number=1, repeat=5))
    return 2.0 * 1024 * 4096 * 512 / seconds
