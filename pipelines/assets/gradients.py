"""The asset of similarities between training rows and the target by gradients of a proxy's last layer."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from secateur.pipelines.assets.asset import key_of, study_asset
from secateur.pipelines.assets.facts import rounded
from secateur.pipelines.assets.resources import ProgressDisplay, version_of
from secateur.pipelines.data.scan import on_disk
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.block_arrays import in_blocks
from secateur.pipelines.runs.own_target import target_of
from secateur.pipelines.runs.proxy import identity_of
from secateur.pipelines.runs.target_signals import StoredTarget, places_for
from secateur.pipelines.storage.ledger import data_parts, digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.scorers.target.cosines import Cosines, MeanCosines, VectorCosines
from secateur.scorers.target.gradient_cosines import Factors, GradientCosines
from secateur.trainers.contract import Data
from secateur.trainers.judging.outcome import Cost
from secateur.trainers.loop.checkpoints import load_checkpoints
from secateur.trainers.passes.last_layer import last_layer_factors
from secateur.trainers.processes import device_of_choice
from secateur.trainers.sparse_rows import inputs_at, open_inputs
from secateur.trainers.tasks.registry import task_from

INPUTS, TARGETS = "inputs.npy", "targets.npy"
"""File names of the target's arrays, in the folder of its rows."""
BLOCK = 1024
"""Rows in one written block of sketches."""
Told = Callable[[int, int], None]


def target_data(folder: Path, source: Mapping[str, Any]) -> Data:
    """The target's rows as inputs of networks; missing targets become 0."""
    inputs, path = open_inputs(inputs_at(folder / INPUTS)), folder / TARGETS
    task = task_from(source["task"])
    targets = np.load(path) if path.exists() else np.zeros(len(inputs), np.int64)
    return Data(inputs, targets, task, source.get("model_settings", {}))


def gradients_asset(study: Study, depth: Callable[[int], int | None]) -> dg.AssetsDefinition:
    """The rank of training rows by similarity to the target, by gradients of the proxies' last layer."""
    target, key = target_of(study), key_of(study, "gradient_places")

    @study_asset(
        study, "gradient_places", ins=("target", "inputs", "samples", "source", "proxy"),
        description="Place of each row in the order in which the target takes them, by the cosine of the gradients of "
        "the last layer, the mean over the proxies' checkpoints.",
        accelerated=True,
    )  # fmt: skip
    def gradient_places(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        **loaded: Any,
    ) -> dg.MaterializeResult:
        started, source = time.perf_counter(), loaded["source"]
        pool, stored = data_of(loaded["inputs"], loaded["samples"], source), StoredTarget(loaded["target"])
        queries, scratch = target_data(stored.folder, source), secateur_store.root / study.name / ".gradients"
        told = secateur_progress.start(context, "gradients")
        folders = [loaded["proxy"] / run for run in study.proxies]
        checkpoints = [model for folder in folders for model in load_checkpoints(folder)]
        if "token_logits" in pool.task.provides:
            made_of = digest_of(weights=identity_of(study, folders), **data_parts(study, source))
            cosines = by_sketches(checkpoints, pool, queries, scratch, made_of, told)
        else:
            cosines = by_factors(checkpoints, pool, queries, scratch, told)
        values = places_for(stored, target, cosines, depth(len(pool)))
        shutil.rmtree(scratch, ignore_errors=True)
        seconds, rows = time.perf_counter() - started, len(checkpoints) * (len(pool) + len(queries))
        secateur_store.save(key_of(study, "gradient_places_cost"), vars(Cost(forward=rows, seconds=seconds)))
        facts = {"dagster/row_count": len(values), "checkpoints": len(checkpoints), "seconds": rounded(seconds)}
        return dg.MaterializeResult(key, value=values, data_version=version_of(values), metadata=facts)

    return gradient_places


def by_factors(checkpoints: list[Any], pool: Data, queries: Data, folder: Path, told: Told) -> Cosines:
    """Exact cosines, for a last layer with one input vector per row."""
    pairs = []
    for number, model in enumerate(checkpoints):
        pairs.append((factors_of(model, pool, folder), factors_of(model, queries, folder)))
        told(number + 1, len(checkpoints))
    return GradientCosines(*zip(*pairs, strict=True))


def factors_of(model: Any, data: Data, folder: Path) -> Factors:
    """Factors of all rows' gradients at a checkpoint, float32, in unnamed temporary files of a folder."""
    whole: Factors | None = None
    for rows, part in last_layer_factors(model, data, device=device_of_choice()):
        if whole is None:
            errors, features = (on_disk((len(data), each.shape[1]), np.float32, folder) for each in vars(part).values())
            whole = Factors(errors, features)
        whole.errors[rows], whole.features[rows] = part.errors, part.features
    assert whole is not None
    return whole


def by_sketches(checkpoints: list[Any], pool: Data, queries: Data, folder: Path, made_of: str, told: Told) -> Cosines:
    """Cosines of sketches, for a last layer with an input vector per token; reuses blocks of a killed run."""
    each, total = [], len(checkpoints) * len(pool)
    for number, model in enumerate(checkpoints):
        place = folder / f"{number:03d}"

        def counted(done: int, before: int = number * len(pool)) -> None:
            told(before + done, total)

        path, _ = in_blocks(place, made_of, len(pool), BLOCK, partial(sketches_of, model, pool, counted))
        target = np.concatenate(list(sketches_of(model, queries, None, 0)))
        each.append(VectorCosines(np.load(path, mmap_mode="r"), target))
    return MeanCosines(each) if len(each) > 1 else each[0]


def sketches_of(model: Any, data: Data, told: Callable[[int], None] | None, first: int) -> Iterator[np.ndarray]:
    """Sketches of the rows' gradients, float32, block by block from block `first` on."""
    from secateur.trainers.passes.completions import head_sketches

    for start in range(first * BLOCK, len(data), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(data)))
        yield head_sketches(model, data, rows, device_of_choice()).numpy()
        if told:
            told(int(rows[-1]) + 1)
