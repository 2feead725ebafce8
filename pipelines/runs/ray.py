"""Scoring passes on a Ray cluster: shards of rows out to its workers, their scores back.

Each worker is an actor that maps the inputs and loads the checkpoints once, from folders that every node sees. What
travels is small: row numbers out, float32 scores back; the driver commits them to the score store as it does its own.
A shard is computed whole by one worker, in the batches and with the number of threads of the local pass, so that on
processors of one kind the shard's file has the same bytes.
"""

import importlib
import os
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from secateur.pipelines.runs.worker import DataFiles, files_of
from secateur.pipelines.storage.score_cache import ShardRows
from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.contract import Scores
from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data
from secateur.trainers.loop.checkpoints import fingerprint, load_checkpoints
from secateur.trainers.passes.scoring import Configured, score_rows


@dataclass(frozen=True)
class ScoringJob:
    """What a worker needs to score any row, by names and paths that mean the same on every node."""

    data: DataFiles
    proxies: tuple[Path, ...]
    """Folders of checkpoints, one for each run of the proxy."""
    model: str
    """Fingerprint of these checkpoints."""
    scorers: Mapping[str, tuple[str, str, Mapping[str, Any]]]
    """Scorer, version and settings, by the name that the study gives the score."""
    threads: int
    """That torch computes with: sums may differ in their last bits with another number."""


def job_of(
    data: Data, folders: Sequence[Path], model: str, configured: Mapping[str, Configured], place: Path
) -> ScoringJob:
    """The job that scores rows of `data` by the checkpoints in `folders`; what has no file yet gets one in `place`."""
    own = place / xxhash.xxh3_128_hexdigest(np.ascontiguousarray(data.targets).data)
    return ScoringJob(
        files_of(data, own),
        tuple(folder.resolve() for folder in folders),
        model,
        {name: (each.card.name, each.card.version, settings) for name, (each, settings) in configured.items()},
        torch.get_num_threads(),
    )


@dataclass
class RayPass:
    """Scores parts on the Ray cluster at `address` (RAY_ADDRESS if None); a `Pass` of the score store."""

    job: ScoringJob
    address: str | None = None
    nodes: dict[str, list[int]] = field(default_factory=dict)
    """Filled as it goes: first rows of the shards that each node computed, by the node's id."""

    def __call__(self, parts: Sequence[ShardRows]) -> Iterator[tuple[ShardRows, Mapping[str, Scores]]]:
        """Each part with its scores, in the order in which workers finish; without parts no cluster is looked for.

        Raises ModuleNotFoundError without the extra, ConnectionError where no cluster answers and RuntimeError for the
        first part that a worker could not score.
        """
        if not parts:
            return
        with connected(self.address) as ray:
            for row in self._results(ray, parts):
                part = parts[row["number"]]
                if row["error"]:
                    raise failure(f"scoring rows from {part.start} on Ray node {row['node']}: {row['error']}", row)
                self.nodes.setdefault(row["node"], []).append(part.start)
                values = np.frombuffer(row["scores"], np.float32).reshape(len(part.names), len(part.rows))
                yield part, dict(zip(part.names, values, strict=True))

    def _results(self, ray: Any, parts: Sequence[ShardRows]) -> Iterator[dict[str, Any]]:
        share, room = share_and_room(ray.nodes(), self.job.threads)
        dataset = ray.data.from_arrow([table_of(number, part) for number, part in enumerate(parts)])
        scored = dataset.map_batches(
            ScoringWorker,
            batch_size=None,
            batch_format="pyarrow",
            fn_constructor_args=(self.job, "cuda" if "num_gpus" in share else "cpu"),
            compute=ray.data.ActorPoolStrategy(size=min(room, len(parts))),
            **share,
        )
        with quiet(ray.data.DataContext.get_current()):
            for table in scored.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from table.to_pylist()


