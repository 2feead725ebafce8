"""Training of one trial: the digest of its inputs, the reuse of an earlier training, and its outcome."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from secateur.pipelines.runs.choosing import sampler_of
from secateur.pipelines.runs.resumption import plain, snapshots_of, trackers_of
from secateur.pipelines.runs.teaching import asked, objective_for, tuned_settings
from secateur.pipelines.runs.worker import Sampled, Taught, TrainingJob, files_of, save_array
from secateur.pipelines.storage.epoch_table import EPOCHS, write_epochs
from secateur.pipelines.storage.home import home
from secateur.pipelines.storage.ledger import Ledger, data_parts, digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.lengths import config_at
from secateur.pipelines.studies.named_inputs import contents_of
from secateur.pipelines.studies.samples import Study
from secateur.scorers.contract import naming
from secateur.selectors.contract import resolve_keep
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.judging.outcome import TOKENS, Cost, Outcome
from secateur.trainers.loop.checkpoints import fingerprint
from secateur.trainers.loop.learning_curve import LearningCurve
from secateur.trainers.loop.shown_epochs import ShownEpochs
from secateur.trainers.loop.train import Trained, train
from secateur.trainers.models import registry as models

RECORD = "training.json"
"""File beside the model with the outcome of its training."""
KEPT_EPOCHS = 1
"""Version of the record of epochs: models of selections in training without this version are trained again."""
Launch = Callable[[TrainingJob, Path], Trained]
"""Trains a job in processes of its own, with a folder for the files that they exchange."""


@dataclass(frozen=True)
class Trials:
    """Everything that the trials of a study are trained from."""

    study: Study
    data: Data
    config: TrainingConfig
    source: Mapping[str, Any]
    signals: Mapping[str, np.ndarray]
    taught: Mapping[str, Any]
    """The teacher's files, by the names of `teacher_inputs`."""
    store: Store
    launch: Launch
    test: Data | None = None
    """Samples for evaluations during training, in studies with evaluations."""

    @property
    def key(self) -> tuple[str, ...]:
        """The asset that holds the models."""
        return (self.study.name, "trained_model")

    def train(self, trial: Trial, keep: np.ndarray) -> tuple[Outcome, str]:
        """Train a trial, unless its model is stored for the same inputs; returns the outcome without metrics, and when
        it was trained, in words."""
        made_of, trained = self.made_of(trial, keep), "before, of the same inputs"
        # All selections are the same where all samples stay.
        alike = (o for o in self.study.trials if keep.all() and o.seed == trial.seed and o != trial)

        def work() -> None:
            nonlocal trained
            trained = "now"
            self.train_anew(trial, keep, made_of)

        return trained_outcome(Ledger(self.store).once(self.key, trial, made_of, work, alike=alike)), trained

    def train_anew(self, trial: Trial, keep: np.ndarray, made_of: str) -> None:
        """Train a trial; its model and the outcome of its training go to the store."""
        selection = self.study.selections.get(trial.plain.name)
        in_training, kept = selection is not None and selection.in_training, int(keep.sum())
        if selection and in_training and selection.budget == "study":
            kept = resolve_keep(trial.keep, len(keep))
        config, launched = self.config_of(trial, keep), self.study.compute.training == "launch"
        shown = self.shown_of(trial, made_of) if in_training else None
        with naming(trial.title):
            trained = (self.train_launched if launched else self.train_here)(trial, keep, kept, made_of, shown)
        seen, seconds = trained.samples_seen, round(trained.seconds, 3)
        # Without cached logits the teacher runs on every batch, too.
        forward = 2 * seen if trial.distilled and "teacher_logits" not in self.taught else seen
        facts: dict[str, Any] = {
            "kept": kept,
            "of": len(keep),
            "in_training": in_training,
            "compare_at": f"equal {config.length}",
            "compute": {"training": Cost(forward, seen, seconds)},
            "seconds": seconds,
        }
        told: dict[str, Any] = {"curve": [asdict(point) for point in trained.curve]} if trained.curve else {}
        told |= {TOKENS: trained.tokens_seen} if trained.tokens_seen else {}
        if told:
            facts["facts"] = told
        with self.store.folder(self.key, trial) as folder:
            save_trained(folder, trained, outcome_of(trained).model_copy(update=facts), config, self.data)
            if shown is not None:
                write_epochs(folder / EPOCHS, shown.all(trained.epoch_samples), len(keep))
        if shown is not None:
            shown.remove()

    def shown_of(self, trial: Trial, made_of: str) -> ShownEpochs:
        """Place for the samples of a trial's epochs until its training has ended."""
        run = f"{trial.selection}/{trial.seed}"
        return ShownEpochs(snapshots_of(self.store, self.study.name, run, made_of).folder.absolute() / "epochs")

    def train_here(
        self, trial: Trial, keep: np.ndarray, kept: int, made_of: str, shown: ShownEpochs | None = None
    ) -> Trained:
        """Train a trial in this process, from the last snapshot of a killed run if there is one."""
        selection, sampler, objective = self.study.selections.get(trial.plain.name), None, None
        config = self.config_of(trial, keep)
        if selection and selection.in_training:
            settings = self.settings(trial)
            sampler, _ = sampler_of(selection, self.signals, settings, config=config, seed=trial.seed)
        if trial.distilled:
            objective = objective_for(self.study, config, self.taught, kept=kept, data=self.data)
        run = f"{trial.selection}/{trial.seed}"
        snapshots, curve = snapshots_of(self.store, self.study.name, run, made_of), None
        if self.test is not None and (evaluations := self.evaluations(trial, keep)):
            curve = LearningCurve(partial(evaluate, data=self.test), evaluations)
        with trackers_of(self.study.name, run, snapshots) as trackers:
            return train(
                self.data,
                config,
                seed=trial.seed,
                keep=None if sampler else keep,
                sampler=sampler,
                objective=objective,
                snapshots=snapshots,
                trackers=trackers,
                curve=curve,
                shown=shown,
            )

    def whole(self, trial: Trial, keep: np.ndarray) -> bool:
        """Whether a trial trains on all samples: then all selections are the same, and so are both lengths."""
        selection = self.study.selections.get(trial.plain.name)
        return bool(keep.all()) and not (selection and selection.in_training)

    def config_of(self, trial: Trial, keep: np.ndarray) -> TrainingConfig:
        """The training config of a trial, with its length."""
        return self.config if self.whole(trial, keep) else config_at(self.config, trial, len(keep))

    def evaluations(self, trial: Trial, keep: np.ndarray) -> int:
        """Number of evaluations during the training of a trial; none for the twins at equal steps."""
        if self.whole(trial, keep):
            return self.study.evaluations_of("full")
        return 0 if trial.at_steps else self.study.evaluations_of(trial.plain.name)

    def train_launched(
        self, trial: Trial, keep: np.ndarray, kept: int, made_of: str, shown: ShownEpochs | None = None
    ) -> Trained:
        """Train a trial in as many processes as the study's `compute` sets.

        Removes folders of earlier jobs of the same trial from other inputs.
        """
        study, run = self.study, plain(f"{trial.selection}/{trial.seed}")
        folder = (self.store.root / study.name / ".launched" / run / made_of[:16]).absolute()
        for stale in folder.parent.glob("*"):
            if stale != folder and stale.is_dir():  # a file browser may have left a file of its own
                shutil.rmtree(stale)
        selection, parts = study.selections.get(trial.plain.name), dict[str, Any]()
        if selection and selection.in_training:
            scores = folder / "scores.npy" if selection.score else None
            if scores:
                save_array(scores, np.asarray(self.signals[str(selection.score)]))
            described, settings = selection.model_dump(mode="json"), dict(self.settings(trial))
            parts["sampled"] = Sampled(selection=described, settings=settings, scores=scores)
        else:
            parts["keep"] = folder / "keep.npy"
            save_array(parts["keep"], keep)
        if trial.distilled:
            parts["taught"] = Taught(
                settings=tuned_settings(asked(study), self.taught),
                teacher=self.taught["teacher"].absolute(),
                logits=self.taught["teacher_logits"].absolute() if "teacher_logits" in self.taught else None,
                share=kept / len(keep),
            )
        if self.test is not None and (evaluations := self.evaluations(trial, keep)):
            parts |= {"test": files_of(self.test, folder, "test_"), "evaluations": evaluations}
        parts |= {"config": self.config_of(trial, keep), "seed": trial.seed, "shown": shown and shown.folder}
        parts["curves"] = home() / "tensorboard" / study.name / run
        trained = self.launch(TrainingJob(data=files_of(self.data, folder), **parts), folder)
        shutil.rmtree(folder.parent)
        return trained

    def settings(self, trial: Trial) -> Mapping[str, Any]:
        """Settings that chose the trial's subset."""
        settings: Mapping[str, Any] = self.store.load((self.study.name, "subset_settings"), trial)
        return settings

    def made_of(self, trial: Trial, keep: np.ndarray) -> str:
        """Digest of everything that the model depends on: data, samples or sampler, config, seed, teacher, versions."""
        parts: dict[str, Any] = {"keep": keep}
        selection = self.study.selections.get(trial.plain.name)
        if selection and selection.in_training:
            scores = self.signals[selection.score] if selection.score else np.empty(0)
            parts |= {"sampler": selection.selector, "settings": self.settings(trial), "scores": np.asarray(scores)}
            parts |= {"version": selection.declared.version, "epochs": KEPT_EPOCHS}
        if trial.distilled:
            parts["distillation"] = tuned_settings(asked(self.study), self.taught).model_dump(mode="json")
            parts["teacher"] = fingerprint([self.taught["teacher"]])
            parts["teacher_code"] = contents_of(models.config_in(self.taught["teacher"]))
        if evaluations := self.evaluations(trial, keep):
            parts["evaluations"] = evaluations
        parts["config"] = self.config_of(trial, keep).model_dump(mode="json", exclude={"loading", "workers"})
        parts |= {"seed": trial.seed, "processes": self.study.compute.processes}
        return digest_of(**parts, **data_parts(self.study, self.source, self.config))


def outcome_of(trained: Trained) -> Outcome:
    """The outcome, without metrics, of a training of all samples."""
    return Outcome(
        steps=trained.steps,
        epochs=trained.epochs,
        samples_seen=trained.samples_seen,
        compute={"training": Cost.of(trained)},
        seconds=trained.seconds,
    )


def save_trained(folder: Path, trained: Trained, outcome: Outcome, config: TrainingConfig, data: Data) -> None:
    """Write the model of a training and its outcome; `models.load` and `trained_outcome` read them back."""
    models.save(trained.model.cpu(), folder, config, data.inputs.shape[1:])
    (folder / RECORD).write_text(outcome.model_dump_json(indent=2) + "\n")


def trained_outcome(folder: Path) -> Outcome:
    """The outcome of the training of the model in a folder; raises ValueError for a file that is no outcome."""
    return Outcome.read(json.loads((folder / RECORD).read_text()), f"{folder}/{RECORD}")
