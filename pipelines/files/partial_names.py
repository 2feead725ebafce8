"""Hidden names of files and folders that are being written, their locks, and leftovers of killed writers.

The writing process locks a partial name, and the system drops the lock when that process ends, however it ends. So an
unlocked one is a leftover, and a locked one is left alone.
"""

import ctypes
import errno
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from secateur.pipelines.files.unwritable import disk_errors

if sys.platform != "win32":
    import fcntl

WRITING, ASIDE = "partial", "aside"
LEFTOVER = re.compile(rf"\.(?P<name>.+)\.[0-9a-f]{{12}}\.(?P<ending>{WRITING}|{ASIDE})", re.DOTALL)
SNAPSHOT = "snapshot.partial"
"""The state of a training during its save."""
AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Numbers of Linux's renameat2."""


def hidden_sibling(path: Path, ending: str = WRITING) -> Path:
    """A new hidden name beside `path`; creates the folder if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.{ending}")


@contextmanager
def claimed(path: Path, *, folder: bool) -> Iterator[Path]:
    """An empty file or folder beside `path`, locked until the block ends; writers must not replace it."""
    while True:
        partial = hidden_sibling(path)
        partial.mkdir() if folder else partial.touch(exist_ok=False)
        descriptor = _lock(partial, wait=True)
        # Between creation and lock another process may have removed it as a leftover.
        if descriptor is None or partial.exists():
            break
        os.close(descriptor)
    try:
        yield partial
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def resumable_folder(path: Path) -> Iterator[Path]:
    """The folder `path`, in which only this process works until the block ends.

    It is removed at the end of the block, but stays if the process is killed or interrupted: the next one finds its
    content.
    """
    while True:
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(path, wait=True)
        # While this process waited, the earlier holder may have removed the folder.
        if descriptor is None or (path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())):
            break
        os.close(descriptor)
    try:
        with disk_errors(path):
            yield path
        shutil.rmtree(path, ignore_errors=True)
    except Exception:
        shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def remove_leftovers(path: Path) -> list[Path]:
    """Delete leftovers of killed writers of `path` beside it; returns the deleted paths.

    A folder that was moved aside and never replaced is put back first.
    """
    if not path.parent.is_dir():
        return []
    return _removed(path.parent, [entry.name for entry in path.parent.iterdir()], only=path.name)


def remove_all_leftovers(folder: Path) -> list[Path]:
    """`remove_leftovers` for everything below a folder whose lock this process holds; returns the deleted paths.

    Snapshots of trainings, which have no locks, are deleted too.
    """
    removed = []
    for parent, folders, files in os.walk(folder):
        removed += _removed(Path(parent), [*folders, *files])
        if SNAPSHOT in files:
            removed.append(Path(parent, SNAPSHOT))
            removed[-1].unlink()
        folders[:] = [name for name in folders if not LEFTOVER.fullmatch(name)]
    return removed


def _removed(parent: Path, names: Iterable[str], only: str | None = None) -> list[Path]:
    """Delete the leftovers among the names of a folder; returns their paths."""
    removed = []
    for name in sorted(names):
        entry, found = parent / name, LEFTOVER.fullmatch(name)
        if not found or only not in (None, found["name"]) or entry.is_symlink():
            continue
        if found["ending"] == ASIDE and not os.path.lexists(parent / found["name"]):
            os.rename(entry, parent / found["name"])
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
    """Exchange two names in one step; False where the system or the file system cannot."""
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
    """Descriptor that holds the lock; None where another process holds it or the file system has no locks."""
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
