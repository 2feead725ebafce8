"""One process makes a study at a time; the second one names the holder, or waits."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from secateur.pipelines.files import locks
from secateur.pipelines.files.locks import Held, held
from secateur.pipelines.files.partial_names import claimed, hidden_sibling
from secateur.pipelines.storage.study_lock import study_lock

HOLDER = """
import sys
from pathlib import Path
from secateur.pipelines.storage.study_lock import study_lock
with study_lock(Path(sys.argv[1]), "tickets"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that makes the study `tickets` until it is killed or its input ends."""
    command = [sys.executable, "-c", HOLDER, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_learns_who_is_first_until_that_one_is_killed(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        expected = (
            rf"study tickets is at work in process {process.pid} \(-c {tmp_path}, since \d+-\d\d-\d\d \d\d:\d\d:\d\d\)"
        )
        with pytest.raises(Held, match=f"^{expected}$"), study_lock(tmp_path, "tickets"):
            pytest.fail("two at once")
        with study_lock(tmp_path, "letters"):
            process.kill()
            process.wait()
            with study_lock(tmp_path, "tickets"):
                pass


def test_whoever_waits_says_so_and_goes_on(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        told: list[str] = []

        def waits(text: str) -> None:
            told.append(text)
            threading.Timer(0.05, process.kill).start()

        with study_lock(tmp_path, "tickets", waits=waits):
            assert f"process {process.pid}" in told[0]
        with holding(tmp_path), pytest.raises(Held), study_lock(tmp_path, "tickets", waits=waits, stopped=lambda: True):
            pytest.fail("it was told to stop")


def test_the_process_of_another_machine_is_named_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "lock.json"
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(locks.platform, "node", lambda: "worker-7")
        with held(tmp_path / "lock", "study x", "secateur run x"):
            elsewhere.undo()
            assert str(locks.holder_in(note)).startswith(f"process {os.getpid()} on worker-7 (secateur run x, since 2")
    assert not note.exists()
    for content in ("", "[]", '{"pid": 3}'):
        note.write_text(content)
        assert locks.holder_in(note) == "another process"


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EACCES])
def test_without_locks_in_the_file_system_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(locks.FileLock, "acquire", refuse)
    if code not in locks.LOCKLESS:
        with pytest.raises(OSError, match="Permission"), held(tmp_path / "lock", "it"):
            pass
        return
    with held(tmp_path / "lock", "it"):
        assert not locks.is_free(locks.lock_at(tmp_path / "lock"))


def test_leftovers_go_when_the_lock_is_taken_and_what_is_at_work_stays(tmp_path: Path) -> None:
    study, cache = tmp_path / "tickets", tmp_path / ".cache"
    left = [
        hidden_sibling(study / "scores" / "aum.npy"),
        hidden_sibling(study / "report"),
        hidden_sibling(cache / "prepare"),
        hidden_sibling(tmp_path / ".locks" / "letters.json"),
    ]
    for path in left:
        path.mkdir()
        (path / ".half.0123456789ab.partial").write_text("half")
    snapshot = study / ".snapshots" / "proxy-0" / "snapshot.partial"
    kept = [
        snapshot.with_name("snapshot.pt"),
        study / "whole",
        tmp_path / "letters" / ".x.0123456789ab.partial",
        cache / "rows",
    ]
    for path in (snapshot, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("whole")
    aside = hidden_sibling(study / "manifest", "aside")
    aside.mkdir()
    # Locks belong to open files, so this process serves as another.
    with claimed(cache / "prepare", folder=True) as working, study_lock(tmp_path, "tickets"):
        assert working.is_dir()
    assert [path for path in (*left, snapshot, aside) if path.exists()] == []
    assert all(path.read_text() == "whole" for path in kept)
    assert (study / "manifest").is_dir()
