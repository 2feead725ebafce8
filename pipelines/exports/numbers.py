"""Exports of the positions of kept rows, without the samples: row numbers and masks.

Rows are those of the user's files, from 0 and a header not counted; or of the given data set.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from secateur.pipelines.exports.registry import exporter
from secateur.pipelines.exports.selected import Located, Selected
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.row_files import READ, ending_of

BLOCK = 1 << 20
MOST_ROWS = 2**33
"""Largest number of rows of a mask, which takes a GiB; a manifest's claim alone must not allocate memory."""


@exporter(".npy")
def indices(selected: Selected, path: Path) -> None:
    """Kept rows of the user's file, int64 ascending, as a NumPy array.

    For several files it is int64 `[kept, 2]`: place of the file among those of the manifest, and row in it.
    """
    located = selected.located
    with path.open("wb") as file:
        rows = np.stack([located.file, located.row], axis=1) if located.several else located.row
        np.save(file, rows.astype(np.int64, copy=False), allow_pickle=False)
    selected.progress(len(selected.rows), len(selected.rows))


@exporter(".txt")
def text(selected: Selected, path: Path) -> None:
    """Kept rows of the user's file as text, one number per line; of several files `FILE:ROW`.

    For pictures in a folder of their own, the lines are their paths below it.
    """
    located, paths = selected.located, paths_of(selected)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for start in range(0, len(selected.rows), BLOCK):
            rows = located.row[start : start + BLOCK].tolist()
            places = located.file[start : start + BLOCK].tolist()
            names = [f"{located.files[place].name}:" if located.several else "" for place in places]
            lines = paths[start : start + BLOCK] or [f"{name}{row}" for name, row in zip(names, rows, strict=True)]
            file.write("".join(f"{line}\n" for line in lines))
            selected.progress(start + len(rows), len(selected.rows))


def paths_of(selected: Selected) -> list[str]:
    """Paths of kept pictures, in their order, where each has its own and lies in no file of rows."""
    kept = selected.manifest.selection
    image = kept.columns.get("image")
    own = "path" in kept.table.columns and kept.origin.types.get(str(image)) == "picture"
    if not own or any(ending_of(Path(file.name)) in READ for file in kept.origin.files):
        return []
    paths = kept.table["path"].to_list()
    return paths if all(paths) and len(set(paths)) == len(paths) and "\n" not in "".join(paths) else []


@exporter(".npy", several=".npz")
def bitmap(selected: Selected, path: Path) -> None:
    """Keep mask of all rows of the user's file, eight to a byte, the first in the lowest bit, as a NumPy uint8 array.

    `np.unpackbits(bits, count=n, bitorder="little").astype(bool)` gives the mask back. For several files it is an
    archive (.npz) of one mask for each, by its name.
    """
    located = selected.located
    if (count := sum(file.rows for file in located.files)) > MOST_ROWS:
        raise ManifestError(f"a mask of {count} rows is longer than {MOST_ROWS}; export indices instead")
    if not located.several:
        with path.open("wb") as file:
            _write_bits(file, located.row, located.files[0].rows)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for place, name in enumerate(_member_names(located)):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    _write_bits(member, located.row[located.file == place], located.files[place].rows)
    selected.progress(len(selected.rows), len(selected.rows))


def _member_names(located: Located) -> list[str]:
    """Names of files for members of an archive: without a root and `..`; with their numbers where two are equal."""
    plain = ["/".join(p for p in PurePosixPath(file.name).parts if p not in ("/", "..")) for file in located.files]
    return plain if len(set(plain)) == len(plain) else [f"{place}/{name}" for place, name in enumerate(plain)]


def _write_bits(file: IO[Any], rows: np.ndarray, count: int) -> None:
    shape = {"descr": "|u1", "fortran_order": False, "shape": (-(-count // 8),)}
    np.lib.format.write_array_header_1_0(file, shape)
    for bits in _bits(rows, count):
        file.write(bits.tobytes())


def _bits(rows: np.ndarray, count: int) -> Iterator[np.ndarray]:
    size = 8 * BLOCK
    for start in range(0, count, size):
        keep = np.zeros(min(size, count - start), dtype=np.bool_)
        first, last = np.searchsorted(rows, [start, start + size])
        keep[rows[first:last] - start] = True
        yield np.packbits(keep, bitorder="little")
