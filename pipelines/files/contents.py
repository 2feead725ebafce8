"""Digests of the contents of files and folders; a file that did not change is not read again.

A file is identified by its size, inode and times. The digests live as long as the process, and between processes in a
small file, see `remembered`.
"""

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import xxhash

from secateur.pipelines.files.whole_files import write_bytes

SETTLED = 2 * 10**9
"""Nanoseconds after a file's last change from which on its times reveal a further change: file times go in steps."""
HEAD = b"secateur contents 1\n"
SIZE = 16
"""Bytes of a digest."""

_known: dict[bytes, bytes] = {}
"""By the digest of a path: the digests of the file's state and of its content."""
_asked: ContextVar[set[bytes] | None] = ContextVar("_asked", default=None)


def content_of(path: Path) -> str:
    """XXH3-128 of the bytes of a file, 32 hexadecimal digits; raises OSError for an unreadable one."""
    name = name_of(path)
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


def name_of(path: Path) -> bytes:
    """Digest of a path."""
    return xxhash.xxh3_128_digest(os.fsencode(os.path.abspath(path)))


def unknown(paths: Iterable[Path]) -> list[Path]:
    """The files that `content_of` would read, each once; without those that are not there."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_file() and _known.get(name_of(path), b"")[:SIZE] != state_of(os.stat(path)):
            found[path] = None
    return list(found)


def entries_of(paths: Sequence[Path]) -> list[bytes]:
    """Digests of the state and content of each file, for `learn` in another process; empty for a file that cannot be
    read here, or that was written a moment ago."""
    found = []
    for path in paths:
        try:
            content_of(path)
        except OSError:
            found.append(b"")
        else:
            found.append(_known.get(name_of(path), b""))
    return found


def learn(paths: Sequence[Path], entries: Sequence[bytes]) -> None:
    """Take over digests of another process; `content_of` ignores those of files that look different here."""
    _known.update({name_of(path): entry for path, entry in zip(paths, entries, strict=True) if entry})


def state_of(found: os.stat_result) -> bytes:
    """Digest of all properties that change when a file is written or replaced."""
    state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    return xxhash.xxh3_128_digest(repr(state).encode())


def digest_of(files: Iterable[tuple[str, Path]]) -> str:
    """Hash of the names, sizes and contents of files, in their order, 32 hexadecimal digits."""
    total = xxhash.xxh3_128()
    for name, path in files:
        content = bytes.fromhex(content_of(path))
        total.update(xxhash.xxh3_128_digest(name.encode()) + path.stat().st_size.to_bytes(8, "little") + content)
    return str(total.hexdigest())


def content_at(path: Path) -> str:
    """Digest of a file, or of the names and contents of all files below a folder, without hidden ones and bytecode."""
    return digest_of(files_below(path)) if path.is_dir() else content_of(path)


def files_below(folder: Path, ending: str = "") -> list[tuple[str, Path]]:
    """Files of a folder by their names from it, sorted, links followed, without hidden ones and bytecode."""
    found, seen = [], set[str]()
    for place, folders, names in os.walk(folder, followlinks=True):
        # A link to a folder above itself would lead to endless recursion.
        folders[:] = [] if (real := os.path.realpath(place)) in seen else folders
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        paths = (Path(place, name) for name in names if name.endswith(ending) and not name.startswith("."))
        found += [(path.relative_to(folder).as_posix(), path) for path in paths if path.is_file()]
    return sorted(found)


@contextmanager
def remembered(file: Path) -> Iterator[None]:
    """Use the digests in `file` within the block, and at the end write those that the block used to it.

    A missing or damaged file counts as empty, and is replaced.
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