class ScoringWorker:
    """One actor of the pool: loads what the job names when the first shard arrives, and keeps it."""

    def __init__(self, job: ScoringJob, device: str) -> None:
        self.job, self.device = job, torch.device(device)
        torch.set_num_threads(job.threads)

    def __call__(self, table: Any) -> Any:
        import pyarrow
        import ray

        node = ray.get_runtime_context().get_node_id()
        return pyarrow.Table.from_pylist(
            [{"node": node, **self.answer(row)} for row in table.to_pylist()], answer_columns()
        )

    def answer(self, row: dict[str, Any]) -> dict[str, Any]:
        """Scores of one part as bytes, float32 `[names, rows]`, or what went wrong.

        An exception travels as a value: raised in an actor, Ray would start the actor again and bury the reason.
        """
        try:
            scores, error, trace = self.scores(np.array(row["rows"], np.int64), row["names"]), "", ""
        except Exception as raised:
            scores, error, trace = b"", f"{type(raised).__name__}: {raised}", traceback.format_exc()
        return {"number": row["number"], "scores": scores, "error": error, "trace": trace}

    def scores(self, rows: np.ndarray, names: list[str]) -> bytes:
        configured = {name: self.configured[name] for name in names}
        found = score_rows(self.runs, self.data, rows, configured, device=self.device)
        return np.stack([found[name] for name in names]).tobytes()

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


def answer_columns() -> Any:
    """Columns of what a worker gives back."""
    import pyarrow

    text = pyarrow.string()
    columns = {"number": pyarrow.int64(), "node": text, "scores": pyarrow.large_binary(), "error": text, "trace": text}
    return pyarrow.schema(columns)


def table_of(number: int, part: ShardRows) -> Any:
    """One part as a table of one row."""
    import pyarrow

    rows = pyarrow.array([part.rows], pyarrow.large_list(pyarrow.int64()))
    return pyarrow.table({"number": [number], "rows": rows, "names": [part.names]})


def share_and_room(nodes: Iterable[Mapping[str, Any]], threads: int) -> tuple[dict[str, float], int]:
    """What one worker asks of its node, and how many workers the nodes have room for.

    Where the cluster has GPUs a worker takes one of them; otherwise a processor for each thread, or all of the largest
    node where that has fewer.
    """
    free = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = sum(int(each.get("GPU", 0)) for each in free)
    if gpus:
        return {"num_gpus": 1}, gpus
    cpus = [int(each.get("CPU", 0)) for each in free]
    share = max(1, min(threads, max(cpus, default=1)))
    return {"num_cpus": share}, max(1, sum(count // share for count in cpus))


def ray_or_remedy() -> Any:
    """The module ray with its ray.data; raises ModuleNotFoundError that says how to install it."""
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"`compute: {{scoring: ray}}` needs Ray Data, and {error.name!r} is not installed: "
            "pip install secateur[ray], or write `scoring: local`"
        ) from error
    return ray


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The module ray, connected for the length of the block to a cluster; a connection that is there is kept."""
    ray = ray_or_remedy()
    if ray.is_initialized():
        yield ray
        return
    where = address or os.environ.get("RAY_ADDRESS") or "auto"
    options: dict[str, Any] = {"address": where, "log_to_driver": False, "logging_level": "warning"}
    if where == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options["include_dashboard"] = False
    with signals_kept():
        try:
            ray.init(**options)
        except ConnectionError as error:
            raise ConnectionError(
                f"no Ray cluster answers at {where!r} ({error}): set RAY_ADDRESS or the study's compute.ray_address, "
                "start one with `ray start --head`, or write `ray_address: local`"
            ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def signals_kept() -> Iterator[None]:
    """Give SIGTERM back its handler: Ray takes it, and with it Dagster's way to end a run."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def quiet(context: Any) -> Iterator[None]:
    """No bars of Ray Data in the run's log."""
    before, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        yield
    finally:
        context.enable_progress_bars = before


@contextmanager
def on_shared_storage(path: Path) -> Iterator[None]:
    """Say what to do where a file that the driver has is not on this node."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is not on this node: keep SECATEUR_HOME on storage that every node mounts at the same path"
        ) from error


def failure(text: str, row: Mapping[str, Any]) -> RuntimeError:
    """The error of a part, the worker's own traceback as its note."""
    error = RuntimeError(text)
    error.add_note(row["trace"])
    return error
