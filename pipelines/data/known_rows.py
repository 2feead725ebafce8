"""Encoded rows of an earlier preparation, reused where everything that they depend on is unchanged.

Encoders that learn from the rows (means of tables, TF-IDF, trained tokenizers) change when rows are added; then all
rows are encoded again. A named tokenizer, or a fixed size of pictures, stays the same.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from secateur.pipelines.data.scan import SplitRows
from secateur.pipelines.files.contents import content_at, content_of
from secateur.pipelines.files.whole_files import write_bytes
from secateur.trainers.modalities.encoding import Encoder
from secateur.trainers.modalities.tables import TableEncoder
from secateur.trainers.modalities.tfidf import TfidfEncoder

LIBRARIES = ("secateur", "numpy", "pillow", "tokenizers", "transformers")
"""Libraries whose versions decide the encoding of a row."""
LEARNING = (TableEncoder, TfidfEncoder)
"""Encoders that learn from every row."""


@dataclass(frozen=True)
class KnownRows:
    """An array, and the number of shards, and of their rows, with which it begins."""

    inputs: Path
    shards: int
    rows: int


@dataclass(frozen=True)
class EncodedBefore:
    """The record of a study's last preparation, and its arrays by split: file and digest of each."""

    record: Path
    arrays: Mapping[str, tuple[Path, str]]
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
        self.found[split] = count
        return KnownRows(self.arrays[split][0], same, count) if same else None

    def _told(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.record.read_text()))
        except (OSError, ValueError):
            return {}


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
