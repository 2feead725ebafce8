"""Write manifests of cleaned training rows, each beside a random selection of equal size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64

from secateur.pipelines.audits.auditing import Audited
from secateur.pipelines.audits.contract import TRAIN, AuditRows
from secateur.pipelines.data.identity import hex_of
from secateur.pipelines.data.types import series_of
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.origin import CONVERSATION, FileRows, Origin, word_of
from secateur.pipelines.manifests.provenance import Provenance
from secateur.pipelines.manifests.rows import Rows

NAMES = ("deduplicated", "without_leaks", "without_suspects")
"""Cleaned sets: without copies of training rows, without copies of other parts, without rows of suspicious labels."""
RANDOM = "_random"
VERSION = "1"
"""Changes whenever the same findings would remove other rows."""
UNLABELLED = "no label"


@dataclass(frozen=True)
class Samples:
    """Training rows of a study, those with a readable input, and their data for a manifest."""

    table: pl.DataFrame
    rows: Int64[np.ndarray, " n"]
    """Their numbers in the audit."""
    strata: tuple[str, ...]
    origin: Origin
    columns: Mapping[str, Any]
    revision: str = ""


def samples_of(rows: AuditRows) -> Samples:
    """The training rows of an audit of data."""
    mine = np.flatnonzero((rows.part == TRAIN) & rows.sound)
    strata, names = strata_of(rows, mine)
    places = rows.at(mine)
    table = pl.DataFrame(
        {
            "row": np.arange(len(mine)),
            "content_hash": series_of(hex_of(rows.contents[mine])).cast(pl.String),
            "stratum": strata,
            "file": rows.file[mine],
            "file_row": rows.row[mine],
        }
    )
    if "path" in places.columns:
        table = table.with_columns(places["path"])
    counts = np.bincount(rows.file[rows.span(TRAIN)])
    columns = rows.columns[TRAIN]
    origin = Origin(
        files=tuple(FileRows(name=rows.files[at], rows=int(count)) for at, count in enumerate(counts)),
        types={
            name: CONVERSATION if name == rows.chat else word_of(kind)
            for name, kind in rows.types.items()
            if name in (*columns.inputs, *columns.labels)
        },
        separator=rows.separator,
        charset=rows.charset,
        label_names=rows.label_names,
        policies={"bad_rows": "drop"},
        dropped={"bad_rows": int(counts.sum()) - len(mine)} if len(mine) < counts.sum() else {},
    )
    return Samples(table, mine, names, origin, columns.model_dump(mode="json", exclude_none=True))


def strata_of(rows: AuditRows, mine: Int64[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " n"], tuple[str, ...]]:
    """The stratum of each of these rows, an extra one for rows without a label, and the names."""
    if rows.targets is None or rows.task is None or not rows.labelled[mine].any():
        return np.zeros(len(mine), np.int64), ("all rows",)
    names = tuple(rows.task.stratum_names())
    labelled = rows.labelled[mine]
    strata = np.full(len(mine), len(names), np.int64)
    strata[labelled] = rows.task.strata(rows.targets[mine[labelled]])
    return strata, names if labelled.all() else (*names, UNLABELLED)


def write_cleaned(audit: Audited, folder: Path, *, seed: int = 0, samples: Samples | None = None) -> dict[str, Path]:
    """Write the manifests into an empty folder, by name, except those that would keep every row.

    `samples` are the training rows of a study, whose numbers the manifests use.
    """
    samples = samples or samples_of(audit.rows)
    written = {}
    for name, keep in cleaned(audit, samples):
        twin = random_rows(samples, int(keep.sum()), seed)
        for each, mask, how in ((name, keep, "audit"), (f"{name}{RANDOM}", twin, "uniform_random")):
            written[each] = write_one(audit, samples, each, mask, how, folder / each, seed)
    return written


def cleaned(audit: Audited, samples: Samples) -> Iterator[tuple[str, Bool[np.ndarray, " n"]]]:
    """The mask of kept samples for each name that removes some and keeps some."""
    for name in NAMES:
        if audit.knows(name):
            keep = audit.mask(name)[samples.rows - audit.rows.starts[TRAIN]]
            if keep.any() and not keep.all():
                yield name, keep


def random_rows(samples: Samples, count: int, seed: int) -> Bool[np.ndarray, " n"]:
    """A random mask of `count` samples."""
    from secateur.selectors.static.uniform_random import uniform_random

    return np.asarray(uniform_random(np.arange(len(samples.rows)), count, seed=seed))


def write_one(
    audit: Audited, samples: Samples, name: str, keep: Bool[np.ndarray, " n"], how: str, folder: Path, seed: int
) -> Path:
    """Write one manifest."""
    rows = Rows.chosen(samples.table, keep, label_names=list(samples.strata), origin=samples.origin)
    provenance = Provenance(
        dataset=audit.rows.name,
        revision=samples.revision,
        selection=name,
        selector=how,
        selector_version=VERSION,
        settings={},
        keep=int(keep.sum()),
        budget=int(keep.sum()),
        seed=seed,
        columns=dict(samples.columns),
    )
    return Manifest.write(folder, rows, provenance).path
