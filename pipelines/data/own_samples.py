"""Identity of the samples that a study's own task yields."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch
import xxhash

from secateur.pipelines.data.check import LISTED, Finding, Kind, many
from secateur.pipelines.data.equal_groups import Groups, table_of
from secateur.pipelines.files.own_code import code_content
from secateur.scorers.contract import rows_text
from secateur.trainers.tasks.own import OwnTask, Split


def inspect_own(task: OwnTask, split: Split) -> pl.DataFrame:
    """`row` Int64, `content_hash`, `target` String, `stratum` Int64 and `preview` String: a line per sample, read once.

    `preview` is a sample's id, or its row number; the task formats `target`. Raises ValueError for ids or groups that
    differ in number from the samples, for repeated ids, and for samples with values that `canonical` rejects.
    """
    samples, ids = task.samples(split), task.ids(split)
    if ids is not None and len(ids) != len(samples):
        raise ValueError(f"task {task.name!r} yields {len(samples)} {split} samples and {len(ids)} ids")
    if ids is not None and len(set(ids)) < len(ids):
        twice = next(name for row, name in enumerate(ids) if name in ids[:row])
        raise ValueError(f"task {task.name!r} calls two {split} samples {twice!r}: an id stands for one sample")
    hashes, targets = [], []
    for row in range(len(samples)):
        sample = samples[row]
        targets.append(task.shown(sample))
        try:
            hashes.append(xxhash.xxh3_128_hexdigest(b"".join(canonical(sample))))
        except TypeError as error:
            raise ValueError(f"task {task.name!r}, {split} sample {row}: {error}") from error
    return pl.DataFrame(
        {
            "row": np.arange(len(samples), dtype=np.int64),
            "content_hash": pl.Series(hashes, dtype=pl.String),
            "target": pl.Series(targets, dtype=pl.String),
            "stratum": task.strata_of(split, len(samples)),
            "preview": pl.Series([str(row) for row in range(len(samples))] if ids is None else list(map(str, ids))),
        }
    )


def own_findings(samples: Mapping[str, pl.DataFrame]) -> list[Finding]:
    """Samples in both splits, or twice in one, compared as wholes: only the task knows which part is the input.

    `samples` are tables of `row` and `content_hash` by split.
    """
    listed = []
    shared = samples["test"].join(samples["train"], on="content_hash", how="semi", maintain_order="left")
    if len(shared):
        several = f"{many(len(shared), 'test sample')} of {len(samples['test'])}"
        text = f"{several} also in train: results on test are too good"
        listed.append(finding_of("leaked", "test", shared, text, shared["content_hash"].n_unique()))
    for split, table in samples.items():
        again = table.filter(pl.col("content_hash").is_duplicated())
        if len(again):
            groups = again["content_hash"].n_unique()
            text = f"{many(groups, 'group')} of equal {split} samples, {len(again) - groups} more than needed"
            listed.append(finding_of("duplicates", split, again, text, groups))
    return [replace(finding, importance=place) for place, finding in enumerate(listed)]


def own_groups(samples: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The first rows of the groups that `own_findings` counts, in the table of `table_of`."""
    both = pl.concat(
        table.select("row", "content_hash").with_columns(split=pl.lit(place, pl.Int8))
        for place, table in enumerate(samples.values())
    )
    facts = both.with_columns(
        pl.len().over("content_hash").alias("total"),
        pl.len().over("content_hash", "split").alias("count"),
        pl.min("row").over("content_hash", "split").alias("first"),
        pl.col("row").filter(pl.col("split") == 1).min().over("content_hash").alias("lead"),
    )
    found = {("leaked", 1): Groups(), ("duplicates", 0): Groups(), ("duplicates", 1): Groups()}
    shared = (pl.col("lead").is_not_null()) & (pl.col("split") == 0)
    leaked = facts.filter(shared.any().over("content_hash"))
    found["leaked", 1].add(leaked, 1, "lead", "total")
    for side in (0, 1):
        own = facts.filter((pl.col("split") == side) & (pl.col("count") > 1))
        found["duplicates", side].add(own, side, "first", "count")
    return table_of(found, tuple(samples))


def finding_of(kind: Kind, split: str, table: pl.DataFrame, text: str, groups: int) -> Finding:
    """A finding about samples, which lie in no file: split and number name them."""
    rows = table["row"].to_numpy()
    listed = tuple((split, int(row)) for row in rows[:LISTED])
    return Finding(kind, split, 0, len(rows), f"{text} ({rows_text(rows)})", listed, group_count=groups)


def revision_of(task: OwnTask, *splits: pl.DataFrame) -> str:
    """Digest of the current samples, of their strata and of the task's code, whose losses and networks decide results
    too: 32 hexadecimal digits.
    """
    digest = xxhash.xxh3_128("".join(name for table in splits for name in table["content_hash"]).encode())
    for table in splits:
        digest.update(table["stratum"].to_numpy().tobytes())
    digest.update("".join(task.stratum_names()).encode())
    for module in (task.name.partition(":")[0], type(task).__module__):
        digest.update(code_content(module).encode())
    return str(digest.hexdigest())


def canonical(value: Any) -> Iterator[bytes]:
    """A sample as bytes with lengths ahead: arrays with type and shape, mappings in order of their keys.

    Raises TypeError for anything but numbers, texts, bytes, None, tensors, arrays, and mappings or lists of these.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError("an array of Python objects has no bytes of its own")
        yield sized(b"array", f"{array.dtype.str} {array.shape}".encode(), np.ascontiguousarray(array).tobytes())
    elif isinstance(value, Mapping):
        yield sized(b"mapping", str(len(value)).encode())
        for key in sorted(value, key=str):
            yield from canonical(key)
            yield from canonical(value[key])
    elif isinstance(value, str | bytes):
        yield sized(b"text", value.encode() if isinstance(value, str) else value)
    elif isinstance(value, Sequence):
        yield sized(b"list", str(len(value)).encode())
        for item in value:
            yield from canonical(item)
    elif isinstance(value, bool | int | float):
        yield sized(b"number", struct.pack("<d", value) if isinstance(value, float) else str(int(value)).encode())
    elif value is None:
        yield sized(b"none")
    else:
        raise TypeError(f"a {type(value).__name__} has no bytes of its own: yield tensors, arrays, numbers and texts")


def sized(*parts: bytes) -> bytes:
    """Parts, each after its length."""
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)
