"""ProgressDisplay of long work: log lines in a Dagster run, bars in a terminal."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import dagster as dg
import numpy as np
import xxhash

from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial

T = TypeVar("T")


class ProgressDisplay:
    """Says how far a piece of work has come, in the run's log, at most every few seconds."""

    seconds_between = 5.0

    def start(self, context: dg.AssetExecutionContext, title: str) -> Callable[[int, int], None]:
        """A callback told (done, in all)."""
        last = time.monotonic()

        def told(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= self.seconds_between or done == total:
                last = time.monotonic()
                context.log.info(f"{title}: {done} of {total}")

        return told

    def track(self, context: dg.AssetExecutionContext, items: Iterable[T], title: str) -> Iterator[T]:
        """Iterate and tell."""
        listed = list(items)
        told = self.start(context, title)
        for number, item in enumerate(listed):
            yield item
            told(number + 1, len(listed))


class Bars(ProgressDisplay):
    """Bars of a rich progress display that the caller has started."""

    def __init__(self, display: Any) -> None:
        self.display = display

    def start(self, context: dg.AssetExecutionContext, title: str) -> Callable[[int, int], None]:
        task = self.display.add_task(title, total=None)

        def told(done: int, total: int) -> None:
            self.display.update(task, completed=done, total=total)

        return told


ACCELERATOR: Final = "accelerator"
"""Pool of every asset that trains, embeds, or scores through a network: runs that need it wait for one another.

Its limit is `concurrency.pools.default_limit` of the instance's dagster.yaml, or what the UI says under Deployment >
Concurrency. It holds between runs; the steps of one run come one after another in its process.
"""


def version_of(values: np.ndarray) -> dg.DataVersion:
    """Equal where arrays hold the same: what was made again with the same content makes nothing stale."""
    digest = xxhash.xxh3_128(f"{values.dtype} {values.shape}".encode())
    digest.update(np.ascontiguousarray(values).data)
    return dg.DataVersion(digest.hexdigest())


IO_MANAGER = "secateur_io"
"""Resource keys begin with the package's name: a Dagster project of somebody's own has keys of its own."""


class StoreIOManager(dg.IOManager):
    """Hands a store's values to assets; a partitioned asset is a mapping from `Trial` to value."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        path = self.store.save(context.asset_key, obj)
        context.add_output_metadata({"path": dg.MetadataValue.path(path.resolve()), "bytes": path.stat().st_size})

    def load_input(self, context: dg.InputContext) -> Any:
        key = context.asset_key
        if not context.has_asset_partitions:
            return self.store.load(key)
        trials = [Trial.parse(partition) for partition in sorted(context.asset_partition_keys)]
        found = {trial: self.store.load(key, trial) for trial in trials if self.store.find(key, trial)}
        if not found:
            raise FileNotFoundError(f"no partition of {'/'.join(key.path)} is below {self.store.root}")
        return found
