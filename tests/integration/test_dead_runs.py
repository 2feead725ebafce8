"""A killed run blocks nobody: its study is free at once, and its place in the queue at the next check."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from secateur.pipelines.assets.resources import ACCELERATOR
from secateur.pipelines.definitions import build
from secateur.pipelines.files.locks import Held
from secateur.pipelines.materialise import instance_at, run_study, set_pools
from secateur.pipelines.studies.files import StudyFile, load_file

MAIN = "from secateur.pipelines.commands.main import main; main()"
NETWORK = """
import os, pathlib, time

def slow(shape, classes):
    pathlib.Path({begun!r}).write_text(str(os.getpid()))
    time.sleep(300)
"""
CODE = "secateur.pipelines.definitions"


@contextmanager
def started(log: Path, *command: str) -> Iterator[Callable[[Callable[[], object]], None]]:
    """A process that is killed at the end of the block; yields a function that waits for a condition."""
    with (
        log.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", *command], stdout=output, stderr=output, start_new_session=True
        ) as process,
    ):

        def wait_until(true: Callable[[], object]) -> None:
            while not true():
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)

        try:
            yield wait_until
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def queued(instance: dg.DagsterInstance, file: StudyFile, root: Path) -> dg.DagsterRun:
    """A queued run of the study's proxy, as from the UI."""
    code = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name=CODE), location_name=CODE)
    defs = build([file], root)
    proxy = dg.AssetSelection.assets(dg.AssetKey([file.name, "proxy"])).required_multi_asset_neighbors()
    return instance.create_run_for_job(
        defs.resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset(proxy.resolve(defs.resolve_asset_graph())),
        status=dg.DagsterRunStatus.QUEUED,
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(code, "__repository__"), "__ASSET_JOB"),
    )


def test_a_killed_run_keeps_nobody_waiting(
    write_study: Callable[..., StudyFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, begun = tmp_path / "home", tmp_path / "begun"
    monkeypatch.setenv("SECATEUR_HOME", str(home))
    monkeypatch.setenv("SECATEUR_STUDIES", str(tmp_path))
    (tmp_path / "slow_network.py").write_text(NETWORK.format(begun=str(begun)))
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.syspath_prepend(str(tmp_path))
    file = write_study(seeds=1, keep=[0.25], selections={"hardest": {"selector": "top", "score": "el2n"}})
    network = {"name": "slow", "proxy": {"model": "slow_network:slow", "epochs": 1}}
    (tmp_path / "slow.yaml").write_text(yaml.safe_dump(yaml.safe_load(file.path.read_text()) | network))
    slow = load_file(tmp_path / "slow.yaml")
    with started(tmp_path / "shell.log", "-c", MAIN, "run", "slow") as wait_until:
        wait_until(begun.exists)
        with instance_at(home, pytest.fail) as instance:
            set_pools(instance)
            assert run_study(file, home / "assets", instance, part="scores").made, "another study is free"
            with pytest.raises(
                Held, match=rf"^study slow is at work in process {begun.read_text()} \(-c run slow, since 20"
            ):
                run_study(slow, home / "assets", instance)
            (stuck,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            waiting = queued(instance, file, home / "assets")
            assert waiting.run_op_concurrency
            assert waiting.run_op_concurrency.all_pools == {ACCELERATOR}
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    # The daemon finds the dead run by itself: no command runs in between.
    daemon = str(Path(sys.executable).with_name("dagster-daemon"))
    with (
        started(tmp_path / "daemon.log", daemon, "run", "-m", CODE) as wait_until,
        dg.DagsterInstance.get() as instance,
    ):
        wait_until(lambda: status_of(instance, waiting) != dg.DagsterRunStatus.QUEUED)
        assert status_of(instance, stuck) == dg.DagsterRunStatus.FAILURE


def status_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found
    return found.status
