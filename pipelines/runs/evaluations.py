"""Evaluations of architectures: stored like the outcomes of other trials, so that no network is evaluated twice.

Every evaluation stands in the store as `<search>/evaluated/<network>/<seed>.json`, where `network` is a digest of all
that decides it but the seed of the training. Searchers and their seeds share evaluations, a search that was killed
finds those that it made, and so does one whose space or budget has changed.
"""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.data.identity import labels_of
from secateur.pipelines.data.images import decode_image
from secateur.pipelines.data.sources import load
from secateur.pipelines.runs.architectures import Evaluate
from secateur.pipelines.runs.choosing import choose
from secateur.pipelines.storage.ledger import Ledger, digest_of, machine_parts
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.architectures import CallableSpace, ModelSpace, ProxySubset, Search
from secateur.pipelines.studies.grid import Trial
from secateur.scorers.architectures.encoding import ArchitectureSpace, Rows
from secateur.scorers.contract import Observer
from secateur.scorers.registry import scorers
from secateur.selectors.contract import resolve_keep
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.architectures import ValidationAccuracy, network_key, space_of_configs
from secateur.trainers.loop.train import train
from secateur.trainers.modalities import encoding as encodings
from secateur.trainers.processes import device_of_choice


@dataclass
class Evaluations:
    """Accuracies of rows of a space, means over training seeds; what is stored is not evaluated again.

    `network` gives a text that is equal for rows of the same network, `measure` the accuracy of a row's training from a
    seed, and `made_of` is a digest of what decides all evaluations alike.
    """

    ledger: Ledger
    search: str
    space: ArchitectureSpace
    network: Callable[[int], str]
    measure: Callable[[int, int], float]
    made_of: str
    progress: Callable[[int], None] | None = None
    seeds: int = 1
    scale: float = 1.0
    """What accuracies are multiplied by."""
    known: dict[int, float] = field(default_factory=dict)
    """Accuracies by key of the space."""

    def __call__(self, rows: Rows) -> np.ndarray:
        """Accuracies, float64 `[n]`; raises what measuring one of them raises."""
        keys = self.space.keys_of(rows).tolist()
        for row, key in zip(rows.tolist(), keys, strict=True):
            if key not in self.known:
                accuracies = [self.outcome(row, seed)["accuracy"] for seed in range(self.seeds)]
                self.known[key] = self.scale * float(np.mean(accuracies))
                if self.progress:
                    self.progress(len(self.known))
        return np.array([self.known[key] for key in keys])

    def outcome(self, row: int, seed: int) -> dict[str, Any]:
        """What one training of a network came to."""
        key, made_of = (self.search, "evaluated"), digest_of(network=self.network(row), made_of=self.made_of)
        trial = Trial(made_of[:16], seed)

        def work() -> None:
            started = time.perf_counter()
            outcome = {"choices": self.space.describe(row), "accuracy": self.measure(row, seed)}
            self.ledger.store.save(key, outcome | {"seconds": time.perf_counter() - started}, trial)

        outcome: dict[str, Any] = self.ledger.once(key, trial, digest_of(made_of=made_of, seed=seed), work)
        return outcome


