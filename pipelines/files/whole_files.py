"""Files and folders that appear whole or not at all, and names that stay inside their folder.

Each is written under a hidden `.partial` name beside its target, flushed to the disk and renamed, so that a killed run
leaves no incomplete file that a reader would accept. Errors of full disks and unwritable folders are one sentence.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from secateur.pipelines.files.partial_names import ASIDE, claimed, hidden_sibling, swap
from secateur.pipelines.files.unwritable import disk_errors, refuse_unwritable

OVERWRITE = "--overwrite (in Python overwrite=True)"
"""How users of functions for the shell and for Python replace a target."""
MANY = 200
"""Least number of files for which one flush of everything is faster than one of each."""


@contextmanager
def new_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A path to an empty file for writing; it appears at `path` when the block ends without an error, and not before.

    Raises FileExistsError where something exists at `path` already, unless `overwrite` is set and it is no folder.
    """
    refuse_existing(path, overwrite=overwrite)
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder, and a file is not written over a folder; name another target")
    with disk_errors(path), claimed(path, folder=False) as partial:
        try:
            with disk_errors(path):  # before the unfinished file is removed, which frees space
                yield partial
                _flush(partial)
                _place(partial, path, overwrite=overwrite)
        finally:
            partial.unlink(missing_ok=True)
    _flush(path.parent)


@contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """An empty folder to fill; it appears at `path` when the block ends without an error, and not before.

    With `overwrite` the existing folder is exchanged for the new one in one step, where the system has such a step
    (Linux), and then deleted; elsewhere it is moved aside first. Raises FileExistsError where something exists at
    `path` already, unless `overwrite` is set and it is a real folder.
    """
    refuse_existing(path, overwrite=overwrite)
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
        raise FileExistsError(f"{path} is not a folder, and only a folder is replaced by a folder; name another target")
    with disk_errors(path), claimed(path, folder=True) as partial:
        try:
            with disk_errors(path):
                yield partial
                _flush_folder(partial)
                _replace_folder(partial, path, overwrite=overwrite)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    _flush(path.parent)


def write_bytes(path: Path, content: bytes, *, overwrite: bool = False) -> None:
    """Write a file whole or not at all; raises FileExistsError like `new_file`."""
    with new_file(path, overwrite=overwrite) as partial:
        partial.write_bytes(content)


def refuse_existing(path: Path, *, overwrite: bool, option: str = "") -> None:
    """Raise FileExistsError for an existing path, even a dangling link, that may not be replaced.

    `option` is how the caller's user replaces it, such as `--overwrite`; empty where nobody can.
    """
    if os.path.lexists(path) and not overwrite:
        replace = f", or replace it with {option}" if option else ""
        raise FileExistsError(f"{path} exists already: name another path{replace}")


def refuse_target(path: Path, *, overwrite: bool, option: str = "--overwrite") -> None:
    """`refuse_existing`, and ValueError where nothing can be written at the path: one check before any long work."""
    refuse_existing(path, overwrite=overwrite, option=option)
    refuse_unwritable(path)


def inside(folder: Path, name: str) -> Path:
    """Path of `name` in `folder`, where `name` uses forward slashes.

    Raises ValueError for a name that leaves the folder: absolute, with `..`, with a drive or a backslash, through a
    link that leads out, or empty.
    """
    parts = PurePosixPath(name).parts
    plain = parts and not PurePosixPath(name).is_absolute() and ".." not in parts
    if not plain or "\\" in name or "\0" in name or PureWindowsPath(name).drive:
        raise ValueError(f"{name!r} is not a plain name inside {folder}")
    path = folder.joinpath(*parts)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name!r} leads out of {folder} through a link")
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link_or_copy(path: Path, target: Path) -> None:
    """A hard link to a file, or a whole copy where the file system has none; replaces an existing target."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(path)
    except OSError:  # another file system, or one without hard links
        with new_file(target, overwrite=True) as partial:
            shutil.copyfile(path, partial)


def _place(partial: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        os.replace(partial, path)
        return
    # A rename would silently replace a file that another process put there meanwhile; a link fails.
    try:
        os.link(partial, path)
    except FileExistsError:
        refuse_existing(path, overwrite=False)
        raise
    except OSError:  # file systems without hard links
        refuse_existing(path, overwrite=False)
        os.replace(partial, path)


def _replace_folder(partial: Path, path: Path, *, overwrite: bool) -> None:
    if not path.exists():
        os.rename(partial, path)
        return
    refuse_existing(path, overwrite=overwrite)
    if swap(partial, path):
        return
    aside = hidden_sibling(path, ASIDE)
    os.rename(path, aside)
    try:
        os.rename(partial, path)
    except OSError:
        os.rename(aside, path)
        raise
    shutil.rmtree(aside)


def _flush_folder(folder: Path) -> None:
    entries = sorted(folder.rglob("*"))
    if len(entries) >= MANY and hasattr(os, "sync"):
        os.sync()
        return
    for entry in (*entries, folder):
        _flush(entry)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
