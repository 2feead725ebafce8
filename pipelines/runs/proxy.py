"""Proxy trainings, one per seed: watched by every observer of the study, resumable, and not repeated without need."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import torch

from secateur.pipelines.runs.resumption import snapshots_of, trackers_of
from secateur.pipelines.runs.training import RECORD, record_of
from secateur.pipelines.storage.fingerprints import data_parts, fingerprint_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.storage.whole_files import new_folder
from secateur.pipelines.studies.samples import Score, Study
from secateur.scorers.contract import Observer, Scores
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.checkpoints import CheckpointWriter
from secateur.trainers.loop.train import train
from secateur.trainers.models import registry as models


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
        return self.store.place(dg.AssetKey([self.study.name, "proxy"]))

    @property
    def waiting(self) -> Path:
        """Folder of the runs that are done while others are not."""
        return self.store.root / self.study.name / ".proxy_runs"

    def made_of(self, seed: int) -> str:
        """Of everything that a run follows from: data, config, seed, observers, versions."""
        return fingerprint_of(
            config=self.config.model_dump(mode="json", exclude={"loading", "workers"}),
            seed=seed,
            observers=[[name, score.scorer, score.declared.card.version] for name, score in self.observed.items()],
            settings=self.settings,
            checkpoints=self.study.checkpoints,
            **data_parts(self.study, self.source),
        )

    def done(self, seed: int) -> Path | None:
        """A finished run of the same inputs, if there is one."""
        places = (self.waiting / f"seed-{seed}", self.place / f"seed-{seed}")
        return next((p for p in places if record_of(p).get("fingerprint") == self.made_of(seed)), None)

    def train(self, seed: int, progress: Callable[[int, int], None]) -> None:
        """Train the proxy of a seed, or go on with it, unless it is done; it ends up among those that wait."""
        if self.done(seed):
            return
        made_of, place = self.made_of(seed), self.waiting / f"seed-{seed}"
        watchers: dict[str, Observer] = {
            name: score.declared(len(self.data), self.device, **self.settings[name])  # type: ignore[call-arg, arg-type, misc]
            for name, score in self.observed.items()
        }
        # Checkpoints of a run that was killed and goes on stay where they are meanwhile.
        unfinished = self.waiting / f"seed-{seed}-{made_of[:16]}"
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
        record = {"seconds": trained.seconds, "steps": trained.steps, "samples_seen": trained.samples_seen}
        with new_folder(place, overwrite=True) as folder:
            for path in unfinished.iterdir():
                shutil.copyfile(path, folder / path.name)
            models.save(trained.model.cpu(), folder, self.config, self.data.inputs.shape[1:])
            for name, watcher in watchers.items():
                np.save(folder / f"score-{name}.npy", watcher.scores(), allow_pickle=False)
            (folder / RECORD).write_text(json.dumps({"fingerprint": made_of, **record}, indent=2) + "\n")
        shutil.rmtree(unfinished)

    def gather(self) -> dict[str, Any]:
        """Put all runs into the asset's folder at once; what they cost together."""
        runs = [self.done(seed) for seed in range(self.study.proxy_runs)]
        there = sorted(path.name for path in self.place.glob("seed-*")) if self.place.is_dir() else []
        if [run.parent for run in runs if run] != [self.place] * len(runs) or len(there) != len(runs):
            with self.store.folder(dg.AssetKey([self.study.name, "proxy"])) as folder:
                for run in runs:
                    assert run
                    shutil.copytree(run, folder / run.name)
        shutil.rmtree(self.waiting, ignore_errors=True)
        costs = [record_of(self.place / f"seed-{seed}") for seed in range(len(runs))]
        return {what: sum(cost[what] for cost in costs) for what in ("seconds", "steps", "samples_seen")}

    def scores(self, name: str) -> Scores:
        """An observer's scores, float32 `[n]`: means over runs, in float64."""
        found = [np.load(self.place / f"seed-{seed}" / f"score-{name}.npy") for seed in range(self.study.proxy_runs)]
        return np.asarray(np.mean(found, axis=0, dtype=np.float64), dtype=np.float32)
