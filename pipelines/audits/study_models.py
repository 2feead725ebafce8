"""Models of a study that an audit uses, where the store has them: proxies of folds, and models of the whole data.

Proxies that did not learn from a row judge its label, and the networks that the study reports measure the worth of
leaked rows. Where the store lacks them, or has them for other rows, the cheap model replaces them, and a note says so.
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
"""Probabilities, or numbers in the user's units."""


@dataclass(frozen=True)
class StudyModels:
    """Outputs of a study's models: `training` for every training row by models that did not learn from it, and `test`
    for the test rows, by each model that was trained on the whole data; None and empty without such models.
    """

    training: Predictions | None = None
    test: Sequence[Predictions] = ()
    notes: tuple[str, ...] = ()
    """The name of the model that judges labels, and the reason where it is not the study's."""

    @property
    def name(self) -> str:
        """The name of the models of the whole data."""
        return f"the study's model trained on everything{f', {len(self.test)} seeds' * (len(self.test) > 1)}"


def models_of(study: Study, store: Store, rows: AuditRows) -> StudyModels:
    """Run the models of a study that are in the store and were made for these rows."""
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
    """Reason why the study's proxies judge no labels; empty where they do."""
    if study.proxy is None:
        return "the study has no proxy"
    if not study.proxy.folds:
        return "the study's proxy learned from every row; with proxy: {folds: 5} each row has proxies that did not"
    keys = [(study.name, "proxy_folds"), *((study.name, "proxy", run) for run in study.proxies)]
    if not all(store.find(key) for key in keys):
        return "the study's proxies are not trained yet"
    return "" if store.holds((study.name, "proxy_folds")) else "the study's proxies were trained on other rows"


def whole_trials(study: Study, store: Store) -> list[Trial]:
    """Trials of the whole data whose model and evaluation are in the store, made for its current samples."""
    trials = [trial for trial in study.trials if trial.selection == study.references[0]]
    named = (study.name, "trained_model"), (study.name, "evaluation")
    return [trial for trial in trials if all(store.holds(key, trial) for key in named)]


def identity_of(study: Study, store: Store) -> str:
    """Digest, from the store's records, of all models that `models_of` would use: an audit with another one is out of
    date. Empty for a study's own task, whose models the audit does not use.
    """
    if study.task.own:
        return ""
    proxies = [] if why_no_proxy(study, store) else [store.content((study.name, "proxy", run)) for run in study.proxies]
    whole = [store.content((study.name, "trained_model"), trial) for trial in whole_trials(study, store)]
    return digest_of(proxies=proxies, whole=whole)


def split_in(study: Study, store: Store, rows: AuditRows, part: int) -> Data:
    """A split as networks read it; raises StoredError where the store has it for other rows than the audit."""
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
    """Outputs of the proxies of folds for every training row."""
    from secateur.pipelines.runs.proxy import folds_in
    from secateur.trainers.judging.evaluation import mean_outputs
    from secateur.trainers.models import registry as models

    data, folds = split_in(study, store, rows, TRAIN), folds_in(study, store)
    proxies = [models.load(store.load((study.name, "proxy", run))) for run in study.proxies]
    return predicted(mean_outputs(proxies, data, np.arange(len(data)), folds), data.task)


def by_whole(study: Study, store: Store, rows: AuditRows, trials: Sequence[Trial]) -> list[Predictions]:
    """Outputs of each model that was trained on the whole data, for the test rows."""
    from secateur.trainers.judging.evaluation import outputs_of
    from secateur.trainers.models import registry as models

    data = split_in(study, store, rows, TEST)
    loaded = (models.load(store.load((study.name, "trained_model"), trial)) for trial in trials)
    return [predicted(outputs_of(model, data), data.task) for model in loaded]


def predicted(outputs: Float[np.ndarray, "n width"], task: Task) -> Predictions:
    """Outputs as probabilities, or as numbers in the user's units."""
    from scipy.special import expit, softmax

    wide = outputs.astype(np.float64)
    if task.target == "numbers":
        return np.asarray(task.in_units(wide))  # type: ignore[attr-defined]
    return np.asarray(softmax(wide, axis=1) if task.target == "class" else expit(wide))
