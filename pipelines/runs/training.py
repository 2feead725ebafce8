"""Training of one trial: what it is made of, whether that was trained before, and what it took."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from secateur.pipelines.runs.choosing import sampler_of
from secateur.pipelines.runs.launch import launch
from secateur.pipelines.runs.resumption import plain, snapshots_of, trackers_of
from secateur.pipelines.runs.teaching import asked, objective_for, own, tuned_settings
from secateur.pipelines.runs.worker import Sampled, Taught, TrainingJob, files_of, save_array
from secateur.pipelines.storage.fingerprints import data_parts, fingerprint_of
from secateur.pipelines.storage.home import home
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.selectors.contract import resolve_keep
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation.objective import Distillation
from secateur.trainers.judging.outcome import Cost, Outcome
from secateur.trainers.loop.checkpoints import fingerprint
from secateur.trainers.loop.train import Trained, train
from secateur.trainers.models import registry as models

RECORD = "training.json"
"""Beside the model: its fingerprint, and the outcome of its training."""


@dataclass(frozen=True)
class Trials:
    """All that the trials of a study are trained from."""

    study: Study
    data: Data
    config: TrainingConfig
    source: Mapping[str, Any]
    signals: Mapping[str, np.ndarray]
    taught: Mapping[str, Any]
    """What was loaded of the teacher, by the names of `teacher_inputs`."""
    store: Store

    def train(self, trial: Trial, keep: np.ndarray, context: dg.AssetExecutionContext) -> tuple[Outcome, str]:
        """Train a trial, unless its model was trained of the same: an outcome without metrics, and when it was."""
        key, made_of = dg.AssetKey([self.study.name, "trained_model"]), self.fingerprint(trial, keep)
        if record_of(folder := self.store.find(key, trial)).get("fingerprint") == made_of:
            return trained_outcome(folder), "before, of the same inputs"
        if keep.all() and (other := self.same(trial, made_of)):
            with self.store.folder(key, trial) as folder:
                shutil.copytree(self.store.place(key, other), folder, dirs_exist_ok=True)
            return trained_outcome(self.store.find(key, trial)), f"as {other}, of the same inputs"
        selection = self.study.selections.get(trial.plain.name)
        in_training, kept = selection is not None and selection.in_training, int(keep.sum())
        if selection and in_training and selection.budget == "study":
            kept = resolve_keep(trial.keep, len(keep))
        if self.study.compute.training == "launch":
            trained = launch_trial(context, self, trial, keep, kept=kept, name=made_of)
        else:
            trained = self.train_here(trial, keep, kept, made_of)
        seen, seconds = trained.samples_seen, round(trained.seconds, 3)
        # A teacher whose logits are not at hand goes over every batch, too.
        forward = 2 * seen if trial.distilled and "teacher_logits" not in self.taught else seen
        outcome = Outcome(
            kept=kept,
            of=len(keep),
            in_training=in_training,
            compare_at="equal epochs" if self.config.length == "epochs" else "equal steps",
            steps=trained.steps,
            epochs=trained.epochs,
            samples_seen=seen,
            compute={"training": Cost(forward, seen, seconds)},
            seconds=seconds,
        )
        record = {"fingerprint": made_of, "outcome": outcome.model_dump(mode="json")}
        with self.store.folder(key, trial) as folder:
            models.save(trained.model.cpu(), folder, self.config, self.data.inputs.shape[1:], self.data.classes)
            (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        return outcome, "now"

    def train_here(self, trial: Trial, keep: np.ndarray, kept: int, made_of: str) -> Trained:
        """Train a trial in this process, going on from where a run that was killed was saved."""
        selection, sampler, objective = self.study.selections.get(trial.plain.name), None, None
        if selection and selection.in_training:
            settings = self.settings(trial)
            sampler, _ = sampler_of(selection, self.signals, settings, config=self.config, seed=trial.seed)
        if trial.distilled:
            objective = objective_for(self.study, self.config, self.taught, kept=kept, samples=len(self.data))
        run = f"{trial.selection}/{trial.seed}"
        snapshots = snapshots_of(self.store, self.study.name, run, made_of)
        with trackers_of(self.study.name, run, snapshots) as trackers:
            return train(
                self.data,
                self.config,
                seed=trial.seed,
                keep=None if sampler else keep,
                sampler=sampler,
                objective=objective,
                snapshots=snapshots,
                trackers=trackers,
            )

    def same(self, trial: Trial, made_of: str) -> Trial | None:
        """Another trial whose model was trained of the same inputs: all selections are one where all samples stay."""
        key = dg.AssetKey([self.study.name, "trained_model"])
        others = (other for other in self.study.trials if other.seed == trial.seed and other != trial)
        return next((o for o in others if record_of(self.store.find(key, o)).get("fingerprint") == made_of), None)

    def settings(self, trial: Trial) -> Mapping[str, Any]:
        """Settings that the trial's subset was chosen with."""
        found: Mapping[str, Any] = self.store.load(dg.AssetKey([self.study.name, "subset_settings"]), trial)
        return found

    def fingerprint(self, trial: Trial, keep: np.ndarray) -> str:
        """Of everything that the model follows from: data, samples or sampler, config, seed, teacher, versions."""
        parts: dict[str, Any] = {"keep": keep}
        selection = self.study.selections.get(trial.plain.name)
        if selection and selection.in_training:
            scores = self.signals[selection.score] if selection.score else np.empty(0)
            parts |= {"sampler": selection.selector, "settings": self.settings(trial), "scores": np.asarray(scores)}
        if trial.distilled:
            settings = tuned_settings(asked(self.study), self.taught).model_dump(mode="json")
            parts |= {"distillation": {name: value for name, value in settings.items() if name != "selections"}}
            parts |= {"teacher": fingerprint([self.taught["teacher"]])}
        parts["config"] = self.config.model_dump(mode="json", exclude={"loading", "workers"})
        parts |= {"seed": trial.seed, "processes": self.study.compute.processes}
        return fingerprint_of(**parts, **data_parts(self.study, self.source))


