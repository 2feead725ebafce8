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

from secateur.pipelines.runs.possible import learned_from, window_faults
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
from secateur.trainers.judging.outcome import Cost, Outcome
from secateur.trainers.loop.checkpoints import CheckpointWriter, fingerprint
from secateur.trainers.loop.held_out import HeldOut
from secateur.trainers.loop.run import Diverged
from secateur.trainers.loop.train import train
from secateur.trainers.loop.training_fit import TrainingFit
from secateur.trainers.models.registry import config_in
from secateur.trainers.passes.folds import Folds

FIT = "fit.json"
"""File beside a proxy's model with its fit to the training samples, see `TrainingFit.summary`."""


@dataclass(frozen=True)
class ProxyRuns:
    """Everything that the proxies of a study are trained from; `settings` are those of each observer."""

    study: Study
    data: Data
    config: TrainingConfig
    source: Mapping[str, Any]
    observed: Mapping[str, Score]
    settings: Mapping[str, Mapping[str, Any]]
    device: torch.device
    store: Store
    folds: Folds | None = None
    """Fold of each sample, if the study has folds: then each fold has a proxy that does not see its samples."""

    @property
    def place(self) -> Path:
        """The folder of the asset `proxy`."""
        return self.store.place((self.study.name, "proxy"))

    @property
    def unfinished(self) -> Path:
        """The folder of checkpoints of unfinished runs."""
        return self.store.root / self.study.name / ".proxy_runs"

    @property
    def runs(self) -> dict[str, tuple[int, int | None]]:
        """Seed and fold of each run, by name."""
        assert self.study.proxy
        folds = range(self.study.proxy.folds) if self.study.proxy.folds else (None,)
        cells = [(seed, fold) for seed in range(self.study.proxy_runs) for fold in folds]
        return dict(zip(self.study.proxies, cells, strict=True))

    def made_of(self, seed: int, fold: int | None = None) -> str:
        """Digest of everything that a run depends on: data, config, seed, fold, observers, versions."""
        held = {} if fold is None or self.folds is None else {"fold": fold, "folds": self.folds}
        return digest_of(
            **held,
            config=self.config.model_dump(mode="json", exclude={"loading", "workers"}),
            seed=seed,
            observers=[[name, score.scorer, score.declared.card.version] for name, score in self.observed.items()],
            settings=self.settings,
            checkpoints=self.study.checkpoints,
            **data_parts(self.study, self.source, self.config),
        )

    def train(self, progress: Callable[[str], Callable[[int, int], None]]) -> Cost:
        """Train, or resume, the proxies of every seed that are not stored; returns the cost of all runs together.

        `progress` returns the callback of a run by its title. Runs from other inputs are removed first, so that the
        store never mixes both. Raises ValueError where a score needs a longer run.
        """
        assert self.study.proxy
        rows = learned_from(len(self.data), self.study.proxy.folds)
        if faults := list(window_faults(self.observed, self.settings, self.config, rows)):
            raise ValueError("; ".join(faults))
        ledger, cost = Ledger(self.store), Cost()
        made_of = {name: self.made_of(*cell) for name, cell in self.runs.items()}
        ledger.drop_others((self.study.name, "proxy"), made_of)
        for number, (name, digest) in enumerate(made_of.items()):
            told = progress(f"proxy training, run {number + 1} of {len(made_of)}")
            work = partial(self.train_anew, name, digest, told)
            cost += trained_outcome(ledger.once(self.key(name), None, digest, work)).compute["training"]
        shutil.rmtree(self.unfinished, ignore_errors=True)  # files of killed runs from other inputs
        return cost

    def key(self, run: str) -> tuple[str, ...]:
        """Key of one run."""
        return (self.study.name, "proxy", run)

    def train_anew(self, run: str, made_of: str, progress: Callable[[int, int], None]) -> None:
        """Train the proxy of a run; its model, checkpoints, scores and record go to the store.

        Raises Diverged where its losses stop being numbers: there are no scores then.
        """
        seed, fold = self.runs[run]
        watchers: dict[str, Observer] = {
            name: score.declared(len(self.data), self.device, **self.settings[name])  # type: ignore[call-arg, arg-type, misc]
            for name, score in self.observed.items()
        }
        fit = TrainingFit.of(self.data, self.device)
        # The checkpoints of a killed run stay here until it goes on.
        unfinished = self.unfinished / f"{run}-{made_of[:16]}"
        unfinished.mkdir(parents=True, exist_ok=True)
        writer = CheckpointWriter(unfinished, self.study.checkpoints)
        keep = None if fold is None or self.folds is None else np.asarray(self.folds != fold)
        shown = None if keep is None else HeldOut(watchers, self.data, np.flatnonzero(~keep), writer)
        told = [*([] if shown else watchers.values()), *([fit] if fit else [])]
        title = run.replace("seed", "proxy", 1)
        snapshots = snapshots_of(self.store, self.study.name, title, made_of)
        with trackers_of(self.study.name, title, snapshots) as trackers:
            try:
                trained = train(
                    self.data,
                    self.config,
                    seed=seed,
                    keep=keep,
                    observers=told,
                    device=self.device,
                    progress=progress,
                    checkpoint=shown or writer,
                    snapshots=snapshots,
                    trackers=trackers,
                )
            except Diverged as error:
                where = f"seed {seed}" if fold is None else f"seed {seed}, fold {fold}"
                raise Diverged(f"proxy, {where}: {error}; nothing is scored by it") from error
        scores = shown.scores() if shown else {name: watcher.scores() for name, watcher in watchers.items()}
        with self.store.folder(self.key(run)) as folder:
            for path in unfinished.iterdir():
                shutil.copyfile(path, folder / path.name)
            save_trained(folder, trained, charged(outcome_of(trained), shown), self.config, self.data)
            if fit:
                (folder / FIT).write_text(json.dumps(fit.summary(self.data), indent=2) + "\n")
            for name, values in scores.items():
                np.save(folder / f"score-{name}.npy", values, allow_pickle=False)
        shutil.rmtree(unfinished)

    def scores(self, name: str) -> Scores:
        """An observer's scores, float32 `[n]`: means over runs, in float64."""
        by_seed: dict[int, Scores] = {}
        for run, (seed, fold) in self.runs.items():
            values = np.load(self.place / run / f"score-{name}.npy")
            if self.folds is None:
                by_seed[seed] = values
            else:
                by_seed.setdefault(seed, np.empty(len(self.data), np.float32))[self.folds == fold] = values
        return np.asarray(np.mean(list(by_seed.values()), axis=0, dtype=np.float64), dtype=np.float32)


