"""Proxy trainings, one per seed: watched by every observer of the study, resumable, and not repeated without need."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from secateur.pipelines.runs.possible import window_faults
from secateur.pipelines.runs.resumption import snapshots_of, trackers_of
from secateur.pipelines.runs.training import outcome_of, save_trained, trained_outcome
from secateur.pipelines.storage.ledger import Ledger, data_parts, digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.named_inputs import contents_of
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.scores import Score
from secateur.pipelines.studies.study import AnyStudy
from secateur.scorers.contract import Observer, Scores
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.outcome import Cost
from secateur.trainers.loop.checkpoints import CheckpointWriter, fingerprint
from secateur.trainers.loop.run import Diverged
from secateur.trainers.loop.train import train
from secateur.trainers.loop.training_fit import TrainingFit
from secateur.trainers.models.registry import config_in

FIT = "fit.json"
"""Beside a proxy's model: how well it knew its training samples, see `TrainingFit.summary`."""


@dataclass(frozen=True)
class ProxyRuns:
    """All that the proxies of a study are trained from; `settings` are those of each observer."""

    study: Study
    data: Data
    config: TrainingConfig
    source: Mapping[str, Any]
    observed: Mapping[str, Score]
    settings: Mapping[str, Mapping[str, Any]]
    device: torch.device
    store: Store

    @property
    def place(self) -> Path:
        """The folder of the asset `proxy`."""
        return self.store.place((self.study.name, "proxy"))

    @property
    def unfinished(self) -> Path:
        """Where checkpoints of runs stand while they are trained."""
        return self.store.root / self.study.name / ".proxy_runs"

    def made_of(self, seed: int) -> str:
        """Digest of everything that a run follows from: data, config, seed, observers, versions."""
        return digest_of(
            config=self.config.model_dump(mode="json", exclude={"loading", "workers"}),
            seed=seed,
            observers=[[name, score.scorer, score.declared.card.version] for name, score in self.observed.items()],
            settings=self.settings,
            checkpoints=self.study.checkpoints,
            **data_parts(self.study, self.source, self.config),
        )

    def train(self, progress: Callable[[str], Callable[[int, int], None]]) -> Cost:
        """Train the proxy of every seed, or go on with it, unless it is there; what all runs cost together.

        `progress` gives the callback of a run by its title. Runs of other inputs go first: those of different inputs
        never stand side by side. Raises ValueError where a score needs a longer run.
        """
        if faults := list(window_faults(self.observed, self.settings, self.config, len(self.data))):
            raise ValueError("; ".join(faults))
        ledger, runs = Ledger(self.store), self.study.proxy_runs
        made_of = {f"seed-{seed}": self.made_of(seed) for seed in range(runs)}
        ledger.drop_others((self.study.name, "proxy"), made_of)
        cost = Cost()
        for seed, (name, digest) in enumerate(made_of.items()):
            told = progress(f"proxy training, run {seed + 1} of {runs}")
            work = partial(self.train_anew, seed, digest, told)
            cost += trained_outcome(ledger.once(self.key(name), None, digest, work)).compute["training"]
        shutil.rmtree(self.unfinished, ignore_errors=True)  # what killed runs of other inputs left
        return cost

    def key(self, run: str) -> tuple[str, ...]:
        """Key of one run."""
        return (self.study.name, "proxy", run)

    def train_anew(self, seed: int, made_of: str, progress: Callable[[int, int], None]) -> None:
        """Train the proxy of a seed; its model, checkpoints, scores and record go to the store.

        Raises Diverged where its losses stop being numbers: there are no scores then.
        """
        watchers: dict[str, Observer] = {
            name: score.declared(len(self.data), self.device, **self.settings[name])  # type: ignore[call-arg, arg-type, misc]
            for name, score in self.observed.items()
        }
        fit = TrainingFit.of(self.data, self.device)
        # Checkpoints of a run that was killed and goes on stay where they are meanwhile.
        unfinished = self.unfinished / f"seed-{seed}-{made_of[:16]}"
        unfinished.mkdir(parents=True, exist_ok=True)
        snapshots = snapshots_of(self.store, self.study.name, f"proxy-{seed}", made_of)
        with trackers_of(self.study.name, f"proxy-{seed}", snapshots) as trackers:
            try:
                trained = train(
                    self.data,
                    self.config,
                    seed=seed,
                    observers=[*watchers.values(), *([fit] if fit else [])],
                    device=self.device,
                    progress=progress,
                    checkpoint=CheckpointWriter(unfinished, self.study.checkpoints),
                    snapshots=snapshots,
                    trackers=trackers,
                )
            except Diverged as error:
                raise Diverged(f"proxy, seed {seed}: {error}; nothing is scored by it") from error
        with self.store.folder(self.key(f"seed-{seed}")) as folder:
            for path in unfinished.iterdir():
                shutil.copyfile(path, folder / path.name)
            save_trained(folder, trained, outcome_of(trained), self.config, self.data)
            if fit:
                (folder / FIT).write_text(json.dumps(fit.summary(self.data), indent=2) + "\n")
            for name, watcher in watchers.items():
                np.save(folder / f"score-{name}.npy", watcher.scores(), allow_pickle=False)
        shutil.rmtree(unfinished)

    def scores(self, name: str) -> Scores:
        """An observer's scores, float32 `[n]`: means over runs, in float64."""
        runs = [np.load(self.place / f"seed-{seed}" / f"score-{name}.npy") for seed in range(self.study.proxy_runs)]
        return np.asarray(np.mean(runs, axis=0, dtype=np.float64), dtype=np.float32)


def identity_of(study: Study, folders: Sequence[Path]) -> str:
    """Fingerprint of the checkpoints of proxies, and of the files and code that their networks and the task name: by
    other code the same weights may put out something else.
    """
    weights = fingerprint(list(folders))
    named = [contents_of(each) for each in (study.task, *map(config_in, folders))]
    return digest_of(weights=weights, named=named) if any(named) else weights


def with_searched_network(training: TrainingConfig, best: Mapping[str, Any]) -> TrainingConfig:
    """The training that a search of networks found, for as long a run as the given one."""
    if "config" not in best:
        raise ValueError("proxy_from: that search was of a table or a function, so it has no network to train")
    return TrainingConfig(**{**best["config"], "epochs": training.epochs, "steps": training.steps})


def contents_searched(study: AnyStudy, store: Store) -> dict[str, str]:
    """Contents of what the network names that a search found for the proxy, by key; none where none was found yet."""
    key = (str(getattr(study, "proxy_from", None)), "best_architecture")
    best = store.load(key) if isinstance(study, Study) and study.proxy_from and store.find(key) else {}
    config = TrainingConfig(**best["config"]) if "config" in best else None
    return {f"proxy_from.{name}": content for name, content in contents_of(config).items()} if config else {}