def record_of(folder: Path | None) -> dict[str, Any]:
    """What is known of the training of the model in a folder; empty where it has no record."""
    if folder is None or not (folder / RECORD).exists():
        return {}
    found: dict[str, Any] = json.loads((folder / RECORD).read_text())
    return found


def trained_outcome(folder: Path | None) -> Outcome:
    """The outcome, without metrics, of the training of the model in a folder; raises ValueError where it has none."""
    return Outcome.read(record_of(folder).get("outcome"), f"{folder}/{RECORD}")


def launch_trial(
    context: dg.AssetExecutionContext, trials: "Trials", trial: Trial, keep: np.ndarray, *, kept: int, name: str
) -> Trained:
    """A trial of a study, trained in as many processes as its `compute` says.

    `name` (16 characters of it) is of everything that the model follows from: what an earlier job of the same trial
    left that was of another name is removed.
    """
    study, run = trials.study, plain(f"{trial.selection}/{trial.seed}")
    folder = (trials.store.root / study.name / ".launched" / run / name[:16]).absolute()
    for stale in folder.parent.glob("*"):
        if stale != folder:
            shutil.rmtree(stale)
    selection, parts = study.selections.get(trial.plain.name), dict[str, Any]()
    if selection and selection.in_training:
        scores = folder / "scores.npy" if selection.score else None
        if scores:
            save_array(scores, np.asarray(trials.signals[str(selection.score)]))
        described, settings = selection.model_dump(mode="json"), dict(trials.settings(trial))
        parts["sampled"] = Sampled(selection=described, settings=settings, scores=scores)
    else:
        parts["keep"] = folder / "keep.npy"
        save_array(parts["keep"], keep)
    if trial.distilled:
        parts["taught"] = Taught(
            settings=Distillation(**own(tuned_settings(asked(study), trials.taught))),
            teacher=trials.taught["teacher"].absolute(),
            logits=trials.taught["teacher_logits"].absolute() if "teacher_logits" in trials.taught else None,
            share=kept / len(keep),
        )
    parts |= {"config": trials.config, "seed": trial.seed, "curves": home() / "tensorboard" / study.name / run}
    job = TrainingJob(data=files_of(trials.data, folder), **parts)
    trained = launch(context, job, folder, study.compute.processes)
    shutil.rmtree(folder.parent)
    return trained
