"""Forecast of a study's trainings, from earlier trials or from a short training."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from secateur.pipelines.data.columns import COMPLETION_TOKENS
from secateur.pipelines.data.source_kinds.files import find
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.deciding import fitted_task
from secateur.pipelines.runs.outcomes import outcomes_in
from secateur.pipelines.runs.possible import learned_from
from secateur.pipelines.runs.units_of_rows import amount_faults
from secateur.pipelines.storage.records import records_below
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.lengths import config_at
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.signals import EPOCH_MANIFEST
from secateur.pipelines.studies.study import AnyStudy
from secateur.selectors.contract import nearest
from secateur.selectors.whole_units import Units
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation.tuning import students_of_tuning
from secateur.trainers.loop.train import Trained, fresh_model, train
from secateur.trainers.tasks.token_roles import token_counts

LARGEST = 1 << 25
"""Most bytes of source files to read for a measurement; more would take too long for a forecast."""
TABLES = ("csv", "jsonl", "parquet")
"""Kinds of sources whose size is known before reading."""
FILES = ("trained_model", "pruned", "evaluation", "manifest", EPOCH_MANIFEST, "subset")
"""Assets that hold the files of trials."""
PROBED = 4096
"""Most samples that a measurement trains on."""
MANY = 10**9
"""Stands for an unknown number of samples: any budget is a part of it."""
LONG_ENOUGH = 0.5
"""Seconds of training that a measurement takes."""


@dataclass(frozen=True)
class Rate:
    """Speed of a study's trainings."""

    seconds: float
    """Seconds per sample, or per whole trial where `samples` is None."""
    samples: int | None
    """Training samples of the study."""
    trial_bytes: int
    """Bytes of the files of a trial."""
    of: str
    """Origin of the numbers."""


