"""Digests of the files of a source, which other processes may read for the process of the run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import polars as pl
import xxhash

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.contract import SourceKind
from secateur.pipelines.data.source_kinds.parts import SourceFile
from secateur.pipelines.data.spread import Spread
from secateur.pipelines.files.contents import content_of, entries_of, learn, unknown

Elsewhere = Callable[[Sequence[Path]], None]
"""Lets other processes digest files; afterwards `content_of` knows them."""
LEAST = 1 << 28
"""Bytes from which on other processes digest files: below, handing them out takes longer."""
PATHS = 1 << 18
"""Paths of pictures that are handed out at once."""
_elsewhere: ContextVar[Elsewhere | None] = ContextVar("_elsewhere", default=None)


@contextmanager
def digested_by(elsewhere: Elsewhere | None) -> Iterator[None]:
    """Digest the files of the sources that the block reads by other processes, if there are any."""
    token = _elsewhere.set(elsewhere)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def digest(paths: Sequence[Path]) -> None:
    """Digest files where `digested_by` says; otherwise this process digests them when it needs to."""
    if elsewhere := _elsewhere.get():
        elsewhere(paths)


def digest_elsewhere(spread: Spread, paths: Sequence[Path]) -> None:
    """Digest files by other processes, in units of about equal size.

    A file that they do not see, or that was written a moment ago, is left to this process.
    """
    sizes = {path: path.stat().st_size for path in unknown(paths)}
    if not sizes or sum(sizes.values()) < LEAST:
        return
    most, held = sum(sizes.values()) // (4 * spread.room) + 1, 0
    units: list[list[Path]] = [[]]
    for path, size in sizes.items():
        if held >= most:
            units.append([])
            held = 0
        units[-1].append(path)
        held += size
    for number, entries in spread(entries_of, units):
        learn(units[number], entries)


def digest_files(source: SourceKind, base: Path) -> None:
    """Digest the files that a source names, see `digest`."""
    if _elsewhere.get() and type(source).files is not SourceKind.files:
        digest([path for several in source.files(base).values() for path in several])


def pictures_of(files: Sequence[SourceFile], columns: Columns, base: Path) -> str:
    """Digest of the pictures in files of their own beside the files of a source, empty where there are none.

    It covers contents, for the names are in the source's files; a missing picture counts as missing.
    """
    total, some = xxhash.xxh3_128(), False
    name = columns.image
    for file in files:
        if name is None or name not in file.columns:
            continue
        for paths in digested(file.picture_paths(name, base)):
            for path in paths.drop_nulls().unique(maintain_order=True):
                some = True
                try:
                    total.update(bytes.fromhex(content_of(Path(path))))
                except OSError:
                    total.update(b"missing")
    return total.hexdigest() if some else ""


def digested(parts: Iterator[pl.Series]) -> Iterator[pl.Series]:
    """Paths in their parts, once other processes have digested the files; memory holds `PATHS` and a part of them."""
    if _elsewhere.get() is None:
        yield from parts
        return
    held: list[pl.Series] = []
    for part in parts:
        held.append(part)
        if sum(map(len, held)) >= PATHS:
            yield from after_digests(held)
            held = []
    yield from after_digests(held)


def after_digests(parts: list[pl.Series]) -> list[pl.Series]:
    """The same paths, once other processes have digested their files."""
    digest([Path(path) for part in parts for path in part.drop_nulls()])
    return parts
