"""Read checkpoints in one or many safetensors files, a block of a tensor at a time, and match their tensors.

Nothing is memory-mapped or kept: each block is read from the disk, so memory depends on blocks and not on models.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import safetensors
import torch
import xxhash

from secateur.pipelines.files.whole_files import inside
from secateur.pipelines.storage.packed_masks import BITS

FLOATS: Final = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
WHOLE: Final = ("I", "U", "BOOL")
"""Prefixes of integer types; tensors of these are copied from the fine-tuned checkpoint."""
BUFFERS: Final = ("*running_mean", "*running_var", "*num_batches_tracked", "*position_ids")
"""Names that torch and transformers give to tensors that are not parameters."""
ENDS = 4096
"""Bytes at each end of a tensor that its fingerprint reads."""
COMPARED = 1 << 20
"""Entries per step of a comparison."""


@dataclass(frozen=True)
class Stored:
    """The place of a tensor: its file, its type as safetensors names it, its shape, and its bytes in the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def entries(self) -> int:
        """Number of its entries."""
        return math.prod(self.shape)

    @property
    def columns(self) -> int:
        """Number of entries in a row, which is one place of the first dimension."""
        return math.prod(self.shape[1:])

    def read(self, first: int, stop: int) -> bytearray:
        """Bytes of the entries `first` … `stop`-1."""
        size = (self.stop - self.start) // max(self.entries, 1)
        content = bytearray((stop - first) * size)
        with self.file.open("rb") as file:
            file.seek(self.start + first * size)
            if file.readinto(content) < len(content):
                raise ValueError(f"{self.file} became shorter while it was read")
        return content

    def numbers(self, first: int, stop: int) -> torch.Tensor:
        """The entries `first` … `stop`-1 in their stored type, `[m]`."""
        if first == stop:
            return torch.empty(0, dtype=FLOATS[self.dtype])
        return torch.frombuffer(self.read(first, stop), dtype=FLOATS[self.dtype])

    def ends(self) -> bytes:
        """The first and last few bytes."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            head = file.read(min(ENDS, self.stop - self.start))
            file.seek(max(self.start, self.stop - ENDS))
            return head + file.read(min(ENDS, self.stop - self.start))


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, in their order in the files; `headers` holds each file's bytes before them."""

    path: Path
    files: tuple[Path, ...]
    headers: Mapping[Path, bytes]
    tensors: Mapping[str, Stored]
    index: Path | None = None
    folder: Path | None = None
    """The folder, if the checkpoint was given as one."""

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """The checkpoint of a safetensors file, of an index of several, or of a folder with either.

        Raises ValueError that names the file for anything else, for a missing shard, and for an index that does not
        agree with its shards.
        """
        folder = path if path.is_dir() else None
        if folder:
            path = _in_folder(folder)
        if not path.is_file():
            raise ValueError(f"no checkpoint at {path}: give a .safetensors file, an index of several, or a folder")
        index = path if path.suffix == ".json" else None
        placed = _indexed(path) if index else {}
        files = tuple(sorted(set(placed.values()))) if index else (path,)
        if any(file.name == BITS for file in files):
            raise ValueError(f"{BITS} is what masks are called, not weights: give the checkpoint another name")
        headers, tensors = {}, {}
        for file in files:
            headers[file], contents = _header(file)
            for name, stored in contents.items():
                if index and placed.get(name) != file:
                    raise ValueError(
                        f"{index} does not say that {name!r} lies in {file.name}: save the checkpoint anew"
                    )
                tensors[name] = stored
        if absent := [name for name in placed if name not in tensors]:
            raise ValueError(f"{index} names tensors that its files do not hold: {listed(absent)}")
        return cls(path, files, headers, tensors, index, folder)


def _in_folder(folder: Path) -> Path:
    indices = sorted(folder.glob("*.safetensors.index.json"))
    files = sorted(file for file in folder.glob("*.safetensors") if file.name != BITS)
    candidates = indices or files
    if len(candidates) != 1:
        names = ", ".join(each.name for each in candidates[:5]) or "none"
        raise ValueError(
            f"{folder} should hold one safetensors file or one index of several, it has: {names}; name the file"
        )
    return candidates[0]


