"""Rows per second of a subset: materialised, by `select`, and by coalesced runs, beside its parent.

Claim: a materialised subset is read at 95% of the parent's rate or more; by row numbers, runs of neighbours are
read together, at half of it or more (`Dataset.select` of scattered rows is many times slower).

    python benchmarks/subset_iteration.py
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from secateur.selectors.draws.index_runs import index_runs, kept_batches

Batches = Callable[[], Iterable[dict[str, Any]]]


def rows_per_second(batches: Batches) -> float:
    start = time.perf_counter()
    rows = sum(len(batch["id"]) for batch in batches())
    return rows / (time.perf_counter() - start)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--samples", type=int, default=300_000)
    options.add_argument("--keep", type=float, default=0.3)
    options.add_argument("--batch", type=int, default=256)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    datasets.disable_progress_bars()
    numbers = np.random.default_rng(0)
    keep = numbers.random(given.samples) < given.keep
    with tempfile.TemporaryDirectory() as folder:
        made = datasets.Dataset.from_dict(
            {"id": np.arange(given.samples), "vector": numbers.standard_normal((given.samples, 16), dtype=np.float32)}
        )
        made.to_parquet(Path(folder) / "parent.parquet")
        made.select(np.flatnonzero(keep)).to_parquet(Path(folder) / "subset.parquet")
        parent, subset = (
            datasets.Dataset.from_parquet(str(Path(folder) / f"{name}.parquet"), cache_dir=folder).with_format("numpy")
            for name in ("parent", "subset")
        )
        selected = parent.select(np.flatnonzero(keep))
        cases: dict[str, Batches] = {
            "parent": lambda: parent.iter(given.batch),
            "materialised subset": lambda: subset.iter(given.batch),
            "coalesced runs": lambda: kept_batches(parent, keep, given.batch),
            "Dataset.select": lambda: selected.iter(given.batch),
        }
        # Rounds take turns and the fastest counts, so that other work on the machine hits all alike.
        rates: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(given.rounds):
            for name, batches in cases.items():
                rates[name].append(rows_per_second(batches))
    print(f"{given.samples} rows, keep {given.keep} at random ({len(index_runs(keep))} runs), batches of {given.batch}")
    for name, found in rates.items():
        print(f"{name:22}{max(found):12.0f} rows/s{max(found) / max(rates['parent']):8.2f} of the parent")


if __name__ == "__main__":
    main()
