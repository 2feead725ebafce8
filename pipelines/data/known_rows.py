"""Encoded rows of an earlier preparation, reused where everything that they depend on is unchanged.

Shards at the beginning with the bytes of the earlier ones are copied whole. Behind them each row is looked up by its
content: new files of a picture folder may stand between the others.

Encoders that learn from the rows (means of tables, TF-IDF, trained tokenizers) change when rows are added; then all
rows are encoded again. A named tokenizer, or a fixed size of pictures, stays the same.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Int64

from secateur.pipelines.data.digest_index import DigestIndex
from secateur.pipelines.data.identity import MISSING, Cells, Hashes, halves_of, hashes_of_cells
from secateur.pipelines.data.identity import TEXT as TEXT_CELL
from secateur.pipelines.data.scan import INPUT, SplitRows, words_of
from secateur.pipelines.data.types import TEXT, series_of
from secateur.pipelines.files.contents import content_at, content_of
from secateur.pipelines.files.whole_files import write_bytes
from secateur.trainers.modalities.encoding import Encoder
from secateur.trainers.modalities.images import ImageEncoder
from secateur.trainers.modalities.rows import Batches, RowFault
from secateur.trainers.modalities.tables import TableEncoder
from secateur.trainers.modalities.tfidf import TfidfEncoder
from secateur.trainers.sparse_rows import Inputs

if TYPE_CHECKING:
    import datasets

LIBRARIES = ("secateur", "numpy", "pillow", "tokenizers", "transformers")
"""Libraries whose versions decide the encoding of a row."""
LEARNING = (TableEncoder, TfidfEncoder)
"""Encoders that learn from every row."""


@dataclass(frozen=True)
class KnownRows:
    """An array of an earlier preparation, and the present rows that it holds."""

    inputs: Path
    shards: int
    """Number of shards whose rows the array begins with."""
    rows: int
    """Number of rows in these shards."""
    places: Int64[np.ndarray, " m"] = field(default_factory=lambda: np.zeros(0, np.int64))
    """For each row behind these shards the row of the array with the same content, -1 where there is none."""

    def sparing(self, encoder: Encoder) -> Encoder:
        """The encoder, wrapped so that it copies the rows that the array holds."""
        return SparingEncoder(encoder, self.inputs, self.places, self.rows) if (self.places >= 0).any() else encoder


@dataclass(frozen=True)
class SparingEncoder:
    """An encoder of the rows from `first` on, which copies rows with a place in an earlier array from there."""

    encoder: Encoder
    inputs: Path
    places: Int64[np.ndarray, " m"]
    first: int

    @property
    def model_settings(self) -> dict[str, Any]:
        return self.encoder.model_settings

    @property
    def names(self) -> tuple[str, ...]:
        return self.encoder.names

    @property
    def spared(self) -> tuple[str, ...]:
        return self.encoder.spared

    @property
    def shape(self) -> tuple[int, ...]:
        return self.encoder.shape

    @property
    def dtype(self) -> "np.dtype[Any]":
        return self.encoder.dtype

    sparse = False

    def from_row(self, first: int) -> "SparingEncoder":
        """The encoder of the rows from `first` on, which counts them from 0."""
        return replace(self, places=self.places[first - self.first :], first=0)

    def encode_batch(self, table: "pa.Table", first: int = 0) -> Inputs:
        """See `Encoder.encode_batch`."""
        start = first - self.first
        places = self.places[start : start + table.num_rows]
        new = np.flatnonzero(places < 0)
        if len(new) == len(places):
            return self.encoder.encode_batch(table, first)
        known = np.flatnonzero(places >= 0)
        whole = np.empty((len(places), *self.shape), self.dtype)
        whole[known] = np.asarray(self.array[places[known]])
        if len(new):
            try:
                whole[new] = np.asarray(self.encoder.encode_batch(table.take(pa.array(new))))
            except RowFault as error:
                raise RowFault(error.fault, new[error.rows] + first, error.remedy) from error
        return whole

    @property
    def array(self) -> np.ndarray:
        """The earlier array as a memory map."""
        return np.asarray(np.load(self.inputs, mmap_mode="r", allow_pickle=False))

    def facts(self, rows: "Batches | datasets.Dataset", inputs: Inputs | None = None) -> dict[str, Any]:
        """See `Encoder.facts`."""
        return self.encoder.facts(rows, inputs)

    def save(self, folder: Path) -> None:
        """See `Encoder.save`."""
        self.encoder.save(folder)


@dataclass(frozen=True)
class EncodedBefore:
    """The record of a study's last preparation, and its arrays by split: file and digest of each."""

    record: Path
    arrays: Mapping[str, tuple[Path, str]]
    rows: Mapping[str, SplitRows] = field(default_factory=dict)
    """The shards behind the array of each split."""
    found: dict[str, int] = field(default_factory=dict)
    """Rows of each split that come from its array; `of` fills it."""

    def of(self, encoder: Encoder, split: str, rows: SplitRows) -> KnownRows | None:
        """Rows of a split that its array holds already; None where there is no array, or another encoder made it."""
        told = self._told().get(split)
        if told is None or split not in self.arrays or told["content"] != self.arrays[split][1]:
            return None
        if isinstance(encoder, LEARNING) or told["encoder"] != digest_of(encoder):
            return None
        same = 0
        while (
            same < min(len(rows.shards), len(told["shards"])) and content_of(rows.shards[same]) == told["shards"][same]
        ):
            same += 1
        count = len(SplitRows(rows.shards[:same])) if same else 0
        before, places = self.rows.get(split), np.zeros(0, np.int64)
        if before is not None and [content_of(path) for path in before.shards] == told["shards"]:
            places = places_of(encoder, SplitRows(before.shards[same:]), SplitRows(rows.shards[same:]), count)
        self.found[split] = count + int((places >= 0).sum())
        return KnownRows(self.arrays[split][0], same, count, places) if self.found[split] else None

    def _told(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.record.read_text()))
        except (OSError, ValueError):
            return {}


