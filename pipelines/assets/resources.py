"""Progress of long work: log lines in a Dagster run, bars in a terminal, lines in the log of a shell."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, TypeVar

import dagster as dg
import numpy as np
import xxhash

from secateur.pipelines.assets.sentences import in_a_sentence
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial

T = TypeVar("T")


class ProgressDisplay:
    """Reports the progress of work in the run's log, at most every few seconds."""

    seconds_between = 5.0

    def stage(self, words: str) -> None:
        """Report the current stage; in a run's log Dagster already does."""

    def start(self, context: dg.AssetExecutionContext, title: str, *, part: bool = False) -> Callable[[int, int], None]:
        """A callback for (done, total); `part` marks work within other work that has its own bar."""
        last = time.monotonic()

        def told(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= self.seconds_between or done == total:
                last = time.monotonic()
                context.log.info(f"{title}: {done} of {total}")

        return told

    def track(self, context: dg.AssetExecutionContext, items: Iterable[T], title: str) -> Iterator[T]:
        """Iterate over the items and report progress."""
        listed = list(items)
        told = self.start(context, title)
        for number, item in enumerate(listed):
            yield item
            told(number + 1, len(listed))


class Bars(ProgressDisplay):
    """Bars of a rich progress display that the caller has started, one for each title, and a line `now` for the stage.

    Bars of parts disappear when the part is done: a pass over many trials leaves one.
    """

    def __init__(self, display: Any, now: Any) -> None:
        self.display, self.now, self.tasks = display, now, dict[str, Any]()

    def stage(self, words: str) -> None:
        self.display.update(self.now, description=words)

    def start(self, context: dg.AssetExecutionContext, title: str, *, part: bool = False) -> Callable[[int, int], None]:
        if title in self.tasks:
            self.display.reset(self.tasks[title], total=None)
        else:
            self.tasks[title] = self.display.add_task(title, total=None)
        task = self.tasks[title]

        def told(done: int, total: int) -> None:
            self.display.update(task, completed=done, total=total)
            if part and done >= total and self.tasks.pop(title, None) is not None:
                self.display.remove_task(task)

        return told


class Lines(ProgressDisplay):
    """Reports each stage once, at its beginning, to a function of text: for logs, which cannot show bars."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.said = say, ""

    def stage(self, words: str) -> None:
        if words != self.said:  # each input of a step reports the stage
            self.said = words
            self.say(words)

    def start(self, context: dg.AssetExecutionContext, title: str, *, part: bool = False) -> Callable[[int, int], None]:
        return lambda done, total: None


STAGES: Final = {
    "source": "reading the data",
    "samples": "reading the data",
    "encoder": "reading the data",
    "prepare": "reading the data",
    "proxy": "training the proxy",
    "proxy_training": "training the proxy",
    "scores": "scoring",
    "embeddings": "embedding",
    "neighbours": "looking for neighbours",
    "label_free_embeddings": "embedding without the labels",
    "label_free_neighbours": "looking for neighbours without the labels",
    "yardstick": "measuring the proxy beside a simple model",
    "tuning": "tuning settings",
    "target": "reading the target",
    "target_places": "comparing with the target",
    "gradient_places": "comparing gradients with those of the target",
    "target_ratios": "counting words of the target",
    "ngram_counts": "counting words",
    "sources": "reading where rows come from",
    "subset": "choosing",
    "manifest": "writing manifests",
    "trained_model": "training",
    "epoch_manifest": "writing manifests of epochs",
    "evaluation": "testing models",
    "report": "comparing and drawing the report",
}
"""Readable stage of a step, by the first of its assets' names."""


def stage_of(step: str) -> str:
    """The readable stage of a step, from its key: `digits__trained_model`."""
    names = step.partition("__")[2].split("__")
    return " ".join([STAGES.get(names[0], names[0].replace("_", " ")), *names[1:]])


ACCELERATOR: Final = "accelerator"
"""Pool of every asset that trains, embeds, or scores through a network: their runs wait for one another.

Its limit is `concurrency.pools.default_limit` in the instance's dagster.yaml, or the value in the UI under
Deployment > Concurrency. It applies between runs; the steps of one run are sequential in its process.
"""


def version_of(values: np.ndarray) -> dg.DataVersion:
    """Digest of an array's content: an asset remade with equal content makes no other asset stale."""
    digest = xxhash.xxh3_128(f"{values.dtype} {values.shape}".encode())
    digest.update(np.ascontiguousarray(values).data)
    return dg.DataVersion(digest.hexdigest())


IO_MANAGER = "secateur_io"
"""Resource keys start with the package's name, to avoid conflicts in a user's own Dagster project."""


class StoreIOManager(dg.IOManager):
    """Loads a store's values for assets; a partitioned asset is a mapping from `Trial` to value."""

    def __init__(self, store: Store, progress: ProgressDisplay | None = None) -> None:
        self.store, self.progress = store, progress or ProgressDisplay()

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        path = self.store.save(context.asset_key, obj)
        context.add_output_metadata({"path": dg.MetadataValue.path(path.resolve()), "bytes": path.stat().st_size})

    def load_input(self, context: dg.InputContext) -> Any:
        with suppress(dg.DagsterInvariantViolationError):  # loading an asset's value outside of a run has no step
            self.progress.stage(stage_of(context.step_context.step.key))
        with in_a_sentence():
            return self.loaded(context)

    def loaded(self, context: dg.InputContext) -> Any:
        """The value of an asset, or the values of its partitions."""
        key = context.asset_key
        if not context.has_asset_partitions:
            return self.store.load(key)
        trials = [Trial.parse(partition) for partition in sorted(context.asset_partition_keys)]
        found = {trial: self.store.load(key, trial) for trial in trials if self.store.find(key, trial)}
        if not found:
            raise FileNotFoundError(f"no partition of {'/'.join(key.path)} is below {self.store.root}")
        return found
