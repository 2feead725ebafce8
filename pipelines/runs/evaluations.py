"""Evaluations of architectures: stored like the outcomes of other trials, so that no network is evaluated twice.

The store holds each as `<search>/.evaluations/<network>/<seed>.json`, where `network` is a digest of everything that
decides it except the training seed. Searchers and their seeds share evaluations. A search that was killed, or whose
space or budget has changed, finds those that it made.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel

from secateur.pipelines.data.sources import load
from secateur.pipelines.runs.architectures import Evaluate, accuracies_of, in_scale, out_of_scale
from secateur.pipelines.runs.choosing import choose
from secateur.pipelines.storage.ledger import Ledger, digest_of, machine_parts
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.architectures import CallableSpace, ModelSpace, ProxySubset, Search
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.named_inputs import contents_of
from secateur.scorers.architectures.encoding import ArchitectureSpace, Rows
from secateur.scorers.contract import Observer, naming
from secateur.scorers.lazy import named
from secateur.scorers.registry import scorers
from secateur.selectors.contract import resolve_keep
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.architectures import ValidationAccuracy, network_key, space_of_configs
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.loop.train import train
from secateur.trainers.modalities import encoding as encodings
from secateur.trainers.processes import device_of_choice


@dataclass(frozen=True)
class Network:
    """One architecture to evaluate: a text that identifies its network, and a function that measures its accuracy."""

    text: str
    measure: Callable[[int], float]
    """Accuracy of a training from a seed."""


@dataclass
class Evaluations:
    """Outcomes of rows of a space, means over training seeds; stored evaluations are not repeated.

    `network` returns the network of a row, `made_of` is a digest of everything that all evaluations depend on, and
    `scale` is a factor for accuracies.
    """

    ledger: Ledger
    search: str
    space: ArchitectureSpace
    network: Callable[[int], Network]
    made_of: str
    seeds: int = 1
    scale: float = 1.0
    progress: Callable[[int], None] | None = None
    known: dict[int, Outcome] = field(default_factory=dict)
    """By key of the space."""

    def __call__(self, rows: Rows) -> list[Outcome]:
        """Outcomes of the rows; raises the error of a failed measurement."""
        keys = self.space.keys_of(rows).tolist()
        return [self.mean(row, key) for row, key in zip(rows.tolist(), keys, strict=True)]

    def mean(self, row: int, key: int) -> Outcome:
        """Outcome of a row's network: the mean over its trainings."""
        if key not in self.known:
            network = self.network(row)
            outcomes = [self.outcome(row, network, seed) for seed in range(self.seeds)]
            accuracy = self.scale * float(np.mean(accuracies_of(outcomes)))
            self.known[key] = Outcome(metrics={"accuracy": accuracy}, seconds=sum(each.seconds for each in outcomes))
            if self.progress:
                self.progress(len(self.known))
        return self.known[key]

    def outcome(self, row: int, network: Network, seed: int) -> Outcome:
        """Outcome of one training of a network."""
        key, made_of = (self.search, ".evaluations"), digest_of(network=network.text, made_of=self.made_of)
        trial = Trial(made_of[:16], seed)

        def work() -> None:
            started = time.perf_counter()
            choices = self.space.describe(row)
            with naming(f"network {choices}, seed {seed}"):
                metrics, facts = {"accuracy": network.measure(seed)}, {"choices": choices}
            outcome = Outcome(metrics=metrics, seconds=time.perf_counter() - started, facts=facts)
            self.ledger.store.save(key, outcome.model_dump(mode="json"), trial)

        stored = self.ledger.once(key, trial, digest_of(made_of=made_of, seed=seed), work)
        return Outcome.read(stored, f"evaluation of {network.text}")


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
    """The function that evaluates rows of the space; `data` are the training samples where it trains networks."""
    if search.space.table:
        accuracies = table["accuracy"].to_numpy()
        return lambda rows: [Outcome(metrics={"accuracy": known}) for known in accuracies[rows].tolist()]
    evaluations = partial(Evaluations, Ledger(store), search.name, space, progress=progress)
    if search.space.callable:
        settings = search.space.callable
        networks = partial(called_network, settings, imported(settings), space)
        return evaluations(networks, digest_of(function=settings.evaluate, named=contents_of(settings)))
    models = search.space.models
    assert models
    assert data
    configs = space_of_configs(models.training, models.positions)[1]
    accuracy = ValidationAccuracy(data, validation_fraction=models.validation_fraction, keep=keep)
    made_of = digest_of(fraction=models.validation_fraction, keep=keep, **parts_of(data))

    def trained_network(row: int) -> Network:
        text = f"{network_key(configs[row])} {json.dumps(contents_of(configs[row]))}"
        return Network(text, lambda seed: accuracy(configs[row], seed=seed))

    return evaluations(trained_network, made_of, seeds=models.training_seeds, scale=100.0)


