"""Pictures decoded once: the digest of each, and its pixels if they take little more room than its file.

The reader of the pictures may write mode, size and pixels into columns beside them, where an encoder finds them.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import xxhash
from jaxtyping import UInt8
from PIL import Image

from secateur.selectors.draws.blocks import cores
from secateur.trainers.modalities.decoding import decoded, image_bytes, quiet
from secateur.trainers.modalities.rows import Stored

if TYPE_CHECKING:
    import pyarrow as pa

Found = TypeVar("Found")
MODE, HEIGHT, WIDTH, PIXELS = KEPT = tuple(f"secateur:{name}" for name in ("mode", "height", "width", "pixels"))
"""Columns of decoded pictures, null for undecodable ones; the last one also without kept pixels."""
SMALL, MOST, TIMES = 1 << 12, 1 << 15, 4
"""Bytes of pixels up to which they are always kept; up to which they are kept if the file has at least a fourth of
them."""
LARGE = 1 << 13
"""Mean bytes of picture files from which threads decode several at once; Python takes longer than the decoder below."""


class SeenPicture(NamedTuple):
    """Digest of a decoded picture, or of its bytes and the reason if it is undecodable; and the values of `KEPT`."""

    digest: bytes
    fault: str | None = None
    mode: str | None = None
    height: int | None = None
    width: int | None = None
    pixels: bytes | None = None


def seen_pictures(cells: "pa.ChunkedArray") -> Iterator[SeenPicture]:
    """The decoded picture of each cell of an image column, in order."""
    for chunk in cells.chunks:
        for start in range(0, len(chunk), 256):
            yield from in_order(seen, chunk.slice(start, 256).to_pylist())


def seen(cell: Any) -> SeenPicture:
    """The decoded picture of a cell; call it inside `quiet`."""
    picture = decoded(cell)
    if isinstance(picture, str):
        data = image_bytes(cell)
        return SeenPicture(xxhash.xxh3_128_digest(b"no image" if data is None else b"raw image" + data), picture)
    pixels = picture.tobytes()
    mode, (width, height) = picture.mode, picture.size
    digest = xxhash.xxh3_128_digest(f"image {mode} {width} {height} ".encode() + pixels)
    kept = len(pixels) <= SMALL or len(pixels) <= min(MOST, TIMES * size_of(cell))
    return SeenPicture(digest, None, mode, height, width, pixels if kept else None)


def in_order(work: Callable[..., Found], cells: Sequence[Any], besides: Iterable[Any] | None = None) -> Iterator[Found]:
    """Apply `work` to picture cells, after the value in `besides` if given; results are in order. Threads handle large
    pictures in parallel, because Pillow releases the lock while it decodes.

    Worker processes would not be faster: for 1,500 JPEGs of 224 by 224 pixels, eight times in turn on two busy cores,
    one thread took 4.0 s in the median, two threads 2.7 s and two processes 2.5 s (the quickest of each 1.6, 1.6 and
    1.8 s), with 1.2 processor seconds by threads; and processes would need copies of the pictures.
    """
    workers = cores()
    some = [size_of(cell) for cell in cells[:: max(1, len(cells) // 8)]]
    given = [cells] if besides is None else [besides, cells]
    with quiet():  # Once, because threads share the filters of warnings.
        if workers == 1 or sum(some) < LARGE * len(some):
            yield from map(work, *given)
            return
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(work, *given)


def size_of(cell: Any) -> int:
    """Bytes of a picture's file; 0 without one."""
    if not isinstance(cell, dict):
        return 0
    if cell["bytes"] is not None:
        return len(cell["bytes"])
    path = cell["path"]
    return Path(path).stat().st_size if path and Path(path).is_file() else 0


def columns_of(pictures: Sequence[SeenPicture]) -> "dict[str, pa.Array]":
    """The columns `KEPT` of pictures."""
    import pyarrow as pa

    kinds = (pa.string(), pa.int32(), pa.int32(), pa.large_binary())
    values = list(zip(*pictures, strict=True))[-len(KEPT) :] or [()] * len(KEPT)
    return {name: pa.array(held, kind) for name, held, kind in zip(KEPT, values, kinds, strict=True)}


def modes_of(rows: Any) -> tuple[set[str], tuple[int, int]] | None:
    """Modes of decoded pictures, and height and width of the first; None if the rows lack these columns."""
    if not (isinstance(rows, Stored) and {*KEPT} <= {*rows.schema.names}):
        return None
    modes: set[str] = set()
    size: tuple[int, int] | None = None
    for table in rows.batches([MODE, HEIGHT, WIDTH]):
        modes |= set(table[MODE].unique().drop_null().to_pylist())
        if size is None and len(there := table.drop_null()):
            size = there[HEIGHT][0].as_py(), there[WIDTH][0].as_py()
    return None if size is None else (modes, size)


def kept_in(table: "pa.Table", shape: tuple[int, ...]) -> UInt8[np.ndarray, "b height width channels"] | None:
    """Pixels of every row, if all are kept and have this shape; else None."""
    height, width, channels = shape
    wanted = {MODE: "L" if channels == 1 else "RGB", HEIGHT: height, WIDTH: width}
    if PIXELS not in table.column_names or table[PIXELS].null_count:
        return None
    if any(table[name].unique().to_pylist() != [value] for name, value in wanted.items()):
        return None
    held, size = table[PIXELS].combine_chunks(), height * width * channels
    start = int(np.frombuffer(held.buffers()[1], np.int64)[held.offset])
    whole = np.frombuffer(held.buffers()[2], np.uint8)[start : start + size * len(held)]
    return whole.reshape(-1, *shape)


def shown_in(table: "pa.Table") -> Iterator["Image.Image | None"]:
    """The decoded picture of every row, None without kept pixels."""
    if PIXELS not in table.column_names:
        yield from itertools.repeat(None, table.num_rows)
        return
    for mode, height, width, pixels in zip(*(table[name].to_pylist() for name in KEPT), strict=True):
        yield None if pixels is None else Image.frombytes(mode, (width, height), pixels)
