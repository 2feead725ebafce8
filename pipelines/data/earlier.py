"""Types of files and shards of an earlier scan that stay valid for a source that has grown.

A source has grown where its files begin with those of the earlier scan, byte by byte; the last of these may be CSV or
JSON lines with rows appended. Shards end after fixed numbers of rows or bytes, so an earlier shard ends there again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import xxhash

from secateur.pipelines.data import types
from secateur.pipelines.data.scan import Scan, SplitRows, add_rows
from secateur.pipelines.data.source_kinds.csv import CsvFile
from secateur.pipelines.data.source_kinds.jsonl import JsonlFile
from secateur.pipelines.data.source_kinds.parquet import ParquetFile
from secateur.pipelines.data.source_kinds.parts import DatasetSplit, SourceFile, Types
from secateur.pipelines.files.contents import content_of
from secateur.pipelines.files.whole_files import link_or_copy, write_bytes

if TYPE_CHECKING:
    from secateur.pipelines.data.known_pictures import KnownPictures

FILES = "files.json"
"""File in the folder of a scan: the settings behind its shards, and digest and bytes of each file."""
Mark = tuple[str, int]
"""Digest and bytes of a file."""


@dataclass(frozen=True)
class Earlier:
    """The last scan with the same settings, of any revision, in the folder of all scans."""

    folder: Path
    settings: str
    """Digest of the settings."""
    decoder: str = ""
    """Versions of the picture decoder (`identity.decoder`), empty for a source without pictures."""

    @property
    def record(self) -> Path:
        """The file that names this scan."""
        return self.folder / f"{self.settings}.json"

    def told(self) -> dict[str, Any]:
        """Content of the record; empty where the file is missing or damaged."""
        try:
            return dict(json.loads(self.record.read_text()))
        except (OSError, ValueError):
            return {}

    def kinds(self, files: Sequence[SourceFile], look: Callable[[SourceFile], Types]) -> list[Types]:
        """Types of the columns of each file; the record has them for files read before, `look` finds the others."""
        known = self.told().get("kinds", {})
        found: list[Types] = []
        for file in files:
            digest = mark_of(file)[0] if isinstance(file, CsvFile | JsonlFile) else ""
            held = known.get(digest)
            found.append(kinds_from(held) if held else look(file))
        return found

    def begin(self, scan: Scan) -> int:
        """Give a scan that has not begun the earlier shards that stay valid; returns their number."""
        if scan.state.exists() or (marks := marks_of(scan)) is None:
            return 0
        scan.folder.mkdir(parents=True, exist_ok=True)
        now = {"alike": scan.alike, "files": marks}
        write_bytes(scan.folder / FILES, json.dumps(now).encode(), overwrite=True)
        before = self.folder / str(self.told().get("folder")) / scan.folder.name
        try:
            then = json.loads((before / FILES).read_text())
            done = json.loads((before / scan.state.name).read_text())
        except (OSError, ValueError):
            return 0
        if then["alike"] != scan.alike:
            return 0
        starts = done["starts"]
        if not scan.digested:
            count = shards_kept(starts, *files_kept(scan.files, marks, then["files"]))
        else:
            named_alike = [tuple(mark) for mark in then["files"]] == marks
            count = shards_alike(scan, done["digests"]) if named_alike else 0
        for path in sorted(before.glob("*-*.arrow")) if count else ():
            if int(path.stem.rpartition("-")[2]) < count:
                link_or_copy(path, scan.folder / path.name)
        if count:
            file, row = starts[count]
            kept = {"shards": count, "file": file, "row": row, "starts": starts[:count]}
            kept["digests"] = done["digests"][:count]
            write_bytes(scan.state, json.dumps(kept).encode(), overwrite=True)
        return count

    def pictures(self, scan: Scan) -> "KnownPictures | None":
        """The decoded pictures of the last scan; None where it has none, or another version of Pillow decoded them."""
        told = self.told()
        if not self.decoder or told.get("decoder") != self.decoder:
            return None
        from secateur.pipelines.data.known_pictures import known_pictures

        return known_pictures(self.folder / str(told.get("folder")), scan.folder)

    def remember(self, scan: Path, files: Sequence[SourceFile], kinds: Sequence[Types]) -> None:
        """Record a scan and the types of its files."""
        texts = {
            mark_of(file)[0]: pa.schema(list(kind.items())).serialize().to_pybytes().hex()
            for file, kind in zip(files, kinds, strict=True)
            if isinstance(file, CsvFile | JsonlFile)
        }
        told = {"folder": scan.name, "kinds": texts, "decoder": self.decoder}
        if told != self.told():
            write_bytes(self.record, json.dumps(told).encode(), overwrite=True)


def kinds_from(text: str) -> Types:
    """Types of columns from their schema in hexadecimal digits."""
    schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(text)))
    return dict(zip(schema.names, schema.types, strict=True))


def mark_of(file: CsvFile | JsonlFile | ParquetFile) -> Mark:
    """Digest and bytes of a file."""
    return content_of(file.path), file.path.stat().st_size


def marks_of(scan: Scan) -> list[Mark] | None:
    """Marks of the files of a scan; None where rows do not follow from the bytes of files alone."""
    marks, image = [], scan.columns.image
    for file in scan.files:
        if scan.digested and isinstance(file, DatasetSplit):
            marks.append((repr(sorted(file.label_names.items())), 0))
            continue
        if not isinstance(file, CsvFile | JsonlFile | ParquetFile):
            return None
        if image is not None and (
            scan.wanted[image] != types.PICTURE or not isinstance(file, ParquetFile) or file.with_outside(image)
        ):
            return None
        marks.append(mark_of(file))
    return marks


def files_kept(files: Sequence[SourceFile], now: Sequence[Mark], then: Sequence[Sequence[Any]]) -> tuple[int, bool]:
    """Number of unchanged files from the first on, and whether the next one is the earlier one with rows appended."""
    same = 0
    while same < min(len(now), len(then)) and list(now[same]) == list(then[same]):
        same += 1
    if same == min(len(now), len(then)) or now[same][1] <= then[same][1]:
        return same, False
    file, (digest, size) = files[same], then[same]
    plain = isinstance(file, CsvFile | JsonlFile) and file.path.suffix.lower() != ".gz"
    return same, plain and isinstance(file, CsvFile | JsonlFile) and digest_of_start(file.path, size) == digest


def digest_of_start(path: Path, size: int) -> str:
    """Digest of the first bytes of a file."""
    total = xxhash.xxh3_128()
    with path.open("rb") as file:
        while size and (block := file.read(min(size, 1 << 22))):
            total.update(block)
            size -= len(block)
    return str(total.hexdigest())


def shards_kept(starts: Sequence[Sequence[int]], same: int, extended: bool) -> int:
    """Number of shards from the first on with unchanged rows; `starts` are the file and row where each begins."""
    ends = [(file < same) or (file == same and (row == 0 or extended)) for file, row in starts[1:]]
    return next((count for count, kept in enumerate(ends) if not kept), len(ends))


def shards_alike(scan: Scan, digests: Sequence[str]) -> int:
    """Number of earlier shards whose rows the source still begins with, by the digests of these rows."""
    batches = scan.batches(0, 0)
    for number, digest in enumerate(digests[:-1]):  # the last one ended with the source
        total = xxhash.xxh3_128()
        for _, _, table in scan.of_shard(batches):
            add_rows(total, table)
        if total.hexdigest() != digest:
            return number
    return max(0, len(digests) - 1)


def begun(earlier: Earlier, read: Callable[[Scan], Mapping[str, SplitRows]], scan: Scan) -> dict[str, SplitRows]:
    """The shards of a scan, which begins with the valid shards of an earlier one and decodes new pictures alone."""
    if pictures := earlier.pictures(scan):
        scan = replace(scan, seen=pictures)
    earlier.begin(scan)
    return dict(read(scan))
