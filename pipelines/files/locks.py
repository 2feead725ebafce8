"""Locks that go with the process that holds them, however it ends, and the note that says who holds one."""

import errno
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from secateur.pipelines.files.whole_files import write_bytes

SETTLED = 0.5
"""Seconds in which whoever took a lock has written its note, and whoever only looked has let go."""
LOCKLESS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
"""What file systems answer that know no locks; work goes on without."""


class Held(ValueError):
    """Another process holds a lock; the text says which."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock."""

    pid: int
    host: str
    since: str
    doing: str

    @classmethod
    def here(cls, doing: str = "") -> "Holder":
        """This process; it does what its command line says unless `doing` says it better."""
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        return cls(os.getpid(), platform.node(), time.strftime("%Y-%m-%d %H:%M:%S"), doing or command[:200])

    def __str__(self) -> str:
        place = "" if self.host == platform.node() else f" on {self.host}"
        return f"process {self.pid}{place} ({self.doing}, since {self.since})"


@contextmanager
def held(
    path: Path,
    what: str,
    doing: str = "",
    *,
    waits: Callable[[str], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Iterator[None]:
    """Hold the lock `path` until the block ends; beside it a note says who does.

    Where another process holds it, Held is raised, with a sentence about `what`; with `waits` that sentence is passed
    on instead and the lock waited for, until `stopped` is true: then Held is raised after all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    note, lock = path.with_name(f"{path.name}.json"), lock_at(path)
    try:
        take(lock, timeout=SETTLED)
    except Timeout as error:
        text = f"{what} is at work in {holder_in(note)}"
        if waits is None:
            raise Held(text) from error
        waits(text)
        try:
            take(lock, poll_interval=0.5, cancel_check=stopped)
        except Timeout:
            raise Held(text) from error
    try:
        write_bytes(note, json.dumps(asdict(Holder.here(doing))).encode(), overwrite=True)
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def lock_at(path: Path) -> FileLock:
    """The lock of a path, not yet taken. The file stays when the lock goes: another might hold it by then."""
    return FileLock(path, thread_local=False, fallback_to_soft=False, preserve_lock_file=True)


def take(lock: FileLock, **how: Any) -> None:
    """Acquire a lock, or go without where the file system has none; `how` is as for `FileLock.acquire`."""
    try:
        lock.acquire(**how)
    except OSError as error:
        if isinstance(error, Timeout) or error.errno not in LOCKLESS:
            raise


def is_free(lock: FileLock) -> bool:
    """Whether nobody held a lock, which this process holds from now on; where there are no locks nobody can tell."""
    with suppress(OSError):  # a Timeout is one
        lock.acquire(blocking=False)
    return lock.is_locked


def holder_in(note: Path) -> "Holder | str":
    """Who holds the lock that a note belongs to."""
    try:
        return Holder(**json.loads(note.read_bytes()))
    except (OSError, ValueError, TypeError):
        return "another process"
