"""Work on numbered units, done by the processes of a Ray cluster: pieces of a job of Ray Data, their results back.

What travels is small: units are names, numbers and paths of files that every node sees. A process that dies is started
again, and what it had begun is done again; so work that writes a file writes it whole or not at all.

Nothing here imports numpy, polars or torch: a process sets how many threads these have before it loads them.
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

SHARED = "keep SECATEUR_HOME and the data on storage that every node mounts at the same path"
THREADS = ("POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What libraries read of how many threads they may have, when they are loaded."""


@dataclass(frozen=True)
class Answer:
    """What became of a unit: its result, or the error that the work raised with its traceback."""

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
    """Each unit's answer, as soon as it is there, from at most `room` processes that each ask for a `share` of a node.

    The libraries of a process have so many threads. `work` and units are pickled. With `actors` a process keeps what
    the work holds from unit to unit, and is the job's own; others serve one job after the other.
    """
    import pyarrow
    from ray import cloudpickle

    table = [pyarrow.table({"number": [number], "unit": [pickle.dumps(unit)]}) for number, unit in enumerate(units)]
    told, size = cloudpickle.dumps(work), min(room, len(units))
    if actors:
        how = {"fn_constructor_args": (told, threads), "compute": ray.data.ActorPoolStrategy(size=size)}
    else:
        how = {"fn_args": (told, threads), "compute": ray.data.TaskPoolStrategy(size=size)}
    with quiet(ray.data.DataContext.get_current()):  # which a data set reads when it is made
        done = ray.data.from_arrow(table).map_batches(
            Process if actors else by_any_process, batch_size=None, batch_format="pyarrow", **how, **share
        )
        for part in done.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row in part.to_pylist():
                yield Answer(row["number"], row["node"], *pickle.loads(row["answer"]))


def by_any_process(table: Any, work: bytes, threads: int) -> Any:
    """Units of a batch by a process that keeps nothing."""
    return Process(work, threads)(table)


class Process:
    """What a process does: it holds the work, and answers units."""

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

        An exception travels as a value: raised in an actor, Ray would start the actor again and bury the reason.
        """
        from ray import cloudpickle

        try:
            return bytes(cloudpickle.dumps((self.work(unit), None, "")))
        except Exception as error:
            return pickled(error, traceback.format_exc())


@dataclass(frozen=True)
class RaySpread:
    """The processes of a cluster, of so many threads each: `pipelines.data.spread.Spread`."""

    ray: Any
    share: Mapping[str, float]
    room: int
    threads: int
    actors: bool
    """Whether processes hold something, such as a model, from unit to unit."""

    @property
    def device(self) -> str:
        """Where a process computes."""
        return "cuda" if "num_gpus" in self.share else "cpu"

    def __call__(self, work: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """The number of each unit with its result, in any order; raises what the work raised, with the Ray node and the
        traceback there as its note."""
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
    """Processes of the Ray cluster where a study's `compute.scoring` says so, for `models` with a GPU each where there
    is any; None where it says `local`."""
    if scoring != "ray":
        yield None
        return
    with connected(address) as ray:
        yield RaySpread(ray, *share_and_room(ray.nodes(), threads, models), threads, models)


def pickled(error: Exception, trace: str) -> bytes:
    """An error with its traceback as an answer; what cannot be pickled as a RuntimeError of the same words."""
    try:
        told = pickle.dumps((None, error, trace))
        pickle.loads(told)
    except Exception:  # whatever classes of other libraries raise when they are pickled
        told = pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}"), trace))
    return told


def share_and_room(nodes: Iterable[Mapping[str, Any]], threads: int, gpus: bool = True) -> tuple[dict[str, float], int]:
    """What one process asks of its node, and how many processes the nodes have room for.

    Where the cluster has GPUs, and the work may use them, a process takes one; otherwise a processor for each thread,
    or all of the largest node where that has fewer.
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
    """No bars and lines of progress of Ray Data in the run's log."""
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
    """Say what to do where a file that the driver has is not on this node."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is not on this node: {SHARED}") from error