def _indexed(index: Path) -> dict[str, Path]:
    try:
        placed = json.loads(index.read_text())["weight_map"]
        files = {name: inside(index.parent, file) for name, file in placed.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no index of safetensors files: {error}") from error
    if missing := sorted({file.name for file in files.values() if not file.is_file()}):
        raise ValueError(f"{index.parent} lacks files that {index.name} names: {listed(missing)}")
    return files


def _header(file: Path) -> tuple[bytes, dict[str, Stored]]:
    """The bytes before the tensors, and the tensors in their order; the library checks that they fill the file."""
    try:
        with safetensors.safe_open(file, framework="numpy"):
            pass
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{file} is no whole safetensors file: {error}") from error
    with file.open("rb") as opened:
        length = opened.read(8)
        text = opened.read(int.from_bytes(length, "little"))
    entries = {name: each for name, each in json.loads(text).items() if name != "__metadata__"}
    offset = 8 + len(text)
    tensors = {
        name: Stored(file, each["dtype"], tuple(each["shape"]), *(offset + end for end in each["data_offsets"]))
        for name, each in sorted(entries.items(), key=lambda item: item[1]["data_offsets"])
    }
    return length + text, tensors


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names for an error message: the first few and their number."""
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches one of the patterns, in which `*` stands for any text."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def chosen_names(tuned: Checkpoint, only: Sequence[str], leave: Sequence[str]) -> tuple[str, ...]:
    """Tensors of floating-point numbers that match `only` (all if empty) and neither `leave` nor `BUFFERS`.

    Raises ValueError for a pattern that no tensor matches, for a type that does not allow arithmetic, and for no
    tensors.
    """
    if strange := [each for each in (*only, *leave) if not any(fnmatchcase(name, each) for name in tuned.tensors)]:
        raise ValueError(f"no tensor of {tuned.path} is called {listed(strange)}; * stands for anything")
    named = [name for name in tuned.tensors if not only or matches(name, only)]
    named = [name for name in named if not matches(name, (*leave, *BUFFERS))]
    kinds = {name: tuned.tensors[name].dtype for name in named}
    if odd := [name for name, kind in kinds.items() if kind not in FLOATS and not kind.startswith(WHOLE)]:
        allowed = ", ".join(FLOATS)
        raise ValueError(f"deltas are computed of {allowed}; leave out of {tuned.path}, or convert: {listed(odd)}")
    chosen = tuple(name for name in named if tuned.tensors[name].dtype in FLOATS and tuned.tensors[name].entries)
    if not chosen:
        raise ValueError(f"no tensor of {tuned.path} is left to prune")
    return chosen


def check_pair(base: Checkpoint, tuned: Checkpoint, names: Sequence[str], leave: Sequence[str]) -> None:
    """Raise ValueError that names every tensor of one checkpoint that has no twin of its shape in the other.

    Tensors that match `leave` need none: the new classifier, embeddings of another vocabulary.
    """
    faults = []
    for one, other in ((tuned, base), (base, tuned)):
        lacking = [name for name in one.tensors if name not in other.tensors and not matches(name, (*leave, *BUFFERS))]
        twins = [name for name in lacking if _tied(one, name)]
        if lacking:
            tied = f" (tied to another tensor there: {listed(twins)})" if twins else ""
            faults.append(f"{other.path} lacks {listed(lacking)}{tied}")
    shapes = [
        f"{name} {list(base.tensors[name].shape)} and {list(tuned.tensors[name].shape)}"
        for name in names
        if name in base.tensors and base.tensors[name].shape != tuned.tensors[name].shape
    ]
    if shapes:
        faults.append(f"shapes differ: {listed(shapes)}")
    odd = [name for name in names if name in base.tensors and base.tensors[name].dtype not in FLOATS]
    if odd:
        faults.append(f"{base.path} does not hold floating-point numbers in {listed(odd)}")
    if faults:
        raise ValueError(
            f"{'; '.join(faults)}. Leave such tensors out (--leave NAME), or give the checkpoint it began as"
        )


def _tied(checkpoint: Checkpoint, name: str) -> bool:
    """Whether another tensor of the checkpoint holds the same bytes."""
    stored = checkpoint.tensors[name]
    return any(
        other != name and (each.dtype, each.shape) == (stored.dtype, stored.shape) and same_bytes(each, stored)
        for other, each in checkpoint.tensors.items()
    )


def same_bytes(one: Stored, other: Stored) -> bool:
    """Whether two tensors of one type and shape have the same bytes."""
    blocks = spans(one, COMPARED, whole_rows=False)
    return one.ends() == other.ends() and all(one.read(*block) == other.read(*block) for block in blocks)


def twins_of(checkpoints: Sequence[Checkpoint], names: Sequence[str]) -> dict[str, str]:
    """For every name the first one with the same bytes in all checkpoints: tied weights stored twice."""
    twins: dict[str, str] = {}
    alike: dict[tuple[object, ...], list[str]] = {}
    for name in names:
        stored = [each.tensors[name] for each in checkpoints]
        look = tuple((each.dtype, each.shape, xxhash.xxh3_128_digest(each.ends())) for each in stored)
        known = alike.setdefault(look, [])
        same = (
            other
            for other in known
            if all(same_bytes(each.tensors[other], mine) for each, mine in zip(checkpoints, stored, strict=True))
        )
        twins[name] = next(same, name)
        if twins[name] == name:
            known.append(name)
    return twins


def fingerprint(checkpoints: Sequence[Checkpoint], names: Sequence[str]) -> str:
    """`deltas xxh3:…` of names, types, shapes and both ends of each tensor: fast to read, equal for equal files."""
    digest = xxhash.xxh3_128()
    for name in sorted(names):
        for each in checkpoints:
            if (stored := each.tensors.get(name)) is not None:
                digest.update(f"{name} {stored.dtype} {list(stored.shape)};".encode())
                digest.update(stored.ends())
    return f"deltas xxh3:{digest.hexdigest()}"


def spans(stored: Stored, entries: int, *, whole_rows: bool) -> Iterator[tuple[int, int]]:
    """A tensor in blocks (first, stop) of about so many entries; of whole rows with `whole_rows` or where they fit."""
    columns = max(stored.columns, 1)
    size = columns * max(entries // columns, 1) if whole_rows or columns <= entries else entries
    for first in range(0, stored.entries, size):
        yield first, min(first + size, stored.entries)
