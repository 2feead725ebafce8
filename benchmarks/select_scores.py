"""Top-k and coverage-centric selection over many scores, relative to one `numpy.partition` and one `numpy.argsort`.

Claims at 10⁸ float32 scores: both take at most twice as long as the partition, are at least five times as fast as the
argsort, and never need more than three times the memory of the scores (including the scores themselves).
Cases alternate and the fastest round counts. Ours use all cores and NumPy's use one: on a shared machine, processor
seconds divided by cores are a lower bound for the time on an idle one. "By processor" is that bound relative to the
partition's time, so for the partition itself it is 0.5 on two cores.

    python benchmarks/select_scores.py --samples 100000000
"""

import argparse
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from secateur.selectors.static.coverage_centric import coverage_centric
from secateur.selectors.static.top import top

SORT = "numpy.argsort"
"""Runs once, because it takes longer than all others."""


class PeakMemory:
    """Peak memory of the process during a block, above its level at the start, in bytes: resident memory, or the result
    of `of`."""

    def __init__(self, of: "Callable[[], int] | None" = None) -> None:
        self.of = of or resident

    def __enter__(self) -> "PeakMemory":
        self.start = self.peak = self.of()
        self.done = threading.Event()
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()
        return self

    def watch(self) -> None:
        while not self.done.wait(0.002):
            self.peak = max(self.peak, self.of())

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.watcher.join()

    @property
    def added(self) -> int:
        return self.peak - self.start


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def measure(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float, int]]:
    """Least seconds, least processor seconds and largest added bytes of each case; cases alternate.

    Memory is measured in a separate last round, because its thread competes with the threads of the case.
    """
    found = dict.fromkeys(cases, (math.inf, math.inf, 0))
    for turn in range(rounds + 1):
        for name, work in cases.items():
            if name == SORT and turn < rounds:
                continue
            with PeakMemory() if turn == rounds else nullcontext() as memory:
                start, processor = time.perf_counter(), time.process_time()
                work()
                seconds, processor = time.perf_counter() - start, time.process_time() - processor
            best, fewest, added = found[name]
            if memory is None or name == SORT:
                best, fewest = min(best, seconds), min(fewest, processor)
            found[name] = (best, fewest, memory.added if memory else added)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--samples", type=int, default=100_000_000)
    options.add_argument("--keep", type=float, default=0.3)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    scores = np.random.default_rng(0).standard_normal(given.samples, dtype=np.float32)
    budget = int(given.keep * given.samples)
    cases: dict[str, Callable[[], object]] = {
        "numpy.partition": lambda: np.partition(scores, budget),
        SORT: lambda: np.argsort(scores),
        "top": lambda: top(scores, budget, seed=0),
        "coverage_centric, cutoff 0": lambda: coverage_centric(scores, scores, budget, cutoff=0.0, seed=0),
        "coverage_centric, cutoff 0.3": lambda: coverage_centric(scores, scores, budget, cutoff=0.3, seed=0),
    }
    found = measure(cases, given.rounds)
    (partition, alone, _), argsort = found["numpy.partition"], found[SORT][0]
    cores = len(os.sched_getaffinity(0))
    print(f"{given.samples:.0e} float32 scores, keep {given.keep}, fastest of {given.rounds}")
    print(
        f"{'':30}{'seconds':>9}{'processor':>11}{'/ partition':>13}{'by processor':>14}"
        f"{'argsort /':>11}{'peak / scores':>15}"
    )
    for name, (seconds, processor, added) in found.items():
        peak = 1 + added / scores.nbytes
        print(
            f"{name:30}{seconds:9.2f}{processor:11.2f}{seconds / partition:13.2f}{processor / cores / alone:14.2f}"
            f"{argsort / seconds:11.1f}{peak:15.2f}"
        )


if __name__ == "__main__":
    main()