def imported(settings: CallableSpace) -> Callable[[Mapping[str, Any]], Any]:
    """The function that a study names; raises ValueError where it cannot be imported."""
    function: Callable[[Mapping[str, Any]], Any] = named(settings.evaluate, "space.callable.evaluate:")
    return function


def called_network(
    settings: CallableSpace, function: Callable[[Mapping[str, Any]], Any], space: ArchitectureSpace, row: int
) -> Network:
    """The network of a row whose accuracy is a function of its choices.

    Measuring raises ValueError that names the architecture where the function returns no finite number.
    """
    numbers = space.choices_of(np.array([row]))[0]
    choices = {name: values[number] for (name, values), number in zip(settings.positions.items(), numbers, strict=True)}

    def measure(seed: int) -> float:
        result = function(choices)
        if not isinstance(result, int | float | np.number) or not np.isfinite(float(result)):
            raise ValueError(f"{settings.evaluate}({choices}) gave {result!r}, must be a finite number")
        if not in_scale(np.array([float(result)]), settings.scale).all():
            raise ValueError(f"{settings.evaluate}({choices}): {out_of_scale(float(result), settings.scale)}")
        return float(result)

    return Network(repr(sorted(choices.items())), measure)


def parts_of(data: Data, *settings: BaseModel) -> dict[str, Any]:
    """Everything that trainings on these data depend on, with the files and code that some settings name."""
    arrays = {"inputs": data.inputs, "targets": data.targets, "task": data.task.state()}
    named = [contents_of(each) for each in settings]
    return {**arrays, "named": named, "model_settings": dict(data.model_settings), **machine_parts()}


def data_for(models: ModelSpace, base: Path, cache: Path) -> tuple[Data, Data]:
    """Training and test samples as arrays."""
    columns = models.columns.reading(models.encoding)
    loaded = load(models.source, columns, base, cache, models.data)
    encoded = encodings.encode(models.resolved_encoding, loaded.rows["train"], loaded.rows["test"], columns.inputs)
    train, test = (
        Data(inputs, targets, len(loaded.label_names), encoded.model_settings)
        for inputs, targets in ((encoded.inputs, loaded.targets), (encoded.test_inputs, loaded.test_targets))
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
    key, subset, training = (search.name, ".evaluations", "subset"), models.subset, models.training
    said = [part.model_dump(mode="json") for part in (subset, training)]
    made_of = digest_of(settings=said, **parts_of(data, training))
    keep = Ledger(store).once(key, None, made_of, lambda: store.save(key, subset_mask(subset, data, training)))
    return data, np.array(keep)


def subset_mask(subset: ProxySubset, data: Data, training: TrainingConfig) -> np.ndarray:
    """Keep mask over the training samples; scores come from one run of the search's own config, unchanged."""
    strata = data.task.strata(data.targets)
    signals: dict[str, np.ndarray] = {"strata": strata, "memberships": data.task.memberships(data.targets)}
    if subset.observed:
        watchers: dict[str, Observer] = {
            name: scorers()[name](len(data), device_of_choice())  # type: ignore[misc, call-arg, arg-type]
            for name in subset.observed
        }
        train(data, training, seed=0, observers=list(watchers.values()))
        signals |= {name: watcher.scores() for name, watcher in watchers.items()}
    budget = resolve_keep(subset.keep, len(data))
    return choose(subset.selection, signals, budget=budget, seed=0, settings=subset.settings)
