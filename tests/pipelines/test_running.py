"""Runs are alive as long as their process, and the second run of one study in the UI waits."""

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from rich.console import Console
from rich.progress import Progress

from secateur.pipelines.assets.resources import ACCELERATOR, Bars, stage_of
from secateur.pipelines.assets.running import alive, dead_runs, folder_of, hold_run, mark_dead, one_at_a_time
from secateur.pipelines.storage.study_lock import study_lock

ROOT = "assets"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance


def job_at(root: Path, *, fails: str = "") -> dg.JobDefinition:
    """A job of one asset of the study `tickets`, by our executor."""

    @dg.asset(key=["tickets", "source"], pool=ACCELERATOR)
    def source() -> None:
        if fails:
            raise RuntimeError(fails)

    defs = dg.Definitions(assets=[source], executor=one_at_a_time(root))
    return defs.resolve_implicit_global_asset_job_def()


def started(instance: dg.DagsterInstance, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> str:
    """Id of a run with the status of a running one."""
    run = instance.create_run_for_job(
        job_at(Path()), asset_selection=frozenset({dg.AssetKey(["tickets", "source"])}), status=status
    )
    return run.run_id


@contextmanager
def process_of(work: Callable[[], object]) -> Iterator[int]:
    """A process that works, then waits, and is killed when the block ends."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        held = work()
        os.write(writer, b"1")
        signal.pause()
        assert held
    assert os.read(reader, 1)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)


def test_a_run_is_dead_when_its_process_is(instance: dg.DagsterInstance) -> None:
    run_id, ours = started(instance), started(instance)
    instance.event_log_storage.set_concurrency_slots(ACCELERATOR, 1)
    assert instance.event_log_storage.claim_concurrency_slot(ACCELERATOR, run_id, "source").is_claimed
    with process_of(lambda: hold_run(instance, run_id)), alive(instance, ours):
        assert mark_dead(instance) == []
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.STARTED}
    (text,) = [each for each in mark_dead(instance) if run_id[:8] in each]
    assert text.startswith(
        f"run {run_id[:8]} of tickets is marked as failed: its process ended without a record (killed"
    )
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]
    assert instance.event_log_storage.get_concurrency_info(ACCELERATOR).active_slot_count == 0
    assert [path.name for path in folder_of(instance).iterdir()] == ["gate"]
    assert mark_dead(instance) == []


def test_a_run_whose_end_could_not_be_recorded_is_dead_too(instance: dg.DagsterInstance) -> None:
    run_id = started(instance)
    with alive(instance, run_id):
        pass
    with dg.build_sensor_context(instance=instance) as context:
        assert run_id[:8] in str(dead_runs(context))
        assert dead_runs(context).skip_message == "no run is dead"  # type: ignore[union-attr]


def test_the_lock_of_a_run_that_ended_goes_without_a_word(instance: dg.DagsterInstance) -> None:
    for status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED):
        run_id = started(instance, status)
        hold_run(instance, run_id).release()
        assert mark_dead(instance) == []
        with alive(instance, run_id):
            assert (folder_of(instance) / run_id).exists()
        assert not (folder_of(instance) / run_id).exists()


def events(instance: dg.DagsterInstance, run_id: str) -> str:
    return "\n".join(str(each.message) + each.user_message for each in instance.all_logs(run_id))


@pytest.mark.parametrize("ended", [False, True], ids=["goes on", "is ended meanwhile"])
def test_a_run_of_the_ui_waits_for_the_process_that_makes_its_study(
    instance: dg.DagsterInstance, tmp_path: Path, *, ended: bool
) -> None:
    root = tmp_path / ROOT
    job = job_at(root)
    run = instance.create_run_for_job(job)

    def hold() -> object:
        lock = study_lock(root, "tickets", "run tickets")
        lock.__enter__()
        return lock

    with process_of(hold) as other:

        def look() -> None:
            while "waits for its end" not in events(instance, run.run_id):
                time.sleep(0.02)
            instance.report_run_canceling(run) if ended else os.kill(other, signal.SIGKILL)

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        execute_run(InMemoryJob(job), run, instance)
        watcher.join()
    found = instance.get_run_by_id(run.run_id)
    assert found
    assert found.status == (dg.DagsterRunStatus.CANCELED if ended else dg.DagsterRunStatus.SUCCESS)
    assert f"study tickets is at work in process {other} (run tickets, since 2" in events(instance, run.run_id)
    with study_lock(root, "tickets"):
        pass  # free again


def test_a_step_that_a_full_disk_fails_is_a_sentence_in_the_log(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    job = job_at(tmp_path, fails="Error while serializing: I/O error: No space left on device (os error 28)")
    run = instance.create_run_for_job(job)
    execute_run(InMemoryJob(job), run, instance)
    assert f"{tmp_path} cannot be written: no space is left on its disk; make room" in events(instance, run.run_id)


def test_a_pass_over_many_trials_has_one_bar_beside_what_is_done_now() -> None:
    display = Progress(console=Console(file=io.StringIO()))
    bars = Bars(display, display.add_task("loading libraries", total=None))
    every = bars.start(dg.build_asset_context(), "arms")
    for number in range(3):
        told = bars.start(dg.build_asset_context(), f"random@0.5, seed {number}", part=True)
        told(1, 4)
        assert [task.description for task in display.tasks][1:] == ["arms", f"random@0.5, seed {number}"]
        told(4, 4)
        every(number + 1, 3)
    bars.start(dg.build_asset_context(), "arms")
    bars.stage(stage_of("digits__trained_model"))
    assert [task.description for task in display.tasks] == ["training", "arms"]
    assert stage_of("digits__scores__el2n") == "scoring el2n"
    assert stage_of("digits__data_report") == "data report"