def charged(outcome: Outcome, shown: HeldOut | None) -> Outcome:
    """The outcome of a training, with the cost of forward passes over held-out samples for observers."""
    forward = Cost(forward=outcome.epochs * len(shown.rows)) if shown and shown.observers else Cost()
    return outcome.model_copy(update={"compute": {"training": outcome.compute["training"] + forward}})


def folds_in(study: Study, store: Store) -> Folds | None:
    """The fold of each sample, None where the study has no folds; raises StoredError for folds of other samples."""
    return np.asarray(store.load((study.name, "proxy_folds"))) if study.proxy and study.proxy.folds else None


def identity_of(study: Study, folders: Sequence[Path]) -> str:
    """Fingerprint of the checkpoints of proxies, and of the files and code that their networks and the task name: with
    other code the same weights may give other outputs.
    """
    weights = fingerprint(list(folders))
    named = [contents_of(each) for each in (study.task, *map(config_in, folders))]
    return digest_of(weights=weights, named=named) if any(named) else weights


def with_searched_network(training: TrainingConfig, best: Mapping[str, Any]) -> TrainingConfig:
    """The training config that a search of networks found, with the length of the given one."""
    if "config" not in best:
        raise ValueError("proxy_from: that search was of a table or a function, so it has no network to train")
    return TrainingConfig(**{**best["config"], "epochs": training.epochs, "steps": training.steps})


def contents_searched(study: AnyStudy, store: Store) -> dict[str, str]:
    """Contents of the files and code that the searched network of a proxy names, by key; none before the search."""
    key = (str(getattr(study, "proxy_from", None)), "best_architecture")
    best = store.load(key) if isinstance(study, Study) and study.proxy_from and store.find(key) else {}
    config = TrainingConfig(**best["config"]) if "config" in best else None
    return {f"proxy_from.{name}": content for name, content in contents_of(config).items()} if config else {}
