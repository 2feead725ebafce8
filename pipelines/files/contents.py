"""Contents of files and folders as digests; a file that nobody has written since is not read again.

What is known of a file goes by its size, inode and times. It lives as long as the process, and from one process to the
next in a small file, see `remembered`.
"""

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import xxhash

from secateur.pipelines.files.whole_files import write_bytes

SETTLED = 2 * 10**9
"""Nanoseconds since the last change of a file from which on its times tell a further change: they go in steps."""
HEAD = b"secateur contents 1\n"
SIZE = 16
"""Bytes of a digest."""

_known: dict[bytes, bytes] = {}
"""By the digest of a path: that of the file's state, and that of its content."""
_asked: ContextVar[set[bytes] | None] = ContextVar("_asked", default=None)


def content_of(path: Path) -> str:
    """XXH3-128 of the bytes of a file, 32 hexadecimal digits; raises OSError where it cannot be read."""
    name = xxhash.xxh3_128_digest(os.fsencode(os.path.abspath(path)))
    if (asked := _asked.get()) is not None:
        asked.add(name)
    known = _known.get(name, b"")
    if known[:SIZE] == state_of(os.stat(path)):
        return known[SIZE:].hex()
    now = time.time_ns()
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, xxhash.xxh3_128)
        after = os.fstat(file.fileno())
    if state_of(before) == state_of(after) and now - before.st_ctime_ns > SETTLED:
        _known[name] = state_of(before) + digest.digest()
    return str(digest.hexdigest())


def state_of(found: os.stat_result) -> bytes:
    """Digest of all that changes when a file is written or replaced."""
    state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    return xxhash.xxh3_128_digest(repr(state).encode())


def digest_of(files: Iterable[tuple[str, Path]]) -> str:
    """32 hexadecimal digits of the names' hash, sizes and contents of files, in their order."""
    total = xxhash.xxh3_128()
    for name, path in files:
        content = bytes.fromhex(content_of(path))
        total.update(xxhash.xxh3_128_digest(name.encode()) + path.stat().st_size.to_bytes(8, "little") + content)
    return str(total.hexdigest())


def content_at(path: Path) -> str:
    """Digest of a file, or of the names and contents of all files below a folder, less hidden ones and bytecode."""
    return digest_of(files_below(path)) if path.is_dir() else content_of(path)


def files_below(folder: Path, ending: str = "") -> list[tuple[str, Path]]:
    """Files of a folder by their names from it, sorted, links followed, less hidden ones and bytecode."""
    found, seen = [], set[str]()
    for place, folders, names in os.walk(folder, followlinks=True):
        # A link that leads to a folder above itself would be followed for ever.
        folders[:] = [] if (real := os.path.realpath(place)) in seen else folders
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        paths = (Path(place, name) for name in names if name.endswith(ending) and not name.startswith("."))
        found += [(path.relative_to(folder).as_posix(), path) for path in paths if path.is_file()]
    return sorted(found)


@contextmanager
def remembered(file: Path) -> Iterator[None]:
    """Know in the block what `file` says of files, and write to it at the end what the block asked for.

    One that is not there, or damaged, is taken for empty, and replaced.
    """
    stored = _read(file)
    _known.update(stored)
    token = _asked.set(set())
    try:
        yield
    finally:
        asked = _asked.get() or set()
        _asked.reset(token)
        known = {name: _known[name] for name in sorted(asked) if name in _known}
        if known != stored:
            body = b"".join(name + value for name, value in known.items())
            write_bytes(file, HEAD + xxhash.xxh3_128_digest(body) + body, overwrite=True)


def _read(file: Path) -> dict[bytes, bytes]:
    try:
        content = file.read_bytes()
    except OSError:
        return {}
    head, body = content[: len(HEAD) + SIZE], content[len(HEAD) + SIZE :]
    if head != HEAD + xxhash.xxh3_128_digest(body):
        return {}
    return {body[at : at + SIZE]: body[at + SIZE : at + 3 * SIZE] for at in range(0, len(body), 3 * SIZE)}
