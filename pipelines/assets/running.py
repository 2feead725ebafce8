"""Liveness of runs: each holds a lock of its own below Dagster's folder, which its process's end releases.

Runs of the shell and of `secateur ui` take one. Dagster itself notices a dead worker, but neither a killed shell nor a
stopped machine: such runs would occupy their place in the queue forever. The next run to start, and a sensor while the
UI is open, mark them as failed. Runs by another executor, in a user's own project, are left to their launcher.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from filelock import FileLock

from secateur.pipelines.files.locks import Held, is_free, lock_at, take
from secateur.pipelines.files.unwritable import in_words, sentence
from secateur.pipelines.storage.study_lock import study_lock

DEAD = (
    "is marked as failed: its process ended without a record (killed, out of memory or disk, or the machine stopped); "
    "results stay, and the same run again goes on from there"
)


RUNS = "secateur_runs"
"""Folder of the locks, below Dagster's own."""


def folder_of(instance: dg.DagsterInstance) -> Path:
    """Folder of the locks of an instance's runs."""
    return Path(instance.root_directory) / RUNS


@contextmanager
def gate(folder: Path) -> Iterator[None]:
    """Held while a process creates or tests a lock, so that none tests a lock before its creator holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_at(folder / "gate")
    take(lock)
    try:
        yield
    finally:
        lock.release()


def hold_run(instance: dg.DagsterInstance, run_id: str) -> FileLock:
    """Acquire the lock of a run, until its release or the end of this process."""
    folder = folder_of(instance)
    lock = lock_at(folder / run_id)
    with gate(folder):
        take(lock)
    return lock


@contextmanager
def alive(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Hold the lock of a run until the block ends; its file remains if the run has no recorded end."""
    lock = hold_run(instance, run_id)
    try:
        yield
    finally:
        lock.release()
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            Path(lock.lock_file).unlink(missing_ok=True)


def mark_dead(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs without a living process as failed, and free their slots; returns one sentence per run."""
    folder, marked = folder_of(instance), []
    if not folder.is_dir():
        return []
    with gate(folder):
        for path in sorted(folder.glob("*-*-*-*-*")):
            lock = lock_at(path)
            if not is_free(lock):
                continue
            run = instance.get_run_by_id(path.name)
            if run and not run.is_finished:
                instance.report_run_failed(run, f"This run {DEAD}.")
                if instance.event_log_storage.supports_global_concurrency_limits:
                    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
                studies = sorted({key.path[0] for key in run.asset_selection or ()})
                marked.append(f"run {run.run_id[:8]} of {', '.join(studies) or run.job_name} {DEAD}")
            path.unlink(missing_ok=True)
            lock.release()
    return marked


@dg.sensor(
    name="dead_runs",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks runs as failed whose process was killed, so that the queue goes on without them.",
)
def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    return dg.SkipReason("; ".join(mark_dead(context.instance)) or "no run is dead")


OWN_RUNS: list[FileLock] = []
"""Locks of the UI's runs, held until their process ends: Dagster records the end of a run after its executor's."""


class OneAtATime(dg.Executor):
    """Wraps an executor: a run waits until no other process makes one of its studies."""

    def __init__(self, inner: dg.Executor, root: Path) -> None:
        self.inner, self.root = inner, root

    @property
    def retries(self) -> Any:
        return self.inner.retries

    @property
    def step_dependency_config(self) -> Any:
        return self.inner.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[Any]:
        """Raises DagsterExecutionInterruptedError if somebody cancels a waiting run."""
        run, instance = plan_context.dagster_run, plan_context.instance

        def ended() -> bool:
            now = instance.get_run_by_id(run.run_id)
            return now is None or now.status == dg.DagsterRunStatus.CANCELING

        def waits(text: str) -> None:
            plan_context.log.info(f"{text}; this run waits for its end")

        made = run.asset_selection or plan_context.job.get_definition().asset_layer.executable_asset_keys
        studies = sorted({key.path[0] for key in made})
        OWN_RUNS.append(hold_run(instance, run.run_id))
        with ExitStack() as locks:
            for study in studies:
                lock = study_lock(self.root, study, f"run {run.run_id[:8]} of the UI", waits=waits, stopped=ended)
                try:
                    locks.enter_context(lock)
                except Held as error:
                    raise dg.DagsterExecutionInterruptedError from error
            for event in self.inner.execute(plan_context, execution_plan):
                yield event
                if event.is_step_failure and (text := told_of(str(event.step_failure_data.error), self.root)):
                    plan_context.log.error(text)


def told_of(failure: str, root: Path) -> str | None:
    """A sentence for a step's failure, given as text, whose cause is the disk and whose text does not tell so."""
    number = in_words(failure)
    return None if number is None or "Unwritable" in failure else sentence(number, root)


def one_at_a_time(root: Path) -> dg.ExecutorDefinition:
    """The in-process executor, for runs of studies below `root`."""

    inner = dg.in_process_executor
    schema: Any = inner.config_schema

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        assert inner.executor_creation_fn is not None
        return OneAtATime(inner.executor_creation_fn(context), root)

    return dg.ExecutorDefinition(inner.name, config_schema=schema, executor_creation_fn=create)
