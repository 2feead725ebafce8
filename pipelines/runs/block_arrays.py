"""Arrays with a row per sample, made block by block: a pass that was killed goes on at the next block."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from secateur.pipelines.files.whole_files import new_file
from secateur.pipelines.runs.resumption import block_by_block, block_places
from secateur.pipelines.runs.worker import save_array

Blocks = Callable[[int], Iterator[np.ndarray]]
"""From a block's number to the blocks from there on, each `[b, d]`."""

Make = Callable[[Sequence[Path]], int]
"""Writes the missing blocks to their places, each whole or not at all; returns how many were there."""


def in_blocks(
    folder: Path, made_of: str, count: int, size: int, blocks: Blocks, make: Make | None = None
) -> tuple[Path, int]:
    """Make an array `[count, d]` below a folder, which the caller removes; returns its file, and how many blocks of
    `size` rows an earlier run made from the same inputs. Removes blocks of other inputs. `make` replaces `blocks`.
    """
    own, joined = folder / made_of[:16], folder / f"{made_of[:16]}.npy"
    for stale in folder.glob("*"):
        if stale not in (own, joined):
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    places = places_in(folder, made_of, count, size)
    if joined.exists():
        return joined, len(places)
    resumed = make(places) if make else block_by_block(places, blocks, save_array)
    join_blocks(places, count, joined)
    shutil.rmtree(own)
    return joined, resumed


def places_in(folder: Path, made_of: str, count: int, size: int) -> list[Path]:
    """Files of the blocks that `in_blocks` joins."""
    return block_places(folder / made_of[:16], count, size)


def join_blocks(places: Sequence[Path], count: int, path: Path) -> None:
    """Write blocks as one array `[count, d]` of their type, one of them in memory at a time."""
    first = np.load(places[0], mmap_mode="r")
    kind = first.dtype.newbyteorder("<")
    head = {"descr": kind.str, "fortran_order": False, "shape": (count, first.shape[1])}
    # No memory map: on a full disk the system kills a process that writes to one.
    with new_file(path, overwrite=True) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, head)
        for place in places:
            file.write(np.ascontiguousarray(np.load(place, mmap_mode="r"), dtype=kind).data)