def places_of(encoder: Encoder, before: SplitRows, rows: SplitRows, first: int) -> Int64[np.ndarray, " n"]:
    """For each row the row of the earlier array with the same content, -1 where there is none; the array holds the
    rows `before` from its row `first` on."""
    found = DigestIndex.of(list(keys_of(encoder, before))).find(
        np.concatenate([np.zeros((0, 2), np.uint64), *keys_of(encoder, rows)])
    )
    return np.where(found < 0, -1, found + first)


def keys_of(encoder: Encoder, rows: SplitRows) -> Iterator[Hashes]:
    """Digests of everything that an encoder reads of each row, by batch: decoded pixels of pictures, letters of texts.
    Columns of other types give none."""
    if not rows.shards:
        return
    if isinstance(encoder, ImageEncoder):
        yield from (words_of(table[INPUT]) for table in rows.batches([INPUT]))
    elif all(rows.schema.field(name).type == TEXT for name in encoder.names):
        for table in rows.batches(encoder.names):
            yield hashes_of_cells(b"encoded", [exact_cells(table[name]) for name in encoder.names], table.num_rows)


def exact_cells(texts: pa.ChunkedArray) -> Cells:
    """Texts by the hash of their UTF-8: two normal forms of a text have other tokens."""
    values = series_of(texts).cast(pl.String)
    halves = halves_of(values)
    return Cells(np.where(values.is_null().to_numpy(), MISSING, TEXT_CELL), halves[:, 1], halves[:, 0])


def remember(record: Path, encoder: Encoder, splits: Mapping[str, SplitRows], contents: Mapping[str, str]) -> None:
    """Record the encoder and the shards behind these arrays; no record for an encoder that learns from every row."""
    if isinstance(encoder, LEARNING):
        record.unlink(missing_ok=True)
        return
    digest = digest_of(encoder)
    told = {
        split: {"encoder": digest, "content": contents[split], "shards": [content_of(path) for path in rows.shards]}
        for split, rows in splits.items()
        if split in contents
    }
    write_bytes(record, json.dumps(told).encode(), overwrite=True)


def digest_of(encoder: Encoder) -> str:
    """Digest of an encoder's saved state and of the versions of `LIBRARIES`."""
    with TemporaryDirectory() as folder:
        encoder.save(Path(folder))
        made = [content_at(Path(folder)), {name: metadata.version(name) for name in LIBRARIES}]
    return hashlib.sha256(json.dumps(made).encode()).hexdigest()
