"""The samples of a study's own task as audit rows.

The task does not name the input within a sample. So the first picture in the samples is the input, else the first
text, else all numbers where samples have equally many; without any of these, whole samples are compared for equality.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import torch
import xxhash
from jaxtyping import UInt64

from secateur.pipelines.audits.contract import TEST, TRAIN, WHOLE, AuditRows
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.own_samples import canonical
from secateur.pipelines.data.scan import CONTENT, FAULT, FILE, INPUT, ROW, SplitRows, bytes_of
from secateur.pipelines.data.types import PICTURE
from secateur.trainers.tasks.own import OwnTask, Split

BATCH = 1024
"""Samples in memory at once."""
MOST_NUMBERS = 1024
"""Most numbers of a sample that are compared like a table's."""
SMALLEST = 8
"""Least number of pixels of a picture's shorter side."""
RANGED = 256
"""Samples that determine the range of pictures' values."""
ID = "id"
UNLABELLED = (
    "only the study's own task can recognise a wrong target; the score `loss` ranks its samples by how hard they are"
)
Leaf = tuple[str, Any]
"""A name within a sample, and its value: an array, a text, bytes, or None."""


@dataclass(frozen=True)
class Seen:
    """The compared part of each sample: a `kind` of rows, the `leaves` of its input, `names` of columns (one for each
    number, else the leaf), and for pictures the range of their values."""

    kind: str
    leaves: tuple[str, ...]
    names: tuple[str, ...]
    low: float = 0.0
    high: float = 255.0

    @property
    def note(self) -> str:
        """The compared part in a sentence."""
        if self.kind == WHOLE:
            return (
                "samples of the study's own task are compared whole: they have no picture, no text and no numbers alike"
            )
        what = {"image": "a picture", "text": "a text", "features": "numbers"}[self.kind]
        shown = ", ".join(map(repr, self.leaves[:3])) + (" and more" if len(self.leaves) > 3 else "")
        return f"samples of the study's own task are compared by {shown}, {what} in each"


def own_task_rows(name: str, task: OwnTask, folder: Path) -> AuditRows:
    """Training and test samples, read once each into shards below an empty `folder`. Samples are equal if their inputs
    have the same bytes; samples of equal input whose other parts differ are in conflict.

    Raises ValueError for samples with a value that has no bytes of its own.
    """
    seen, splits, targets = seen_in(task), {}, list[UInt64[np.ndarray, " n"]]()
    for part, split in zip((TRAIN, TEST), get_args(Split), strict=True):
        splits[part], codes = written(task, split, seen, folder / split)
        targets.append(codes)
    columns = columns_of(seen, ids=task.ids("train") is not None)
    every = np.concatenate(targets)
    return AuditRows(
        name=name,
        names={TRAIN: "train", TEST: "test"},
        splits=splits,
        columns=dict.fromkeys(splits, columns),
        files=get_args(Split),
        labelled=np.ones(len(every), np.bool_),
        targets=np.unique(every, return_inverse=True)[1].astype(np.int64),
        unlabelled=UNLABELLED,
        notes=(seen.note,),
        whole=seen.kind == WHOLE,
    )


def columns_of(seen: Seen, *, ids: bool) -> Columns:
    """The columns of the shards; a whole sample is a text column."""
    own: dict[str, Any] = {"features": list(seen.names)} if seen.kind == "features" else {}
    if seen.kind in ("image", "text", WHOLE):
        own = {"image" if seen.kind == "image" else "text": seen.names[0]}
    return Columns(**own, id=ID if ids else None)


def seen_in(task: OwnTask) -> Seen:
    """The comparable part of samples, from samples spread over the training split."""
    samples = task.samples("train")
    places = np.unique(np.linspace(0, len(samples) - 1, min(RANGED, len(samples))).astype(np.int64))
    some = [dict(leaves(samples[place])) for place in places.tolist()]
    shared = [name for name in some[0] if all(name in each for each in some)] if some else []
    if name := next((name for name in shared if all(is_picture(each[name]) for each in some)), None):
        if all(each[name].dtype == np.uint8 for each in some):
            return Seen("image", (name,), (name,))
        known = [each[name][np.isfinite(each[name])] for each in some]
        ends = [(float(values.min()), float(values.max())) for values in known if values.size]
        low, high = min((low for low, _ in ends), default=0.0), max((high for _, high in ends), default=0.0)
        return Seen("image", (name,), (name,), low, high)
    if name := next((name for name in shared if all(isinstance(each[name], str) for each in some)), None):
        return Seen("text", (name,), (name,))
    alike = [name for name in shared if len({shape_of(each[name]) for each in some}) == 1 and shape_of(some[0][name])]
    if 0 < sum(np.size(some[0][name]) for name in alike) <= MOST_NUMBERS:
        return Seen("features", tuple(alike), tuple(numbered(some[0], alike)))
    return Seen(WHOLE, (), ("sample",))


def leaves(sample: Any, name: str = "") -> Iterator[Leaf]:
    """All parts of a sample, by name: keys of mappings and places of lists, joined by dots."""
    if isinstance(sample, torch.Tensor):
        sample = sample.detach().cpu().numpy()
    if isinstance(sample, Mapping):
        for key in sorted(sample, key=str):
            yield from leaves(sample[key], f"{name}.{key}" if name else str(key))
    elif isinstance(sample, Sequence) and not isinstance(sample, str | bytes):
        for place, item in enumerate(sample):
            yield from leaves(item, f"{name}.{place}" if name else str(place))
    elif isinstance(sample, str | bytes) or sample is None:
        yield name or "sample", sample
    else:
        yield name or "sample", np.asarray(sample)