def evaluator(
    search: Search,
    space: ArchitectureSpace,
    table: pl.DataFrame,
    store: Store,
    data: Data | None,
    *,
    keep: np.ndarray | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluate:
    """What answers for rows of the space; `data` are the training samples where networks are trained for it."""
    if search.space.table:
        accuracies = table["accuracy"].to_numpy()
        return lambda rows: np.asarray(accuracies[rows])
    evaluations = partial(Evaluations, Ledger(store), search.name, space)
    if search.space.callable:
        called = CalledFunction(search.space.callable, space)
        return evaluations(called.network, called.measure, called.made_of, progress)
    models = search.space.models
    assert models
    assert data
    configs = space_of_configs(models.training, models.positions)[1]
    accuracy = ValidationAccuracy(data, validation_fraction=models.validation_fraction, keep=keep)
    return evaluations(
        lambda row: network_key(configs[row]),
        lambda row, seed: accuracy(configs[row], seed=seed),
        digest_of(fraction=models.validation_fraction, keep=keep, **parts_of(data)),
        progress,
        seeds=models.training_seeds,
        scale=100.0,
    )


class CalledFunction:
    """A user's function that gives the accuracy of a mapping from position to choice.

    Evaluations follow from the function's file; of what it imports nothing is known. Raises ValueError where it cannot
    be imported.
    """

    def __init__(self, settings: CallableSpace, space: ArchitectureSpace) -> None:
        self.settings, self.space = settings, space
        name, _, function = settings.evaluate.partition(":")
        try:
            module = importlib.import_module(name)
            self._function = getattr(module, function)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"space.callable.evaluate: {settings.evaluate!r} cannot be imported: {error}") from error
        self.made_of = digest_of(function=settings.evaluate, source=module.__file__ and Path(module.__file__))

    def choices(self, row: int) -> dict[str, Any]:
        """Choices of a row as the study gives them."""
        numbers = self.space.choices_of(np.array([row]))[0]
        positions = self.settings.positions.items()
        return {name: values[number] for (name, values), number in zip(positions, numbers, strict=True)}

    def network(self, row: int) -> str:
        """The choices as text."""
        return repr(sorted(self.choices(row).items()))

    def measure(self, row: int, seed: int) -> float:
        """What the function gives; raises ValueError that names the architecture where that is no finite number."""
        choices = self.choices(row)
        result = self._function(choices)
        if not isinstance(result, int | float | np.number) or not np.isfinite(float(result)):
            raise ValueError(f"{self.settings.evaluate}({choices}) gave {result!r}, must be a finite number")
        return float(result)


def parts_of(data: Data) -> dict[str, Any]:
    """What all trainings on these data follow from."""
    arrays = {"inputs": data.inputs, "labels": data.labels, "classes": data.classes}
    return {**arrays, "model_settings": dict(data.model_settings), **machine_parts()}


def data_for(models: ModelSpace, base: Path, cache: Path) -> tuple[Data, Data]:
    """Training and test samples as arrays."""
    loaded = load(models.source, models.columns, base, cache)
    encoded = encodings.encode(
        models.resolved_encoding, loaded.train, loaded.test, models.columns.inputs, decode=decode_image
    )
    labels = [labels_of(split, models.columns) for split in (loaded.train, loaded.test)]
    train, test = (
        Data(inputs, known, len(loaded.label_names), encoded.model_settings)
        for inputs, known in zip((encoded.inputs, encoded.test_inputs), labels, strict=True)
    )
    return train, test


def training_data(search: Search, base: Path, store: Store) -> tuple[Data | None, np.ndarray | None]:
    """Training samples of a space of models, and a mask of those that the search trains on; None means all."""
    models = search.space.models
    if models is None:
        return None, None
    data, _ = data_for(models, base, store.root / ".cache")
    if models.subset is None:
        return data, None
    key, subset, training = (search.name, "search_subset"), models.subset, models.training
    said = [part.model_dump(mode="json") for part in (subset, training)]
    made_of = digest_of(settings=said, **parts_of(data))
    keep = Ledger(store).once(key, None, made_of, lambda: store.save(key, subset_mask(subset, data, training)))
    return data, np.array(keep)


def subset_mask(subset: ProxySubset, data: Data, training: TrainingConfig) -> np.ndarray:
    """Keep mask over the training samples; scores come from one run of the search's own config, unchanged."""
    signals: dict[str, np.ndarray] = {"labels": data.labels}
    if subset.observed:
        watchers: dict[str, Observer] = {
            name: scorers()[name](len(data), device_of_choice())  # type: ignore[misc, call-arg, arg-type]
            for name in subset.observed
        }
        train(data, training, seed=0, observers=list(watchers.values()))
        signals |= {name: watcher.scores() for name, watcher in watchers.items()}
    budget = resolve_keep(subset.keep, len(data))
    return choose(subset.selection, signals, budget=budget, seed=0, settings=subset.settings)
