"""Tar shards of WebDataset in place: kept samples are read by their positions in the shard, the others are skipped.

Members are grouped into samples as in the webdataset package: consecutive ones whose names are equal up to the first
point. Items are those of its readers, bytes by ending, so that its `decode` works on a stream of them.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.files.addresses import Address, Options, folder_of, found_files, shown
from secateur.pipelines.in_place.contract import Data, Item, Reader

MEMBER = re.compile(r"^(?P<key>(?:.*/|)[^.]+)[.](?P<ending>[^/]*)$")
META = re.compile(r"__[^/]*__($|/)")
SHARD_AND_KEY = "shard:__key__"


class Samples(NamedTuple):
    """Keys of the samples of a shard, and the start of each in it and the end of the last, int64 `[samples + 1]`."""

    keys: list[str]
    starts: np.ndarray


class Webdataset(Reader):
    """Uncompressed tar files; a sample's number in its file is its row."""

    kind: ClassVar[str] = "webdataset"
    key: ClassVar[str] = "__key__"

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._known: dict[int, Samples] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_known": self._known}

    @classmethod
    def found(cls, data: Address | Sequence[Address], options: Options | None) -> Data | None:
        """Files that end in .tar."""
        first = data if isinstance(data, str | Path) else next(iter(data), "")
        folder = folder_of(first, options)
        if not (folder.there and folder.names(".tar")) and not str(first).partition("?")[0].endswith(".tar"):
            return None
        if re.search(r"\{\d+\.\.\d+\}", str(first)):
            raise SourceError(f"data: {shown(first)}: write a glob (shard-*.tar) for the numbers in braces")
        root, names = found_files(data, ".tar", options)
        return Data(root, tuple(names))

    @property
    def shards(self) -> Sequence[str]:
        return self.data.names

    @cached_property
    def rows(self) -> np.ndarray:
        return np.array([len(self.samples(shard).keys) for shard in range(len(self.shards))], np.int64)

    def samples(self, shard: int) -> Samples:
        """The samples of a shard, from the headers of its members; SourceError for a file that is not a tar file."""
        if shard not in self._known:
            stored = self.data.folder.at(self.shards[shard])
            keys, starts, end, seen = list[str](), list[int](), 0, set[str]()
            try:
                with stored.open() as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
                    while (member := archive.next()) is not None:
                        archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
                        found = MEMBER.match(member.name) if member.isreg() and not META.match(member.name) else None
                        if found is None:
                            continue
                        if not keys or found["key"] != keys[-1]:
                            if found["key"] in seen:
                                raise SourceError(
                                    f"{stored.name}: the members of {found['key']!r} do not follow each other: write "
                                    "the shard in the order of its keys"
                                )
                            seen.add(found["key"])
                            keys.append(found["key"])
                            starts.append(member.offset)
                        end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            except (tarfile.TarError, OSError) as error:
                raise SourceError(f"{stored.name} is no tar file that is not packed: {error}") from error
            self._known[shard] = Samples(keys, np.array([*starts, end], np.int64))
        return self._known[shard]

    def read(self, shard: int, rows: np.ndarray, columns: Sequence[str] | None) -> Sequence[Item]:
        """Samples as `__key__`, `__url__` and bytes by ending; `columns` are endings."""
        samples, stored = self.samples(shard), self.data.folder.at(self.shards[shard])
        stream = self.opened(shard, stored.open)
        found = []
        for row in rows.tolist():
            start, stop = samples.starts[row : row + 2].tolist()
            stream.seek(start)
            members = members_in(stream.read(stop - start), samples.keys[row], stored.name)
            chosen = members if columns is None else {name: members[name] for name in columns if name in members}
            found.append({"__key__": samples.keys[row], "__url__": stored.name, **chosen})
        return found

    def keys(self, name: str) -> Sequence[Any]:
        """Keys of samples, or with `shard:__key__` `NAME.tar:KEY`, where keys recur in other shards."""
        if name not in (self.key, SHARD_AND_KEY):
            raise SourceError(f"key: samples have {self.key!r}, or {SHARD_AND_KEY!r} (NAME.tar:KEY), and no {name!r}")
        return [
            f"{shard}:{key}" if name == SHARD_AND_KEY else key
            for place, shard in enumerate(self.shards)
            for key in self.samples(place).keys
        ]


def members_in(data: bytes, key: str, where: str) -> dict[str, bytes]:
    """Members of one sample by their endings in lower case; SourceError for two members of one ending."""
    found = dict[str, bytes]()
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            match = MEMBER.match(member.name) if member.isreg() and not META.match(member.name) else None
            content = archive.extractfile(member) if match is not None else None
            if match is None or content is None:
                continue
            ending = match["ending"].lower()
            if ending in found:
                raise SourceError(f"{where}: sample {key!r} has two members that end in .{ending}")
            found[ending] = content.read()
    return found
