"""The hidden names under which files and folders are written: who is writing them, and what killed writers left.

A partial name is locked by the process that writes it, and the system drops the lock when that process ends, however
it ends. So what is not locked is a leftover, and what another process is still writing is left alone.
"""

import ctypes
import errno
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

WRITING, ASIDE = "partial", "aside"
AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Numbers of Linux's renameat2."""


def hidden_sibling(path: Path, ending: str = WRITING) -> Path:
    """A new hidden name beside `path`, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.{ending}")


@contextmanager
def claimed(path: Path, *, folder: bool) -> Iterator[Path]:
    """An empty file or folder beside `path`, locked until the block ends; whoever opens it must not replace it."""
    while True:
        partial = hidden_sibling(path)
        partial.mkdir() if folder else partial.touch(exist_ok=False)
        descriptor = _lock(partial, wait=True)
        # Between its birth and its lock another process may have taken it for a leftover.
        if descriptor is None or partial.exists():
            break
        os.close(descriptor)
    try:
        yield partial
    finally:
        if descriptor is not None:
            os.close(descriptor)


def remove_leftovers(path: Path) -> list[Path]:
    """Delete what killed writers of `path` left beside it; returns what was deleted.

    A folder that was moved aside and never replaced is put back first.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{12}}\.({WRITING}|{ASIDE})")
    if not path.parent.is_dir():
        return []
    removed = []
    for entry in sorted(path.parent.iterdir()):
        found = pattern.fullmatch(entry.name)
        if not found or entry.is_symlink():
            continue
        if found[1] == ASIDE and not os.path.lexists(path):
            os.rename(entry, path)
            continue
        descriptor = _lock(entry, wait=False)
        if descriptor is None:
            continue
        try:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
            removed.append(entry)
        finally:
            os.close(descriptor)
    return removed


def swap(first: Path, second: Path) -> bool:
    """Exchange what two names stand for in one step; False where the system or the file system has no such step."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(first))


def _lock(path: Path, *, wait: bool) -> int | None:
    """Descriptor that holds the lock; None where another process holds it or the file system knows no locks."""
    if sys.platform == "win32":
        return None
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            os.close(descriptor)
            return None
        return descriptor
    return None