def past_rate(study: AnyStudy, store: Store) -> Rate | None:
    """The rate of earlier trials of the study, with the same settings or not; None where there are none."""
    key = (study.name, study.outcome_asset)
    made = [trial for trial in study.trials if store.find(key, trial)]
    outcomes = outcomes_in(study, {trial: store.load(key, trial) for trial in made}) if made else {}
    if not outcomes:
        return None
    records = (record for name in FILES for record in records_below(store.root, (study.name, name)))
    size, told = sum(record.bytes for record in records), f"trials of this study made before ({len(made)})"
    if isinstance(study, Study):
        rates = [one.seconds / one.samples_seen for one in outcomes.values() if one.samples_seen]
        if rates:
            samples = next(one.of for one in outcomes.values())
            return Rate(median(rates), samples, size // len(made), told)
    return Rate(sum(one.seconds for one in outcomes.values()) / len(outcomes), None, size // len(made), told)


def probed_rate(study: Study, whole: Data) -> Rate:
    """The rate of a training of the study's model on some samples, which takes about half a second and keeps nothing.
    The samples come from all parts of the data; other rows are not read."""
    data = whole.take(np.unique(np.linspace(0, len(whole) - 1, min(len(whole), PROBED)).astype(np.int64)))

    def trained(steps: int) -> Trained:
        config = study.training.model_copy(update={"steps": steps, "epochs": None, "compile": False})
        return train(data, config, seed=0)

    trained(1)  # the first call loads libraries
    tried, steps = trained(4), 16
    while tried.seconds < LONG_ENOUGH and steps <= 1 << 12:
        tried, steps = trained(steps), 4 * steps
    size = sum(weight.numel() * weight.element_size() for weight in tried.model.state_dict().values())
    told = f"a training that was cut short after {tried.seconds:.1f} s"
    return Rate(tried.seconds / tried.samples_seen, len(whole), size, told)


def data_at_hand(study: Study, base: Path, store: Store) -> Data | None:
    """The training samples as arrays: from the store, or read anew from a small source; else None."""
    if study.task.own:
        return Data.of(study.own_task(), "train")
    keys = [(study.name, name) for name in ("inputs", "samples", "source")]
    if all(store.find(key) for key in keys):
        return data_of(*(store.load(key) for key in keys))
    if study.source is None or not is_small(study, base):
        return None
    from secateur.pipelines.data.sources import load
    from secateur.trainers.modalities.encoding import encoded_rows, fit_encoder

    with TemporaryDirectory() as cache:
        loaded = load(study.read_source, study.read_columns, base, Path(cache), study.data)
        task, rows = fitted_task(study, loaded)[0], loaded.rows
        with loaded.placing("train"):
            encoder = fit_encoder(study.resolved_encoding, rows["train"], study.read_columns.inputs)
            inputs = encoded_rows(encoder, rows["train"])
        return Data(inputs, loaded.targets, task, encoder.model_settings)


def refuse_amounts(study: Study, data: Data) -> None:
    """Raise ValueError for budgets of completion tokens that the samples, each by itself, cannot meet."""
    if study.cost_column != COMPLETION_TOKENS:
        return
    counts = token_counts(data.inputs)
    if faults := list(amount_faults(study, Units.made_of(len(counts), None, counts))):
        raise ValueError("; ".join(faults))


def why_unknown(study: Study, base: Path) -> str:
    """The reason why a forecast tries no training: it would have to read the data first, which takes long."""
    kind = study.read_source.kind
    many = f"its files are more than {LARGEST >> 20} MB" if kind in TABLES else f"its data is of kind {kind}"
    return (
        f"{many} and was not prepared here yet, so how many samples there are and how wide they are shows when it is "
        f"read: after secateur score {study.name} this command measures"
    )


def is_small(study: Study, base: Path) -> bool:
    """Whether the source comes with a library, or its files are small."""
    read: Any = study.source
    if read.kind in ("digits", "diabetes"):
        return True
    if read.kind not in TABLES:
        return False
    named = [value for value in (read.train, getattr(read, "test", None)) if value]
    texts = [text for value in named for text in ([value] if isinstance(value, str) else value)]
    return sum(path.stat().st_size for path in find(texts, base, "train")) <= LARGEST


def samples_seen(config: TrainingConfig, kept: int) -> int:
    """Samples that a training works through."""
    return config.total_steps(kept) * min(config.batch_size, kept)


def seconds_of_trials(study: AnyStudy, trials: Iterable[Trial], rate: Rate) -> float:
    """Seconds of the trainings of some trials together."""
    listed = list(trials)
    if rate.samples is None or not isinstance(study, Study):
        return rate.seconds * len(listed)
    samples = rate.samples
    lengths = [(config_at(study.training, trial, samples), study.rows_about(trial.keep, samples)) for trial in listed]
    return rate.seconds * sum(samples_seen(config, kept) for config, kept in lengths)


def other_trainings(study: Study, samples: int) -> dict[str, list[int]]:
    """Samples that each training besides those of the trials works through, by its asset.

    `samples` are those of the study's training split; with MANY, for an unknown number, only the number of trainings
    is right.
    """
    proxy = study.proxy
    found = {
        "proxy": [samples_seen(proxy, learned_from(samples, proxy.folds))] * len(study.proxies) if proxy else [],
        "tuning": [samples_seen(study.training, kept) for kept in trainings_of_tuning(study, samples)],
    }
    if not (settings := study.distillation):
        return found
    if not isinstance(settings.teacher, Path):
        found["teacher"] = [samples_seen(settings.config_for(study.training), samples)]
    if settings.tune:
        learned = max(1, int(samples * (1 - study.validation.fraction)))
        shares = sorted({study.rows_about(each, samples) / samples for each in study.keep})
        tempered = study.own_task().tempered if study.task.own else study.task.declared.tempered
        students = students_of_tuning(shares, study.validation.seeds, tempered=tempered)
        seen = [samples_seen(study.training, max(1, nearest(share, learned))) for share in students]
        found["distillation_tuning"] = [samples_seen(settings.config_for(study.training), learned), *seen]
    return found


def trainings_of_tuning(study: Study, samples: int) -> list[int]:
    """Samples kept of each training that tunes settings."""
    learned = int(samples * (1 - study.validation.fraction))
    kept = []
    for selection in study.selections.values():
        if not selection.in_training and selection.untuned:
            candidates = math.prod(len(selection.static.tunable[name]) for name in selection.untuned)
            budgets = [keep for keep in study.keep if study.rows_about(keep, samples) < samples]
            kept += [study.rows_about(keep, samples) * learned // samples for keep in budgets] * (
                candidates * study.validation.seeds
            )
    return [max(1, count) for count in kept]


def memory_of(study: Study, data: Data, libraries: int) -> dict[str, int]:
    """Least bytes of memory, by use: libraries, the samples, the largest of the trainings.

    `samples` are the bytes of all encoded rows and their targets; `training` those of the largest network's weights,
    gradients and optimiser state. Activations come on top, for only a training would show them. Samples of a user's
    own task count nothing, for its data set decides how it holds them.
    """
    configs = [study.training, *([study.proxy] if study.proxy else [])]
    if (taught := study.distillation) and not isinstance(taught.teacher, Path):
        configs.append(taught.config_for(study.training))
    samples = 0 if study.task.own else data.inputs.nbytes + data.targets.nbytes
    return {"libraries": libraries, "samples": samples, "training": max(bytes_of(data, each) for each in configs)}


def bytes_of(data: Data, config: TrainingConfig) -> int:
    """Bytes of a fresh network of a config, its gradients and the state of its optimiser."""
    model = fresh_model(data, config, 0)
    kept = {"adamw": 2, "sgd": int(config.momentum > 0)}[config.optimiser] + (config.pull > 0)
    learned = sum(weight.numel() * weight.element_size() for weight in model.parameters() if weight.requires_grad)
    held: int = sum(one.numel() * one.element_size() for one in model.state_dict().values())
    return held + (1 + kept) * learned
