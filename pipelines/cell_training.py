"""Training of one cell: what it is made of, whether that was trained before, and the record of what it took."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from secateur.pipelines.cells import Cell
from secateur.pipelines.choosing import sampler_of
from secateur.pipelines.fingerprints import data_parts, fingerprint_of
from secateur.pipelines.resumption import snapshots_of, trackers_of
from secateur.pipelines.store import Store
from secateur.pipelines.study import Study
from secateur.pipelines.teacher_assets import asked, objective_for, tuned_settings
from secateur.selectors.contract import resolve_keep
from secateur.trainers import models
from secateur.trainers.checkpoints import fingerprint
from secateur.trainers.contract import Data, Recipe
from secateur.trainers.loop import Trained, train

RECORD = "training.json"
"""Beside the model: its fingerprint and what its training took."""


@dataclass(frozen=True)
class Cells:
    """All that the cells of a study are trained from."""

    study: Study
    data: Data
    recipe: Recipe
    source: Mapping[str, Any]
    signals: Mapping[str, np.ndarray]
    taught: Mapping[str, Any]
    """What was loaded of the teacher, by the names of `teacher_inputs`."""
    store: Store

    def train(self, cell: Cell, keep: np.ndarray, context: dg.AssetExecutionContext) -> dict[str, Any]:
        """Train a cell, unless its model was trained of the same; its record, `trained` telling which."""
        key, made_of = dg.AssetKey([self.study.name, "trained_model"]), self.fingerprint(cell, keep)
        if (record := record_of(self.store.find(key, cell))).get("fingerprint") == made_of:
            return {**record, "trained": "before, of the same inputs"}
        if keep.all() and (other := self.same(cell, made_of)):
            with self.store.folder(key, cell) as folder:
                shutil.copytree(self.store.place(key, other), folder, dirs_exist_ok=True)
            return {**record_of(self.store.find(key, cell)), "trained": f"as {other}, of the same inputs"}
        selection = self.study.selections.get(cell.plain.name)
        in_training, kept = selection is not None and selection.in_training, int(keep.sum())
        if selection and in_training and selection.budget == "study":
            kept = resolve_keep(cell.keep, len(keep))
        if self.study.compute.training == "launch":
            from secateur.pipelines.launch import launch_cell

            trained = launch_cell(context, self, cell, keep, kept=kept, name=made_of)
        else:
            trained = self.train_here(cell, keep, kept, made_of)
        record = {
            "fingerprint": made_of,
            "kept": kept,
            "of": len(keep),
            "in_training": in_training,
            "compare_at": f"equal {self.recipe.length}",
            "steps": trained.steps,
            "epochs": trained.epochs,
            "samples_seen": trained.samples_seen,
            # A teacher whose logits are not at hand goes over every batch, too.
            "forward": trained.samples_seen if cell.distilled and "teacher_logits" not in self.taught else 0,
            "seconds": round(trained.seconds, 3),
        }
        with self.store.folder(key, cell) as folder:
            models.save(trained.model.cpu(), folder, self.recipe, self.data.inputs.shape[1:], self.data.classes)
            (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        return {**record, "trained": "now"}

    def train_here(self, cell: Cell, keep: np.ndarray, kept: int, made_of: str) -> Trained:
        """Train a cell in this process, going on from where a run that was killed was saved."""
        selection, sampler, objective = self.study.selections.get(cell.plain.name), None, None
        if selection and selection.in_training:
            settings = self.settings(cell)
            sampler, _ = sampler_of(selection, self.signals, settings, recipe=self.recipe, seed=cell.seed)
        if cell.distilled:
            objective = objective_for(self.study, self.recipe, self.taught, kept=kept, samples=len(self.data))
        run = f"{cell.selection}/{cell.seed}"
        snapshots = snapshots_of(self.store, self.study.name, run, made_of)
        with trackers_of(self.study.name, run, snapshots) as trackers:
            return train(
                self.data,
                self.recipe,
                seed=cell.seed,
                keep=None if sampler else keep,
                sampler=sampler,
                objective=objective,
                snapshots=snapshots,
                trackers=trackers,
            )

    def same(self, cell: Cell, made_of: str) -> Cell | None:
        """Another cell whose model was trained of the same inputs: all selections are one where all samples stay."""
        key = dg.AssetKey([self.study.name, "trained_model"])
        others = (other for other in self.study.cells if other.seed == cell.seed and other != cell)
        return next((o for o in others if record_of(self.store.find(key, o)).get("fingerprint") == made_of), None)

    def settings(self, cell: Cell) -> Mapping[str, Any]:
        """Settings that the cell's subset was chosen with."""
        found: Mapping[str, Any] = self.store.load(dg.AssetKey([self.study.name, "subset_settings"]), cell)
        return found

    def fingerprint(self, cell: Cell, keep: np.ndarray) -> str:
        """Of everything that the model follows from: data, samples or sampler, recipe, seed, teacher, versions."""
        parts: dict[str, Any] = {"keep": keep}
        selection = self.study.selections.get(cell.plain.name)
        if selection and selection.in_training:
            scores = self.signals[selection.score] if selection.score else np.empty(0)
            parts |= {"sampler": selection.selector, "settings": self.settings(cell), "scores": np.asarray(scores)}
        if cell.distilled:
            settings = tuned_settings(asked(self.study), self.taught).model_dump(mode="json")
            parts |= {"distillation": {name: value for name, value in settings.items() if name != "selections"}}
            parts |= {"teacher": fingerprint([self.taught["teacher"]])}
        parts["recipe"] = self.recipe.model_dump(mode="json", exclude={"loading", "workers"})
        parts |= {"seed": cell.seed, "processes": self.study.compute.processes}
        return fingerprint_of(**parts, **data_parts(self.study, self.source))


def record_of(folder: Path | None) -> dict[str, Any]:
    """What is known of the training of the model in a folder; empty where it has no record."""
    if folder is None or not (folder / RECORD).exists():
        return {}
    found: dict[str, Any] = json.loads((folder / RECORD).read_text())
    return found
