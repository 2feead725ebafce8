"""Models of a study that an audit can ask, where the store has them: proxies of folds, and models of everything.

A label is judged by proxies that did not learn from its row, and what leaked rows are worth by the networks that the
study reports. Where the store lacks them, or has them of other rows, the cheap model answers, and the reason says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from jaxtyping import Float, Float64

from secateur.pipelines.audits.contract import TEST, TRAIN, AuditRows
from secateur.pipelines.audits.memory import hashes_of
from secateur.pipelines.storage.ledger import digest_of
from secateur.pipelines.storage.records import StoredError
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.scorers.contract import NotFinite
from secateur.trainers.tasks.contract import Task

if TYPE_CHECKING:
    from secateur.trainers.contract import Data

Predictions = Float64[np.ndarray, "n width"]
"""Probabilities, and numbers in the user's units."""


@dataclass(frozen=True)
class StudyModels:
    """What models of a study say: `training` of every training row by models that did not learn from it, and `test` of
    the test rows, by each model that was trained on everything; None and none where there are no such models."""

    training: Predictions | None = None
    test: Sequence[Predictions] = ()
    notes: tuple[str, ...] = ()
    """Which model judges, in words, and why where it is not the study's."""

    @property
    def name(self) -> str:
        """The models of everything, in words."""
        return f"the study's model trained on everything{f', {len(self.test)} seeds' * (len(self.test) > 1)}"


def models_of(study: Study, store: Store, rows: AuditRows) -> StudyModels:
    """Ask the models of a study that are in the store and were made for these rows."""
    if study.task.own or not study.task.declared.learns_target:
        return StudyModels()
    training, why_not = None, why_no_proxy(study, store)
    test, why_no_test = list[Predictions](), ""
    if not why_not:
        try:
            training = by_proxies(study, store, rows)
        except (StoredError, NotFinite) as error:
            why_not = str(error)
    if not (trials := whole_trials(study, store)):
        why_no_test = "the study has no model yet that was trained on everything"
    else:
        try:
            test = by_whole(study, store, rows, trials)
        except (StoredError, NotFinite) as error:
            why_no_test = str(error)
    folds = study.proxy.folds if study.proxy else None
    says = (
        f"labels: training rows are judged by the study's proxies of {folds} folds, each row by those that did not "
        "learn from it"
        if not why_not
        else f"labels: judged by a cheap model: {why_not}"
    )
    tells = f"leaks: accuracy is that of a cheap model: {why_no_test}" if why_no_test else ""
    return StudyModels(training, test, tuple(filter(None, (says, tells))))


def why_no_proxy(study: Study, store: Store) -> str:
    """Why the study's proxies judge no label; empty where they do."""
    if study.proxy is None:
        return "the study has no proxy"
    if not study.proxy.folds:
        return "the study's proxy learned from every row; with proxy: {folds: 5} each row has proxies that did not"
    keys = [(study.name, "proxy_folds"), *((study.name, "proxy", run) for run in study.proxies)]
    if not all(store.find(key) for key in keys):
        return "the study's proxies are not trained yet"
    return "" if store.holds((study.name, "proxy_folds")) else "the study's proxies were trained on other rows"


def whole_trials(study: Study, store: Store) -> list[Trial]:
    """Trials of everything whose model and evaluation are in the store, made for the samples that it holds now."""
    trials = [trial for trial in study.trials if trial.selection == study.references[0]]
    named = (study.name, "trained_model"), (study.name, "evaluation")
    return [trial for trial in trials if all(store.holds(key, trial) for key in named)]


def identity_of(study: Study, store: Store) -> str:
    """Digest of all that `models_of` would ask, by the store's records: an audit by others is out of date. Empty of a
    study's own task, whose models nobody asks."""
    if study.task.own:
        return ""
    proxies = [] if why_no_proxy(study, store) else [store.content((study.name, "proxy", run)) for run in study.proxies]
    whole = [store.content((study.name, "trained_model"), trial) for trial in whole_trials(study, store)]
    return digest_of(proxies=proxies, whole=whole)


def split_in(study: Study, store: Store, rows: AuditRows, part: int) -> Data:
    """A split as networks read it; StoredError where the store has it of other rows than the audit."""
    from secateur.pipelines.runs.arrays import data_of

    prefix = "" if part == TRAIN else "test_"
    inputs, samples = (store.load((study.name, f"{prefix}{name}")) for name in ("inputs", "samples"))
    own = hashes_of(rows).filter(pl.col("part") == part)["content_hash"]
    source: dict[str, Any] = store.load((study.name, "source"))
    alike = tuple(source["label_names"]) == tuple(rows.label_names)
    if not alike or not own.equals(samples.select("content_hash").collect()["content_hash"]):
        raise StoredError("the data have changed since the study's models were trained")
    return data_of(inputs, samples, source, "train" if part == TRAIN else "test")


def by_proxies(study: Study, store: Store, rows: AuditRows) -> Predictions:
    """What proxies of folds say of every training row."""
    from secateur.pipelines.runs.proxy import folds_in
    from secateur.trainers.judging.evaluation import mean_outputs
    from secateur.trainers.models import registry as models

    data, folds = split_in(study, store, rows, TRAIN), folds_in(study, store)
    proxies = [models.load(store.load((study.name, "proxy", run))) for run in study.proxies]
    return predicted(mean_outputs(proxies, data, np.arange(len(data)), folds), data.task)


def by_whole(study: Study, store: Store, rows: AuditRows, trials: Sequence[Trial]) -> list[Predictions]:
    """What each model that was trained on everything says of the test rows."""
    from secateur.trainers.judging.evaluation import outputs_of
    from secateur.trainers.models import registry as models

    data = split_in(study, store, rows, TEST)
    loaded = (models.load(store.load((study.name, "trained_model"), trial)) for trial in trials)
    return [predicted(outputs_of(model, data), data.task) for model in loaded]


def predicted(outputs: Float[np.ndarray, "n width"], task: Task) -> Predictions:
    """Outputs as probabilities, and of numbers in the user's units."""
    from scipy.special import expit, softmax

    wide = outputs.astype(np.float64)
    if task.target == "numbers":
        return np.asarray(task.in_units(wide))  # type: ignore[attr-defined]
    return np.asarray(softmax(wide, axis=1) if task.target == "class" else expit(wide))
