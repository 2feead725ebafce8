"""Full disks, quotas and unwritable folders, in one sentence: the path, the reason, and the remedy.

Libraries report them in many ways: with the system's number, with a text of their own, or with neither.
"""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAKE_ROOM = "make room there, such as by removing exports and studies that you no longer need, and run the same again"
MOVE = "name another place, or change its permissions"
REASONS = {
    errno.ENOSPC: ("no space is left on its disk", MAKE_ROOM),
    errno.EDQUOT: ("your quota of its disk is used up", MAKE_ROOM),
    errno.EFBIG: (
        "the file would be larger than the system allows",
        "raise the limit (ulimit -f), or take another disk",
    ),
    errno.EROFS: ("its disk can only be read", MOVE),
    errno.EACCES: ("you have no permission", MOVE),
    errno.EPERM: ("you have no permission", MOVE),
    errno.EIO: ("its disk reports an error", "look after the disk, and run the same again"),
}
FORBIDDEN = (errno.EACCES, errno.EPERM)
"""Errors that also occur on reading."""
WORDS = {
    r"No space left on device|database or disk is full": errno.ENOSPC,
    r"Disk quota exceeded": errno.EDQUOT,
    r"File too large": errno.EFBIG,
    r"Read-only file system|attempt to write a readonly database": errno.EROFS,
    r"unable to open database file": errno.EACCES,
    r"disk I/O error": errno.EIO,
}
"""Messages of libraries that pass on no number: those in Rust, SQLite, a worker that quotes another process."""
BLOCK = 1 << 16
"""Bytes of a trial write after an error without a reason."""


class Unwritable(OSError):
    """A failed write; the text is one sentence."""


class UnwritableTarget(Unwritable, ValueError):
    """A path to write, in a folder in which nothing can be written."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn disk errors of the block into Unwritable that names `path`; others pass.

    If a library fails without a reason, the error of a trial write to the same folder counts as its reason.
    """
    try:
        yield
    except Unwritable:
        raise
    except Exception as error:
        number, named = reason_of(error)
        number = number or refusal_at(path.parent)
        if number is None:
            raise
        other = named and number in FORBIDDEN and not Path(named).absolute().is_relative_to(path.parent.absolute())
        raise Unwritable(sentence(number, Path(named) if other else path)) from error


def told(error: BaseException, fallback: Path) -> str | None:
    """The sentence for an error caused by the disk; None for others, and for errors whose text contains it.

    `fallback` is the folder to name if the error names no file.
    """
    known = next((str(at) for at in chain_of(error) if isinstance(at, Unwritable)), "")
    if known:
        return None if known in str(error) else known
    number, named = reason_of(error)
    if number is None or (isinstance(error, ValueError) and number in FORBIDDEN):
        return None
    if number == errno.EIO:  # SQLite's, which may mean a full disk
        number = refusal_at(fallback) or number
    return sentence(number, Path(named) if named else fallback)


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """An error and its chain of causes."""
    at: BaseException | None = error
    seen: list[BaseException] = []
    while at is not None and not any(at is one for one in seen):  # an error may be its own cause
        seen.append(at)
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def reason_of(error: BaseException) -> tuple[int | None, str]:
    """Number of the disk's error in an error's chain, and the file that it names."""
    for at in chain_of(error):
        if isinstance(at, OSError) and at.errno is not None:
            if at.errno in REASONS:
                return at.errno, str(at.filename2 or at.filename or "")  # copies name the source first
        elif (number := in_words(str(at))) is not None:
            return number, ""
    return None, ""


def in_words(text: str) -> int | None:
    """Number of the disk's error that a text mentions."""
    return next((number for words, number in WORDS.items() if re.search(words, text)), None)


def sentence(number: int, path: Path) -> str:
    """The sentence for the user."""
    reason, remedy = REASONS[number]
    return f"{path} cannot be {'opened' if number in FORBIDDEN else 'written'}: {reason}; {remedy}"


def refusal_at(folder: Path) -> int | None:
    """Number of the error of a trial write to a folder; None if it succeeds."""
    try:
        write_trial(folder, BLOCK)
    except OSError as error:
        return error.errno if error.errno in REASONS else None
    return None


def refuse_unwritable(*paths: Path | None) -> None:
    """Raise ValueError for a path whose parent, or the nearest that exists, is not a folder, or not writable.

    Where the disk refuses, it is an UnwritableTarget: a reason in the text of another error would be told of the home.
    """
    for path in filter(None, paths):
        above = next(one for one in path.expanduser().absolute().parents if os.path.lexists(one))
        if not above.is_dir():
            raise ValueError(f"{path}: {above} is no folder; name another path")
        try:
            write_trial(above, 0)
        except OSError as error:
            why = error.strerror or error
            raise UnwritableTarget(f"{path}: nothing can be written in {above} ({why}); name another path") from error


def write_trial(folder: Path, size: int) -> None:
    """Create a file without a name in a folder and write so many bytes; raises OSError where that fails."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(size))
