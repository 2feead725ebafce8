"""Scoring passes on a Ray cluster: row numbers go to its processes, float32 scores come back.

Each process maps the inputs and loads the checkpoints once, from folders that every node sees. The driver commits the
scores to the score store like its own. One process computes a whole shard, in the batches and with the number of
threads of the local pass, so that the shard's file has the same bytes on processors of one kind.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from secateur.pipelines.runs.ray_cluster import answers, connected, on_shared_storage, share_and_room
from secateur.pipelines.runs.worker import DataFiles, files_of
from secateur.pipelines.storage.score_cache import ShardRows
from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.contract import Scores
from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data
from secateur.trainers.loop.checkpoints import fingerprint, load_checkpoints
from secateur.trainers.passes.folds import Folds, by_fold
from secateur.trainers.passes.scoring import Configured, score_folds, score_rows


@dataclass(frozen=True)
class ScoringJob:
    """Everything that a process needs to score any row, by names and paths that mean the same on every node."""

    data: DataFiles
    proxies: tuple[Path, ...]
    """Folders of checkpoints, one for each run of the proxy."""
    model: str
    """Fingerprint of these checkpoints."""
    scorers: Mapping[str, tuple[str, str, Mapping[str, Any]]]
    """Scorer, version and settings, by the name that the study gives the score."""
    threads: int
    """Threads of torch: another number may change the last bits of sums."""
    folds: Path | None = None
    """File of the fold of each sample, int64 `[n]`; with it the proxies of its fold score a row."""


def job_of(
    data: Data,
    folders: Sequence[Path],
    model: str,
    configured: Mapping[str, Configured],
    place: Path,
    folds: Path | None = None,
) -> ScoringJob:
    """The job that scores rows of `data` by the checkpoints in `folders`; data without a file get one in `place`."""
    return ScoringJob(
        data_files(data, place),
        tuple(folder.resolve() for folder in folders),
        model,
        {name: (each.card.name, each.card.version, settings) for name, (each, settings) in configured.items()},
        torch.get_num_threads(),
        folds and folds.resolve(),
    )


def data_files(data: Data, place: Path) -> DataFiles:
    """Files from which processes read the data; data without a file get one in a folder of `place`."""
    return files_of(data, place / xxhash.xxh3_128_hexdigest(np.ascontiguousarray(data.targets).data))


@dataclass
class RayPass:
    """Scores parts on the Ray cluster at `address` (RAY_ADDRESS if None); a `Pass` of the score store."""

    job: ScoringJob
    address: str | None = None
    nodes: dict[str, list[int]] = field(default_factory=dict)
    """First rows of the shards that each node computed, by the node's id; calls fill it."""

    def __call__(self, parts: Sequence[ShardRows]) -> Iterator[tuple[ShardRows, Mapping[str, Scores]]]:
        """Each part with its scores, in the order in which processes finish; without parts it needs no cluster.

        Raises ModuleNotFoundError without the extra, ConnectionError where no cluster answers and RuntimeError for the
        first part that a process could not score.
        """
        if not parts:
            return
        with connected(self.address) as ray:
            share, room = share_and_room(ray.nodes(), self.job.threads)
            work = Scoring(self.job, "cuda" if "num_gpus" in share else "cpu")
            units = [(part.rows, part.names) for part in parts]
            for answer in answers(ray, work, units, share, room, self.job.threads, actors=True):
                part = parts[answer.number]
                if answer.error is not None:
                    said = f"{type(answer.error).__name__}: {answer.error}"
                    error = RuntimeError(f"scoring rows from {part.start} on Ray node {answer.node}: {said}")
                    error.add_note(answer.trace)
                    raise error
                self.nodes.setdefault(answer.node, []).append(part.start)
                yield part, answer.result


class Scoring:
    """The work of a process: it loads data, checkpoints and scorers with the first shard, and keeps them."""

    def __init__(self, job: ScoringJob, device: str) -> None:
        self.job, self.device = job, device

    def __call__(self, unit: tuple[np.ndarray, list[str]]) -> Mapping[str, Scores]:
        """Scores of some rows by name, float32 `[b]`."""
        rows, names = unit
        torch.set_num_threads(self.job.threads)
        configured = {name: self.configured[name] for name in names}
        runs, data, device = self.runs, self.data, torch.device(self.device)
        if self.folds is None:
            return score_rows(runs, data, rows, configured, device=device)
        return score_folds(by_fold(runs, self.folds), self.folds, data, rows, configured, device=device)

    @cached_property
    def folds(self) -> Folds | None:
        if self.job.folds is None:
            return None
        with on_shared_storage(self.job.folds):
            return np.asarray(np.load(self.job.folds, mmap_mode="r", allow_pickle=False))

    @cached_property
    def data(self) -> Data:
        with on_shared_storage(self.job.data.inputs or self.job.proxies[0]):
            return self.job.data.load()

    @cached_property
    def runs(self) -> list[Any]:
        folders = list(self.job.proxies)
        with on_shared_storage(folders[0]):
            runs = [load_checkpoints(folder) for folder in folders]
        if fingerprint(folders) != self.job.model:
            raise ValueError(f"{folders[0].parent} holds other checkpoints here than on the driver; share one storage")
        return runs

    @cached_property
    def configured(self) -> dict[str, Configured]:
        found: dict[str, Configured] = {}
        for name, (scorer, version, settings) in self.job.scorers.items():
            declared = scorers().get(scorer)
            if not isinstance(declared, CheckpointScorer) or declared.card.version != version:
                raise ValueError(f"no version {version} of scorer {scorer!r} here: install one secateur on every node")
            found[name] = (declared, settings)
        return found
