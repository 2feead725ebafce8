"""Decoded pictures of an earlier scan, looked up by the digests of their files.

The pixels of a picture follow from the bytes of its file alone, so that its path and the place of its row may change.
A picture with a fault is decoded again: the sentence of its fault names its path.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from secateur.pipelines.data.digest_index import DigestIndex
from secateur.pipelines.data.identity import BYTES, Hashes, seen_anew
from secateur.pipelines.data.scan import FAULT, INPUT, SplitRows, words_of
from secateur.trainers.modalities.seen_pictures import KEPT, SeenPicture


@dataclass(frozen=True)
class KnownPictures:
    """The shards of an earlier scan, as a `scan.Seen`."""

    shards: tuple[Path, ...]

    def __call__(self, cells: pa.ChunkedArray, digests: Hashes) -> Sequence[SeenPicture]:
        """Copy the pictures that the shards hold, decode the others; in the order of the cells."""
        places = self.index.find(digests)
        known = np.flatnonzero(places >= 0)
        if not len(known):
            return seen_anew(cells, digests)
        found: list[SeenPicture | None] = [None] * len(places)
        for row, picture in zip(known, self.at(places[known]), strict=True):
            found[row] = picture
        new = np.flatnonzero(places < 0)
        for row, picture in zip(
            new, seen_anew(cells.take(pa.array(new)), digests[new]) if len(new) else (), strict=True
        ):
            found[row] = picture
        return [picture for picture in found if picture is not None]

    def at(self, rows: Int64[np.ndarray, " m"]) -> list[SeenPicture]:
        """The pictures of some rows of the shards, in any order."""
        table = SplitRows(self.shards).mapped([INPUT, *KEPT], rows)
        columns = {name.removeprefix("secateur:"): table[name].to_pylist() for name in KEPT}
        values = zip(*columns.values(), strict=True)
        return [SeenPicture(digest, None, *own) for digest, own in zip(table[INPUT].to_pylist(), values, strict=True)]

    @cached_property
    def index(self) -> DigestIndex:
        """The row in the shards of each picture without a fault."""
        digests, rows, start = [], [], 0
        for shard in self.shards:
            for table in SplitRows((shard,)).batches([BYTES, FAULT]):
                words = words_of(table[BYTES])
                sound = np.flatnonzero(words.any(axis=1) & table[FAULT].is_null().to_numpy())
                digests.append(words[sound])
                rows.append(start + sound)
                start += table.num_rows
        return DigestIndex.of(digests, rows)


def known_pictures(folder: Path, beside: Path) -> KnownPictures | None:
    """The pictures in all shards of a scan's folder, except those `beside`; None where it has no shards."""
    shards = sorted(path for path in folder.glob("*/*-*.arrow") if path.parent != beside)
    shards = [path for path in shards if {BYTES, *KEPT} <= {*SplitRows((path,)).schema.names}]
    return KnownPictures(tuple(shards)) if shards else None
