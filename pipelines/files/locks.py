"""Locks that the system releases when their process ends, however it ends, with a note on the holder."""

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
"""Seconds within which the taker of a lock writes its note, and a mere test releases it."""
LOCKLESS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
"""Errors of file systems without locks; work continues without them."""


class Held(ValueError):
    """Another process holds a lock; the text names it."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock."""

    pid: int
    host: str
    since: str
    doing: str

    @classmethod
    def here(cls, doing: str = "") -> "Holder":
        """This process; its activity is `doing`, by default its command line."""
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
    """Hold the lock `path` until the block ends; a note beside it names the holder.

    If another process holds it, raises Held with a sentence about `what`. With `waits`, that gets the sentence instead,
    and the call waits for the lock until `stopped` is true; then it raises Held after all.
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
    """The lock of a path, not yet taken. Its file stays after release, as another process might hold it by then."""
    return FileLock(path, thread_local=False, fallback_to_soft=False, preserve_lock_file=True)


def take(lock: FileLock, **how: Any) -> None:
    """Acquire a lock, or continue without one where the file system has none; `how` is as for `FileLock.acquire`."""
    try:
        lock.acquire(**how)
    except OSError as error:
        if isinstance(error, Timeout) or error.errno not in LOCKLESS:
            raise


def is_free(lock: FileLock) -> bool:
    """Whether no process held a lock, which this process then holds; false where the file system has no locks."""
    with suppress(OSError):  # a Timeout is one
        lock.acquire(blocking=False)
    return lock.is_locked


def holder_in(note: Path) -> "Holder | str":
    """The holder of the lock to which a note belongs."""
    try:
        return Holder(**json.loads(note.read_bytes()))
    except (OSError, ValueError, TypeError):
        return "another process"
