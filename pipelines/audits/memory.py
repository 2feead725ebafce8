"""State of an audit on disk, so that the next one works on new rows alone.

It holds hashes of the words of texts, thumbnails of pictures, and for all rows their copies and the predictions of
their labels. A memory is valid as long as all of its rows are still there, with the same set of labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from jaxtyping import Float32, Int64

from secateur.pipelines.audits.contract import AuditRows
from secateur.pipelines.audits.nearly import EMBEDDINGS
from secateur.pipelines.data.identity import hex_of
from secateur.pipelines.data.types import series_of
from secateur.scorers.copies.contract import Copies

if TYPE_CHECKING:
    from secateur.pipelines.audits.auditing import Audited

VERSION = 3
"""Version of the folder; other versions are not read."""
MOST_NEW = 0.5
"""Largest share of new rows, of the known ones; beyond it all rows are audited again, as thresholds may change."""
ROWS, LOOKS, PREDICTED, TOLD = "rows.parquet", "looks.npz", "predicted.npy", "told.json"


@dataclass(frozen=True)
class Memory:
    """An audit's rows in their order, `n` of them, and its results for them."""

    rows: pl.DataFrame
    """Columns `part` and `content_hash`."""
    near: tuple[Copies, ...]
    looks: Mapping[str, np.ndarray]
    """For texts `hashes`, `starts` and `keys` of words, for pictures `pixels` and `keys` of thumbnails, and where there
    are any, `vectors` and the mask `given` of rows that have one; for readable rows, in their order.
    """
    predicted: Float32[np.ndarray, "n width"] | None
    """Predictions of each row's label by models that did not learn from it, NaN without one; None if not computed."""
    told: Mapping[str, Any]
    """JSON-able: names of the labels, the worth of leaks, contamination, the reason why labels were not checked, and
    the source of vectors.
    """

    def write(self, folder: Path) -> None:
        """Write the memory into an empty folder."""
        self.rows.write_parquet(folder / ROWS)
        np.savez(folder / LOOKS, allow_pickle=False, **self.looks)
        if self.predicted is not None:
            np.save(folder / PREDICTED, self.predicted)
        told = {**self.told, "version": VERSION, "near": []}
        for place, copies in enumerate(self.near):
            values = {field.name: getattr(copies, field.name) for field in fields(copies)}
            arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
            np.savez(folder / f"near-{place}.npz", allow_pickle=False, **arrays)
            told["near"].append({name: value for name, value in values.items() if name not in arrays})
        (folder / TOLD).write_text(json.dumps(told, default=float), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Memory | None:
        """Read a folder; None for another version."""
        told = json.loads((folder / TOLD).read_text(encoding="utf-8"))
        if told.get("version") != VERSION:
            return None
        near = tuple(
            Copies(**one, **dict(np.load(folder / f"near-{place}.npz"))) for place, one in enumerate(told["near"])
        )
        predicted = np.load(folder / PREDICTED) if (folder / PREDICTED).exists() else None
        return cls(pl.read_parquet(folder / ROWS), near, dict(np.load(folder / LOOKS)), predicted, told)

    def places(self, rows: AuditRows) -> Int64[np.ndarray, " n"] | None:
        """The place in `rows` of each remembered row, equal ones in their order; None where the memory is not valid:
        rows are gone, too many are new, or labels have changed.
        """
        if tuple(self.told["label_names"]) != tuple(rows.label_names) or self.told["kind"] != rows.kind:
            return None
        now, before = (numbered(table) for table in (hashes_of(rows), self.rows))
        keys = ["part", "content_hash", "copy"]
        there = now.with_row_index("place").select(*keys, "place")
        found = before.join(there, on=keys, how="left", maintain_order="left")["place"]
        new = len(now) - len(before)
        return None if found.null_count() or new > MOST_NEW * len(before) else found.to_numpy().astype(np.int64)

    def other_vectors(self, rows: AuditRows, places: Int64[np.ndarray, " n"]) -> str:
        """Reason why the remembered vectors do not match those of the rows now, with the remembered rows at these
        places; empty where they match. A network computes one new row for the check.
        """
        before, now = self.told["vectors"], rows.vectors
        if before is None or now is None:
            if now:
                return f"embeddings are of {now.name}, before of none"
            return "there are no embeddings now" if before else ""
        if before["made_of"] != now.made_of:
            return f"embeddings are of {now.name}, before of {before['name']}, or of another version of it"
        known = places[rows.sound[places]]
        new = np.setdiff1d(np.flatnonzero(rows.sound), known)
        old, values, there = self.looks["vectors"], *now.of(rows, known if now.held else new[:1])
        if len(values) and values.shape[1] != old.shape[1]:
            return f"embeddings have {values.shape[1]} numbers a vector, before {old.shape[1]}"
        if not now.held or not len(values):
            return ""
        others = int(((values != old).any(axis=1) | (there != self.looks["given"])).sum())
        return f"embeddings of {others:,} known rows are others than before" if others else ""


def numbered(table: pl.DataFrame) -> pl.DataFrame:
    """Rows with a running number within equal part and content."""
    return table.with_columns(copy=pl.int_range(pl.len()).over("part", "content_hash"))


def hashes_of(rows: AuditRows) -> pl.DataFrame:
    """Part and content hash of every row, its identity for a later audit."""
    hashes = series_of(hex_of(rows.contents)).cast(pl.String)
    return pl.DataFrame({"part": pl.Series(rows.part), "content_hash": hashes})


def looks_of(audit: Audited) -> dict[str, np.ndarray]:
    """Inputs of the measures of near copies, for readable rows; for tables vectors alone, as columns are reread."""
    rows = audit.rows
    sound = np.flatnonzero(rows.sound)
    found: dict[str, np.ndarray] = {}
    if not audit.how.near:
        return found
    if rows.kind == "text":
        from secateur.scorers.copies.word_sets import words_of

        words = words_of(rows.texts.gather(sound))
        found = {"hashes": words.hashes, "starts": words.starts, "keys": words.keys}
    elif rows.kind == "image":
        small = rows.seen.thumbnails
        found = {"pixels": small.pixels[sound], "keys": small.keys[sound]}
    if by_vectors(audit):
        assert rows.vectors is not None
        found["vectors"], found["given"] = rows.vectors.of_sound(rows)
    return found


def by_vectors(audit: Audited) -> bool:
    """Whether an audit compared vectors."""
    return audit.copies.measures[-1].measure == EMBEDDINGS


def memory_of(audit: Audited, looks: Mapping[str, np.ndarray]) -> Memory:
    """The memory of an audit, with these arrays of `looks_of`."""
    rows, predicted, vectors = audit.rows, None, audit.rows.vectors
    if audit.suspects and rows.task is not None:
        predicted = np.full((len(rows), rows.task.width), np.nan, np.float32)
        for some in audit.suspects.values():
            predicted[some.rows] = some.predicted
    told = {
        "label_names": list(rows.label_names),
        "kind": rows.kind,
        "resting": asdict(audit.resting) if audit.resting else None,
        "contamination": dict(audit.contamination),
        "unlooked": audit.unlooked,
        "vectors": {"name": vectors.name, "made_of": vectors.made_of} if vectors and by_vectors(audit) else None,
    }
    return Memory(hashes_of(rows), audit.copies.measures[1:], dict(looks), predicted, told)
