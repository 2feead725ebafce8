"""Work on numbered units by the processes of a Ray cluster, as a job of Ray Data.

Units are small: names, numbers and paths of files that every node sees. Ray starts a dead process again, and its unit
runs again; so work must write a file whole or not at all.

This module imports neither numpy, polars nor torch: a process sets the number of their threads before it loads them.
"""

import importlib
import logging
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.scorers.lazy import not_installed

SHARED = "keep SECATEUR_HOME and the data on storage that every node mounts at the same path"
THREADS = ("POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables with the number of threads, which libraries read at their import."""


@dataclass(frozen=True)
class Answer:
    """Answer to a unit: its result, or the error that the work raised with its traceback."""

    number: int
    node: str
    """Id of the Ray node that worked on it."""
    result: Any = None
    error: Exception | None = None
    trace: str = ""


def answers(
    ray: Any,
    work: Callable[[Any], Any],
    units: Sequence[Any],
    share: Mapping[str, float],
    room: int,
    threads: int,
    *,
    actors: bool,
) -> Iterator[Answer]:
    """Each unit's answer, as soon as it arrives, from at most `room` processes with a `share` of a node each.

    The libraries of a process use `threads` threads. `work` and units are pickled. With `actors` a process belongs to
    the job and keeps the work's state between units; other processes serve one job after the other.
    """
    import pyarrow
    from ray import cloudpickle

    table = [pyarrow.table({"number": [number], "unit": [pickle.dumps(unit)]}) for number, unit in enumerate(units)]
    told, size = cloudpickle.dumps(work), min(room, len(units))
    if actors:
        how = {"fn_constructor_args": (told, threads), "compute": ray.data.ActorPoolStrategy(size=size)}
    else:
        how = {"fn_args": (told, threads), "compute": ray.data.TaskPoolStrategy(size=size)}
    with quiet(ray.data.DataContext.get_current()):  # a data set reads it when it is made
        done = ray.data.from_arrow(table).map_batches(
            Process if actors else by_any_process, batch_size=None, batch_format="pyarrow", **how, **share
        )
        for part in done.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row in part.to_pylist():
                yield Answer(row["number"], row["node"], *pickle.loads(row["answer"]))


def by_any_process(table: Any, work: bytes, threads: int) -> Any:
    """Answers to the units of a batch, by a process that keeps nothing."""
    return Process(work, threads)(table)


class Process:
    """A process that holds the work and answers units."""

    def __init__(self, work: bytes, threads: int) -> None:
        os.environ.update(dict.fromkeys(THREADS, str(threads)))
        self.work: Callable[[Any], Any] = pickle.loads(work)

    def __call__(self, table: Any) -> Any:
        import pyarrow
        import ray

        node = ray.get_runtime_context().get_node_id()
        rows = table.to_pylist()
        columns = {
            "number": [row["number"] for row in rows],
            "node": [node for _ in rows],
            "answer": pyarrow.array([self.answer(pickle.loads(row["unit"])) for row in rows], pyarrow.large_binary()),
        }
        return pyarrow.table(columns)

    def answer(self, unit: Any) -> bytes:
        """Result, error and traceback of a unit, pickled.

        An exception travels as a value: if an actor raised it, Ray would start the actor again and hide the reason.
        """
        from ray import cloudpickle

        try:
            return bytes(cloudpickle.dumps((self.work(unit), None, "")))
        except Exception as error:
            return pickled(error, traceback.format_exc())


@dataclass(frozen=True)
class RaySpread:
    """The processes of a cluster, with `threads` each: `pipelines.data.spread.Spread`."""

    ray: Any
    share: Mapping[str, float]
    room: int
    threads: int
    actors: bool
    """Whether processes hold something, such as a model, from unit to unit."""

    @property
    def device(self) -> str:
        """Device of a process: cuda or cpu."""
        return "cuda" if "num_gpus" in self.share else "cpu"

    def __call__(self, work: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """The number of each unit with its result, in any order; raises the error of the work, with Ray node and
        traceback in its note."""
        for answer in (
            answers(self.ray, work, units, self.share, self.room, self.threads, actors=self.actors) if units else ()
        ):
            if answer.error is None:
                yield answer.number, answer.result
                continue
            answer.error.add_note(f"on Ray node {answer.node}: {answer.trace}")
            if isinstance(answer.error, FileNotFoundError):
                raise FileNotFoundError(f"{answer.error}: not on Ray node {answer.node}: {SHARED}") from answer.error
            raise answer.error


@contextmanager
def spread_over(
    scoring: str, address: str | None, threads: int = 1, *, models: bool = False
) -> Iterator[RaySpread | None]:
    """Processes of the Ray cluster if `scoring`, a study's `compute.scoring`, is `ray`, for `models` with a GPU each if
    there are any; None if it is `local`."""
    if scoring != "ray":
        yield None
        return
    with connected(address) as ray:
        yield RaySpread(ray, *share_and_room(ray.nodes(), threads, models), threads, models)


def pickled(error: Exception, trace: str) -> bytes:
    """An error with its traceback as an answer; one that cannot be pickled becomes a RuntimeError of the same words."""
    try:
        told = pickle.dumps((None, error, trace))
        pickle.loads(told)
    except Exception:  # whatever classes of other libraries raise when they are pickled
        told = pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}"), trace))
    return told


def share_and_room(nodes: Iterable[Mapping[str, Any]], threads: int, gpus: bool = True) -> tuple[dict[str, float], int]:
    """Share of a node for one process, and the number of processes that fit on the nodes.

    If the cluster has GPUs, and the work may use them, a process takes one; otherwise a processor for each thread, or
    all of the largest node if that has fewer.
    """
    free = [node["Resources"] for node in nodes if node["Alive"]]
    cards = sum(int(each.get("GPU", 0)) for each in free) if gpus else 0
    if cards:
        return {"num_gpus": 1}, cards
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
            f"`compute: {{scoring: ray}}` needs Ray Data, and {not_installed(repr(error.name), 'ray')}, or write "
            "`scoring: local`"
        ) from error
    return ray


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The module ray, connected to a cluster within the block; an existing connection stays."""
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
    """Restore the handler of SIGTERM, by which Dagster ends a run: Ray replaces it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def quiet(context: Any) -> Iterator[None]:
    """Keep Ray Data's progress bars and lines out of the run's log."""
    logger = logging.getLogger("ray.data")
    before, level = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        context.enable_progress_bars = before
        logger.setLevel(level)


@contextmanager
def on_shared_storage(path: Path) -> Iterator[None]:
    """Add the remedy to the error about a file of the driver that is not on this node."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is not on this node: {SHARED}") from error
