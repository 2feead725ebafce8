"""The documented deployment: Dagster's records in a real PostgreSQL server, with the shipped settings file."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
import yaml

from secateur.pipelines.definitions import build
from secateur.pipelines.materialise import instance_at, run_study
from secateur.pipelines.studies.files import StudyFile

WriteStudy = Callable[..., StudyFile]
DEPLOY = Path(__file__).parents[2] / "deploy"


def binary(name: str) -> str:
    """A program of PostgreSQL, on the path or in the folder of Debian's package."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(places[-1]) if places else None)
    if found is None:
        pytest.skip(f"no {name}: install PostgreSQL (apt-get install postgresql) to run this test")
    return found


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a separate empty server; the server refuses to run as root, so root runs it as the package's user."""
    # Sockets need a short path, and the server's user must be able to enter it.
    folder = Path(f"/tmp/secateur-postgres-{os.getpid()}")
    folder.mkdir()
    root = os.geteuid() == 0
    if root:
        shutil.chown(folder, "postgres")
    as_user = ["runuser", "-u", "postgres", "--"] if root else []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(*command: str) -> None:
        done = subprocess.run([*as_user, *command], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        call(binary("initdb"), "-D", f"{folder}/data", "-U", "secateur", "--auth", "trust", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        call(binary("pg_ctl"), "-D", f"{folder}/data", "-l", f"{folder}/log", "-w", "-o", options, "start")
        call(binary("createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "secateur", "secateur")
        yield port
        call(binary("pg_ctl"), "-D", f"{folder}/data", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_study_runs_with_its_records_in_postgresql(
    postgres: int, write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg2

    given = {"HOST": "127.0.0.1", "PORT": str(postgres), "DB": "secateur", "USER": "secateur", "PASSWORD": "unused"}
    for name, value in given.items():
        monkeypatch.setenv(f"SECATEUR_PG_{name}", value)
    home = tmp_path / "home"
    (home / "dagster").mkdir(parents=True)
    shutil.copyfile(DEPLOY / "dagster.yaml", home / "dagster" / "dagster.yaml")
    file = write_study(keep=[0.25], seeds=1, selections={"hardest": {"selector": "top", "score": "el2n"}})
    with instance_at(home) as instance:
        assert type(instance.event_log_storage).__name__ == "PostgresEventLogStorage"
        run_study(file, home / "assets", instance)
    with instance_at(home) as again:
        report = again.get_latest_materialization_event(dg.AssetKey(["blobs", "report"]))
        assert report is not None
        graph = build([file], home / "assets").resolve_asset_graph()
        # A run leaves out the audit.
        made = graph.materializable_asset_keys - {dg.AssetKey(["blobs", "audit"])}
        assert set(again.all_asset_keys()) >= set(made)
    connection = psycopg2.connect(host="127.0.0.1", port=postgres, user="secateur", dbname="secateur")
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("select count(*) from runs where status = 'SUCCESS'")
        assert cursor.fetchone()[0] >= 3
        cursor.execute("select count(*) from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'")
        assert cursor.fetchone()[0] > 10
    assert not list((home / "dagster").rglob("*.db")), "nothing may be left in SQLite"


def test_every_service_gets_what_the_settings_ask_for() -> None:
    settings = (DEPLOY / "dagster.yaml").read_text()
    asked = set(re.findall(r"env: (\w+)", settings))
    assert len(asked) == 5
    compose = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())
    for name in ("code", "web", "daemon"):
        service = compose["services"][name]
        assert asked <= set(service["environment"])
        assert "state:/var/lib/secateur" in service["volumes"]
    given = set(re.findall(r"^(\w+)=", (DEPLOY / "example.env").read_text(), re.MULTILINE))
    used = set(re.findall(r"\$\{(\w+)", (DEPLOY / "docker-compose.yaml").read_text()))
    assert given == used


def test_both_settings_files_say_the_same_but_for_the_storage() -> None:
    shared = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    local = yaml.safe_load((DEPLOY.parent / "pipelines" / "dagster.yaml").read_text())
    assert shared.pop("storage")
    assert shared == local
    assert local["concurrency"]["pools"] == {"default_limit": 1, "granularity": "run"}
