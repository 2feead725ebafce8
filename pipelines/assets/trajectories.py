"""The asset of loss trajectories: each training sample's loss at every checkpoint of the proxy, for S2L."""

import shutil
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
import numpy as np

from secateur.pipelines.assets.asset import key_of, study_asset
from secateur.pipelines.assets.facts import rounded
from secateur.pipelines.assets.resources import ProgressDisplay, version_of
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.block_arrays import in_blocks
from secateur.pipelines.runs.proxy import identity_of
from secateur.pipelines.storage.ledger import Ledger, data_parts, digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.scorers.checkpoints.checkpoint_loss import checkpoint_loss
from secateur.trainers.judging.outcome import Cost
from secateur.trainers.loop.checkpoints import load_checkpoints
from secateur.trainers.passes.scoring import score_rows
from secateur.trainers.processes import device_of_choice

BLOCK = 4096
"""Samples in one written block of losses."""


def trajectories_asset(study: Study) -> dg.AssetsDefinition:
    """Losses at every checkpoint, committed block by block."""
    key, name = key_of(study, "loss_trajectories"), "loss_trajectories"

    @study_asset(
        study, name, ins=("inputs", "samples", "source", "proxy"),
        description="Loss of each training sample at every checkpoint of the proxy, oldest first, in evaluation mode; "
        "the mean over proxies. float32.",
        accelerated=True,
    )  # fmt: skip
    def loss_trajectories(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        **loaded: Any,
    ) -> dg.MaterializeResult:
        started, data = time.perf_counter(), data_of(loaded["inputs"], loaded["samples"], loaded["source"])
        folders = [loaded["proxy"] / run for run in study.proxies]
        costs, count, resumed = key_of(study, "loss_trajectories_cost"), len(data), 0
        made_of = digest_of(weights=identity_of(study, folders), **data_parts(study, loaded["source"]))

        def blocks(first: int) -> Iterator[np.ndarray]:
            told = secateur_progress.start(context, "loss curves")
            ages = list(zip(*(load_checkpoints(folder) for folder in folders), strict=True))
            for start in range(first * BLOCK, count, BLOCK):
                rows = np.arange(start, min(start + BLOCK, count))
                losses = [
                    score_rows(
                        [[one] for one in age], data, rows, {"loss": (checkpoint_loss, {})}, device=device_of_choice()
                    )["loss"]
                    for age in ages
                ]
                yield np.stack(losses, axis=1)
                told(int(rows[-1]) + 1, count)

        def work() -> None:
            nonlocal resumed
            folder = secateur_store.root / study.name / f".{name}"
            joined, resumed = in_blocks(folder, made_of, count, BLOCK, blocks)
            passes = len(folders) * np.load(joined, mmap_mode="r").shape[1]
            secateur_store.save(key, joined)
            shutil.rmtree(folder)
            seconds = (time.perf_counter() - started) * count / max(1, count - resumed * BLOCK)
            secateur_store.save(costs, vars(Cost(forward=count * passes, seconds=seconds)))

        whole = Ledger(secateur_store).once(key, None, made_of, work, beside=[costs])
        return dg.MaterializeResult(
            data_version=version_of(whole),
            metadata={
                "checkpoints": whole.shape[1],
                "dagster/row_count": count,
                "blocks resumed": resumed,
                "seconds": rounded(time.perf_counter() - started),
            },
        )

    return loss_trajectories
