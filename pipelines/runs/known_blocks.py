"""Blocks of a pretrained encoder's embeddings from an earlier pass over the same texts or pictures.

An encoder's output for a block depends on this block alone, so added rows change only the last block and those behind
it. The proxy, SVD and PCA learn from all rows: their blocks are made anew.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from secateur.pipelines.files.whole_files import write_bytes
from secateur.pipelines.runs.worker import save_array
from secateur.pipelines.storage.ledger import digest_of, machine_parts
from secateur.pipelines.studies.named_inputs import contents_of
from secateur.trainers.contract import Data
from secateur.trainers.passes.embeddings import EmbeddingSettings


@dataclass(frozen=True)
class KnownBlocks:
    """The record of the last embeddings, and the digests of the current blocks."""

    record: Path
    made_by: str
    """Digest of the encoder, its settings and versions."""
    blocks: tuple[str, ...]

    @classmethod
    def of(
        cls, record: Path, settings: EmbeddingSettings, data: Data, texts: Sequence[str | None] | None
    ) -> "KnownBlocks":
        """Record and digests for the samples that the encoder reads."""
        versions = {name: metadata.version(name) for name in ("transformers", "tokenizers")}
        made_by = digest_of(
            settings=settings.model_dump(), named=contents_of(settings), libraries=versions, **machine_parts()
        )
        return cls(record, made_by, tuple(digests(data, texts, settings.block)))

    def fill(self, places: Sequence[Path], array: Path | None, content: str | None, size: int) -> int:
        """Write the blocks, of `size` rows, that an array of this content has; returns their number."""
        told = self._told()
        if array is None or content is None or (told.get("made_by"), told.get("content")) != (self.made_by, content):
            return 0
        known = {digest: number for number, digest in enumerate(told["blocks"])}
        whole, count = np.load(array, mmap_mode="r", allow_pickle=False), 0
        for place, digest in zip(places, self.blocks, strict=True):
            if (number := known.get(digest)) is not None and not place.exists():
                save_array(place, whole[number * size : (number + 1) * size])
                count += 1
        return count

    def remember(self, content: str | None) -> None:
        """Record that an array of this content holds the current blocks."""
        told = {"made_by": self.made_by, "content": content, "blocks": self.blocks}
        write_bytes(self.record, json.dumps(told).encode(), overwrite=True)

    def _told(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.record.read_text()))
        except (OSError, ValueError):
            return {}


def digests(data: Data, texts: Sequence[str | None] | None, size: int) -> Iterator[str]:
    """Digest of the texts, or else of the inputs, of each block."""
    every = iter(texts) if texts is not None else None
    for start in range(0, len(data), size):
        if every is not None:
            held = json.dumps(list(islice(every, size))).encode()
        else:
            rows = np.ascontiguousarray(data.inputs[start : start + size])
            held = f"{rows.dtype} {rows.shape} ".encode() + rows.tobytes()
        yield str(xxhash.xxh3_128_hexdigest(held))
