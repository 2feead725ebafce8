"""Common part of sources whose files hold rows: Parquet, CSV, JSON lines."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.lazy import pa
from secateur.pipelines.data.source_kinds.contract import Splits, SplitSource
from secateur.pipelines.data.source_kinds.files import SourceError, digest_of, find
from secateur.pipelines.data.source_kinds.parts import SourceFile

Paths = Annotated[
    list[str],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
]
"""A path, a glob or a list of these; relative to the study's folder, `${NAME}` and `${NAME:-default}` expand."""

UNPACKED, RATIO = 1 << 30, 200
"""A compressed file may unpack to `UNPACKED` bytes, or to `RATIO` times its size if that is more."""


class TableSource(SplitSource):
    """Files of rows; a subclass has the reader of one."""

    train: Annotated[Paths, Field(description="path, glob or list of these, of the training samples")]
    test: Annotated[Paths | None, Field(description="the same of the test samples")] = None

    @abstractmethod
    def file(self, path: Path, columns: Columns) -> SourceFile:
        """One of the files with its reader."""

    def read(self, columns: Columns, base: Path, cache: Path) -> tuple[Splits, str]:
        """The files in their order; a digest of their contents."""
        files = self.files(base)
        if both := [path for path in files["train"] if path in files.get("test", [])]:
            raise SourceError(f"source.test: {both[0]} is named by source.train as well")
        revision = digest_of((split, path) for split, paths in files.items() for path in paths)
        return {split: [self.file(path, columns) for path in paths] for split, paths in files.items()}, revision

    def files(self, base: Path) -> dict[str, list[Path]]:
        """Files of each split."""
        return {split: find(patterns, base, split) for split, patterns in self.splits.items()}


class Bounded(io.RawIOBase):
    """A stream that raises SourceError after more bytes than a file of this size should hold."""

    def __init__(self, stream: Any, path: Path) -> None:
        self.stream, self.path = stream, path
        self.left = self.most = max(UNPACKED, RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        self.left -= len(data)
        if self.left < 0:
            raise SourceError(
                f"{self.path}: it unpacks to more than {self.most >> 20} MiB from {self.path.stat().st_size} bytes; "
                "unpack it yourself where that is right, and name the unpacked file"
            )
        return len(data)


@contextmanager
def bounded(path: Path) -> Iterator[Any]:
    """The bytes of a file, unpacked by its ending; see `Bounded`."""
    with pa.input_stream(str(path), compression="detect") as stream:
        packed = path.suffix in (".gz", ".bz2", ".zst", ".lz4")
        yield io.BufferedReader(Bounded(stream, path), 1 << 20) if packed else stream