def is_picture(value: Any) -> bool:
    """Whether an array looks like a picture: pixels of one, three or four channels, or bytes of a grey one."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "uif" or value.ndim not in (2, 3):
        return False
    if value.ndim == 2:
        return bool(value.dtype == np.uint8 and min(value.shape) >= SMALLEST)
    return channels_first(value) or (value.shape[2] in (1, 3, 4) and min(value.shape[:2]) >= SMALLEST)


def channels_first(value: np.ndarray) -> bool:
    """Whether the first axis is that of the channels, as in torch."""
    return value.shape[0] in (1, 3, 4) and min(value.shape[1:]) >= SMALLEST


def shape_of(value: Any) -> tuple[Any, ...]:
    """The shape of an array of numbers; empty for other values."""
    return ("numbers", *value.shape) if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" else ()


def numbered(sample: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """A name for each number of these arrays."""
    for name in names:
        size = np.size(sample[name])
        yield from [name] if size == 1 else (f"{name}[{place}]" for place in range(size))


def written(task: OwnTask, split: Split, seen: Seen, folder: Path) -> tuple[SplitRows, UInt64[np.ndarray, " n"]]:
    """The samples of a split as shards, and a code of each whole sample."""
    folder.mkdir(parents=True)
    samples, ids = task.samples(split), task.ids(split)
    paths, codes = [], [np.zeros(0, np.uint64)]
    for start in range(0, max(len(samples), 1), BATCH):
        rows = range(start, min(start + BATCH, len(samples)))
        table, content = table_of([samples[row] for row in rows], task, split, seen, start)
        names = [str(row) for row in rows] if ids is None else [str(ids[row]) for row in rows]
        table = table.append_column(ID, pa.array(names, pa.string()))
        paths.append(folder / f"{start:09}.arrow")
        with pa.ipc.new_file(str(paths[-1]), table.schema) as writer:
            writer.write_table(table)
        codes.append(content[:, 1])
    return SplitRows(tuple(paths)), np.concatenate(codes)


def table_of(
    some: Sequence[Any], task: OwnTask, split: Split, seen: Seen, start: int
) -> tuple[pa.Table, UInt64[np.ndarray, "b 2"]]:
    """Consecutive samples as a table with hashes and places, and the hashes of whole samples."""
    parts = [dict(leaves(sample)) for sample in some]
    try:
        content = hashes(some)
    except TypeError as error:
        raise ValueError(f"task {task.name!r}, {split} samples from {start} on: {error}") from error
    faults = [fault_of(each, seen) for each in parts]
    read = content
    if seen.kind != WHOLE:
        read = hashes([[each.get(name) for name in seen.leaves] for each in parts])
    columns: dict[str, pa.Array] = {}
    if seen.kind == "features":
        values = [flat(each, seen, fault) for each, fault in zip(parts, faults, strict=True)]
        columns = {name: pa.array([row[at] for row in values], pa.float64()) for at, name in enumerate(seen.names)}
    elif seen.kind == "image":
        cells = [
            None if fault else cell_of(each[seen.names[0]], seen) for each, fault in zip(parts, faults, strict=True)
        ]
        columns = {seen.names[0]: pa.array(cells, PICTURE)}
    elif seen.kind == "text":
        columns = {seen.names[0]: pa.array([each.get(seen.names[0]) for each in parts], pa.string())}
    else:
        columns = {seen.names[0]: pa.array([task.shown(sample) for sample in some], pa.string())}
    count = len(some)
    columns |= {INPUT: bytes_of(read), CONTENT: bytes_of(content), FAULT: pa.array(faults, pa.string())}
    columns |= {
        FILE: pa.array([int(split == "test")] * count, pa.int64()),
        ROW: pa.array(np.arange(start, start + count)),
    }
    return pa.table(columns), content


def hashes(values: Sequence[Any]) -> UInt64[np.ndarray, "b 2"]:
    """The xxh3-128 of each value's bytes, as uint64: upper and lower half."""
    digests = b"".join(xxhash.xxh3_128_digest(b"".join(canonical(value))) for value in values)
    return np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)


def fault_of(parts: Mapping[str, Any], seen: Seen) -> str | None:
    """Reason why a sample is unusable for a network; None for a usable one."""
    if any(isinstance(value, np.ndarray) and not finite(value) for value in parts.values()):
        return "a number that is NaN or infinite"
    if seen.kind == "image" and not is_picture(parts.get(seen.names[0])):
        return "no picture where other samples have one"
    if seen.kind == "text" and not str(parts.get(seen.names[0]) or "").strip():
        return "an empty text"
    return None


def finite(values: np.ndarray) -> bool:
    """Whether all numbers are finite; true for other types than floats."""
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def flat(parts: Mapping[str, Any], seen: Seen, fault: str | None) -> Sequence[float | None]:
    """The numbers of a sample in the order of the names; None for each where their count differs."""
    arrays = [np.ravel(parts[name]) for name in seen.leaves if shape_of(parts.get(name))]
    values = np.concatenate(arrays).astype(np.float64).tolist() if arrays and not fault else []
    return values if len(values) == len(seen.names) else [None] * len(seen.names)


def cell_of(value: np.ndarray, seen: Seen) -> dict[str, Any]:
    """A picture as PNG; values other than bytes are scaled by the data's range."""
    from PIL import Image

    pixels = np.moveaxis(value, 0, 2) if value.ndim == 3 and channels_first(value) else value
    if pixels.dtype != np.uint8:
        scaled = (pixels.astype(np.float64) - seen.low) / ((seen.high - seen.low) or 1.0)
        pixels = np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(target, "png")
    return {"bytes": target.getvalue(), "path": None}
