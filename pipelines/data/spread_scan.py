"""The scan of a source by several processes: types of files, then batches of each, then shards.

The sizes of earlier batches decide where a shard ends. So a first pass over each file finds these sizes, and a second
one reads, hashes and writes its rows. Shards have the same bytes as those of a scan in one process.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

from secateur.pipelines.data.scan import Scan, SplitRows, full
from secateur.pipelines.data.source_kinds.contract import check_names
from secateur.pipelines.data.source_kinds.parts import SourceFile, Types
from secateur.pipelines.data.spread import Spread, in_order
from secateur.pipelines.files.whole_files import write_bytes

Sizes = list[tuple[int, int, int, int]]
"""Sizes of batches: file, first row in it, rows and bytes."""


@dataclass(frozen=True)
class Start:
    """Beginning of a shard: its number, the file, and the row in it."""

    number: int
    file: int
    row: int


def looked_at(
    spread: Spread, files: Mapping[str, Sequence[SourceFile]], names: Sequence[str], texts: Sequence[str]
) -> tuple[dict[str, Sequence[SourceFile]], list[Types]]:
    """Files of each split with their cached properties, and the types of their columns in the order of all files;
    SourceError for a missing column."""
    flat = [file for several in files.values() for file in several]
    known = list(in_order(spread(partial(kinds_of, tuple(names), tuple(texts)), flat)))
    found: dict[str, Sequence[SourceFile]] = {}
    seen = iter([file for file, _ in known])
    for split, several in files.items():
        found[split] = [next(seen) for _ in several]
    return found, [kinds for _, kinds in known]


def kinds_of(names: Sequence[str], texts: Sequence[str], file: SourceFile) -> tuple[SourceFile, Types]:
    """The file, whose cached properties are filled, and the types of some columns."""
    check_names(file.columns, names, file.name)
    return file, file.types(names, texts)


def scanned_by(spread: Spread, scan: Scan) -> dict[str, SplitRows]:
    """Like `scanned`, by several processes; a scan that was killed goes on with the missing shards."""
    scan.folder.mkdir(parents=True, exist_ok=True)
    done, made = scan.done(), scan.folder / MADE
    if done["file"] < len(scan.files):
        made.mkdir(exist_ok=True)
        begins = [(file, done["row"] * (file == done["file"])) for file in range(done["file"], len(scan.files))]
        starts = shard_starts(in_order(spread(partial(sizes_of, scan), begins)), done["shards"], scan.limits)
        for _ in spread(partial(make_shards, scan), in_runs(starts, spread.room)):
            continue
        done["shards"], done["file"], done["row"] = done["shards"] + len(starts), len(scan.files), 0
        done["starts"] += [[start.file, start.row] for start in starts]
        done["digests"] += [marked(scan, start).read_text() for start in starts]
        write_bytes(scan.state, json.dumps(done).encode(), overwrite=True)
    shutil.rmtree(made, ignore_errors=True)
    return scan.splits()


MADE = "made"
"""Folder of a scan with a file for each whole shard, which holds its digest, until all are whole."""


def sizes_of(scan: Scan, begin: tuple[int, int]) -> Sizes:
    """Sizes of the batches of one file from a row on."""
    file, row = begin
    one = replace(scan, files=[scan.files[file]]).batches(0, row)
    found = []
    while one.following is not None:
        _, first, table = one.following
        found.append((file, first, table.num_rows, table.nbytes))
        one.go_on()
    return found


def shard_starts(files: Iterable[Sizes], number: int, limits: tuple[int, int]) -> list[Start]:
    """Beginnings of shards, which are numbered from `number` on."""
    starts: list[Start] = []
    rows = size = 0
    for file, first, count, held in (batch for sizes in files for batch in sizes):
        if not starts or full(rows, size, limits):
            starts.append(Start(number + len(starts), file, first))
            rows = size = 0
        rows, size = rows + count, size + held
    return starts


def in_runs(starts: Sequence[Start], room: int) -> list[list[Start]]:
    """Runs of shards that begin in one file, since reading starts at a file's beginning; if there are fewer files than
    `room`, several runs for each."""
    files = [list(some) for _, some in groupby(starts, lambda start: start.file)]
    pieces = -(-room // max(1, len(files)))
    runs: list[list[Start]] = []
    for several in files:
        size = -(-len(several) // pieces)
        runs += [several[first : first + size] for first in range(0, len(several), size)]
    return runs


def make_shards(scan: Scan, run: Sequence[Start]) -> None:
    """Write consecutive shards, without those that are whole already."""
    left = [start for start in run if not marked(scan, start).exists()]
    if not left:
        return
    batches = scan.batches(left[0].file, left[0].row)
    for start in run[run.index(left[0]) :]:
        digest = scan.write_shard(start.number, batches)
        write_bytes(marked(scan, start), digest.encode(), overwrite=True)


def marked(scan: Scan, start: Start) -> Path:
    """The file that marks a shard as whole."""
    return scan.folder / MADE / f"{start.number:05}"
