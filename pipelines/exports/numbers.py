"""Exports of which rows are kept, without the samples: row numbers and masks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from secateur.pipelines.exports.registry import exporter
from secateur.pipelines.exports.selected import Selected
from secateur.pipelines.manifests.document import ManifestError

BLOCK = 1 << 20
MOST_ROWS = 2**33
"""Rows that a mask may be of; it would take a GiB. What a manifest says without its data costs nothing to say."""


@exporter(".npy")
def indices(selected: Selected, path: Path) -> None:
    """Kept rows, int64 ascending, as a NumPy array."""
    with path.open("wb") as file:
        np.save(file, selected.rows, allow_pickle=False)
    selected.progress(len(selected.rows), len(selected.rows))


@exporter(".txt")
def text(selected: Selected, path: Path) -> None:
    """Kept rows as text, one number per line."""
    with path.open("w", encoding="ascii", newline="\n") as file:
        for start in range(0, len(selected.rows), BLOCK):
            part = selected.rows[start : start + BLOCK]
            file.write("\n".join(map(str, part.tolist())) + "\n")
            selected.progress(start + len(part), len(selected.rows))


@exporter(".npy")
def bitmap(selected: Selected, path: Path) -> None:
    """Keep mask of all rows, eight to a byte and the first in the lowest bit, as a NumPy array of uint8.

    `np.unpackbits(bits, count=n, bitorder="little").astype(bool)` gives the mask back.
    """
    if selected.count > MOST_ROWS:
        raise ManifestError(f"a mask of {selected.count} rows is longer than {MOST_ROWS}; export indices instead")
    with path.open("wb") as file:
        shape = {"descr": "|u1", "fortran_order": False, "shape": (-(-selected.count // 8),)}
        np.lib.format.write_array_header_1_0(file, shape)
        for bits in _bits(selected.rows, selected.count):
            file.write(bits.tobytes())
    selected.progress(len(selected.rows), len(selected.rows))


def _bits(rows: np.ndarray, count: int) -> Iterator[np.ndarray]:
    size = 8 * BLOCK
    for start in range(0, count, size):
        keep = np.zeros(min(size, count - start), dtype=np.bool_)
        first, last = np.searchsorted(rows, [start, start + size])
        keep[rows[first:last] - start] = True
        yield np.packbits(keep, bitorder="little")
