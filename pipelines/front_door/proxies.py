"""Score a study's training rows in this process, in the order of the study's assets, without storing the results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from secateur.pipelines.data.preparation import write_inputs
from secateur.pipelines.data.sources import Loaded
from secateur.pipelines.front_door.progress import Bars
from secateur.pipelines.runs.possible import check_possible
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.scores import settings_of
from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.checkpoints.pvi import null_model_of
from secateur.scorers.contract import Observer, Scorer
from secateur.trainers.contract import Data
from secateur.trainers.loop.checkpoints import CheckpointWriter, load_checkpoints
from secateur.trainers.loop.train import train
from secateur.trainers.modalities.encoding import fit_encoder
from secateur.trainers.models import registry as models
from secateur.trainers.passes.embeddings import EmbeddingSettings, embed
from secateur.trainers.passes.scoring import score_rows
from secateur.trainers.processes import device_of_choice
from secateur.trainers.sparse_rows import open_inputs

ROWS = 1 << 16
"""Rows of a scoring pass between two updates of its bar."""
GRAPHS = {
    "embeddings": ("neighbour_indices", "neighbour_distances"),
    "label_free_embeddings": ("label_free_neighbours",),
}
"""Signals from the neighbour graph of each of a study's embeddings."""


def scored(study: Study, loaded: Loaded, folder: Path, seed: int, display: Bars) -> dict[str, np.ndarray]:
    """Every score of the study by name, float32 `[n]`; proxies have the seeds from `seed` on.

    The encoded inputs and the proxies are written to `folder`. Raises the errors of a run of the study.
    """
    data = encoded(study, loaded, folder)
    runs = [folder / f"seed-{seed + number}" for number in range(study.proxy_runs)]
    watched = [train_proxy(study, data, run, seed + number, display) for number, run in enumerate(runs)]
    # As in a study: means over runs in float64.
    found: dict[str, np.ndarray] = {
        name: np.asarray(np.mean([each[name] for each in watched], axis=0, dtype=np.float64), np.float32)
        for name in watched[0]
    }
    found |= passed(study, data, runs, display)
    given = signals_of(study, data, loaded, runs[0], folder, display)
    waiting = {name: score for name, score in study.computed.items() if isinstance(score.declared, Scorer)}
    while waiting:  # a score of signals may read another
        ready = {name: one for name, one in waiting.items() if not one.signals & waiting.keys()}
        for name, score in ready.items():
            assert isinstance(score.declared, Scorer)
            arguments = [found[each] if each in found else given[each] for each in score.declared.signals]
            found[name] = score.declared(*arguments, **settings_of(score))
            del waiting[name]
    return found


def encoded(study: Study, loaded: Loaded, folder: Path) -> Data:
    """The rows as memory-mapped arrays in `folder`; raises SourceError for a study that these rows do not allow."""
    task = study.task.task(loaded.label_names).fitted(loaded.targets)
    classes = len(np.unique(loaded.targets)) if loaded.targets.dtype == np.int64 else None
    check_possible(study, task.strata(loaded.targets), task.stratum_names(), classes)
    path, rows = folder / "inputs.npy", loaded.rows["train"]
    with loaded.placing("train"):
        encoder = fit_encoder(study.resolved_encoding, rows, study.read_columns.inputs)
        path = write_inputs(path, encoder, rows)
    return Data(open_inputs(path), loaded.targets, task, encoder.model_settings)


def train_proxy(study: Study, data: Data, folder: Path, seed: int, display: Bars) -> dict[str, np.ndarray]:
    """Train a proxy, with its checkpoints in `folder`; returns the scores of its observers by name."""
    assert study.proxy
    watchers: dict[str, Observer] = {}
    for name, score in study.computed.items():
        if isinstance(score.declared, type):
            watchers[name] = score.declared(len(data), device_of_choice(), **settings_of(score))
    folder.mkdir()
    trained = train(
        data,
        study.proxy.training,
        seed=seed,
        observers=list(watchers.values()),
        device=device_of_choice(),
        progress=display.start(None, f"training the proxy, seed {seed}"),
        checkpoint=CheckpointWriter(folder, study.checkpoints),
    )
    models.save(trained.model, folder, study.proxy.training, data.inputs.shape[1:])
    return {name: watcher.scores() for name, watcher in watchers.items()}


def passed(study: Study, data: Data, runs: list[Path], display: Bars) -> dict[str, np.ndarray]:
    """Scores of checkpoints, from one pass over the rows."""
    configured = {
        name: (score.declared, settings_of(score))
        for name, score in study.computed.items()
        if isinstance(score.declared, CheckpointScorer)
    }
    if not configured:
        return {}
    loaded, device = [load_checkpoints(run) for run in runs], device_of_choice()
    told = display.start(None, "scoring")
    parts: list[Mapping[str, np.ndarray]] = []
    for start in range(0, len(data), ROWS):
        rows = np.arange(start, min(start + ROWS, len(data)), dtype=np.int64)
        parts.append(score_rows(loaded, data, rows, configured, device=device))
        told(int(rows[-1]) + 1, len(data))
    return {name: np.concatenate([part[name] for part in parts]) for name in configured}


def signals_of(
    study: Study, data: Data, loaded: Loaded, run: Path, folder: Path, display: Bars
) -> dict[str, np.ndarray]:
    """Inputs of scorers of signals besides scores: from the targets, and from the first proxy's embeddings."""
    strata = data.task.strata(data.targets)
    null = null_model_of(strata, len(data.task.stratum_names()))
    given: dict[str, Any] = {"labels": strata, "strata": strata, "null_log_probabilities": null}
    given["memberships"] = data.task.memberships(data.targets)
    texts = None if study.read_columns.text is None else loaded.train[study.read_columns.text]
    for name, made in GRAPHS.items():
        if name not in study.signals:
            continue
        display.stage("embedding")
        assert isinstance(study.embeddings, EmbeddingSettings)
        settings = study.embeddings.model_copy(update={} if name == "embeddings" else {"kind": "sklearn"})
        read = {"model": models.load(run)} if settings.kind == "proxy" else {} if texts is None else {"texts": texts}
        given[name] = joined(embed(settings, data, **read, device=device_of_choice()), folder / name)
        if study.signals.intersection(made):
            from secateur.scorers.geometry.neighbours import nearest_neighbours

            display.stage("looking for neighbours")
            graph = nearest_neighbours(given[name], **study.neighbours.model_dump(exclude={"label_free"}))
            given |= dict(zip(made, (graph.indices, graph.distances), strict=False))
    given.setdefault("label_free_neighbours", given.get("neighbour_indices"))
    return given


def joined(blocks: Any, path: Path) -> np.ndarray:
    """Write blocks of vectors as one array in a file, with one block in memory at a time."""
    width, kind = 0, np.dtype(np.float16)
    with path.open("wb") as file:
        for block in blocks:
            width, kind = block.shape[1], block.dtype
            file.write(np.ascontiguousarray(block).data)
    return np.memmap(path, kind, "r").reshape(-1, width)
