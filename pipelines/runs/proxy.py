"""Proxy trainings, one per seed: watched by every observer of the study, resumable, and not repeated without need."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from secateur.pipelines.runs.resumption import snapshots_of, trackers_of
from secateur.pipelines.runs.training import outcome_of, save_trained, trained_outcome
from secateur.pipelines.storage.ledger import Ledger, data_parts, digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Score, Study
from secateur.scorers.contract import Observer, Scores
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.outcome import Cost
from secateur.trainers.loop.checkpoints import CheckpointWriter
from secateur.trainers.loop.train import train


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
            **data_parts(self.study, self.source),
        )

    def train(self, progress: Callable[[str], Callable[[int, int], None]]) -> Cost:
        """Train the proxy of every seed, or go on with it, unless it is there; what all runs cost together.

        `progress` gives the callback of a run by its title. Runs of other inputs go first: those of different inputs
        never stand side by side.
        """
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
        """Train the proxy of a seed; its model, checkpoints, scores and record go to the store."""
        watchers: dict[str, Observer] = {
            name: score.declared(len(self.data), self.device, **self.settings[name])  # type: ignore[call-arg, arg-type, misc]
            for name, score in self.observed.items()
        }
        # Checkpoints of a run that was killed and goes on stay where they are meanwhile.
        unfinished = self.unfinished / f"seed-{seed}-{made_of[:16]}"
        unfinished.mkdir(parents=True, exist_ok=True)
        snapshots = snapshots_of(self.store, self.study.name, f"proxy-{seed}", made_of)
        with trackers_of(self.study.name, f"proxy-{seed}", snapshots) as trackers:
            trained = train(
                self.data,
                self.config,
                seed=seed,
                observers=list(watchers.values()),
                device=self.device,
                progress=progress,
                checkpoint=CheckpointWriter(unfinished, self.study.checkpoints),
                snapshots=snapshots,
                trackers=trackers,
            )
        with self.store.folder(self.key(f"seed-{seed}")) as folder:
            for path in unfinished.iterdir():
                shutil.copyfile(path, folder / path.name)
            save_trained(folder, trained, outcome_of(trained), self.config, self.data)
            for name, watcher in watchers.items():
                np.save(folder / f"score-{name}.npy", watcher.scores(), allow_pickle=False)
        shutil.rmtree(unfinished)

    def scores(self, name: str) -> Scores:
        """An observer's scores, float32 `[n]`: means over runs, in float64."""
        runs = [np.load(self.place / f"seed-{seed}" / f"score-{name}.npy") for seed in range(self.study.proxy_runs)]
        return np.asarray(np.mean(runs, axis=0, dtype=np.float64), dtype=np.float32)
