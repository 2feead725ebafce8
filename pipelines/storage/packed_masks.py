"""Masks by name in a safetensors file, eight units to a byte, read one at a time from the disk.

Each mask is uint8 `[ceil(units / 8)]`, the first unit in the lowest bit; shapes stand in the header as JSON text. The
same masks in the same order give the same bytes.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

BITS: Final = "kept.safetensors"
"""File of masks in a manifest's folder."""
AT_ONCE = 1 << 24
"""Bytes per step of counting."""

Shapes = Mapping[str, tuple[int, ...]]


class PackedMasks(Mapping[str, np.ndarray]):
    """Masks of a file, bool of their shapes, unpacked on access.

    `shapes` are the claimed ones. Raises ValueError for a file with other bytes than `write_masks` writes for masks of
    these shapes.
    """

    def __init__(self, path: Path, shapes: Shapes) -> None:
        self.shapes, self._starts = dict(shapes), dict[str, int]()
        head = header(shapes)
        end = len(head)
        for name, shape in self.shapes.items():
            self._starts[name] = end
            end += -(-math.prod(shape) // 8)
        if path.stat().st_size != end:
            raise ValueError(f"{path.name} has {path.stat().st_size} bytes, masks of these groups take {end}")
        self._content = (
            np.memmap(path, dtype=np.uint8, mode="r") if sys.platform != "win32" else np.fromfile(path, np.uint8)
        )
        if self._content[: len(head)].tobytes() != head:
            raise ValueError(f"{path.name} holds something besides the masks of its groups")
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            if size % 8 and self._bits(name)[-1] >> (size % 8):
                raise ValueError(f"{path.name} has bits behind the last unit of {name!r}")

    def __getitem__(self, name: str) -> np.ndarray:
        shape = self.shapes[name]
        return np.unpackbits(self._bits(name), count=math.prod(shape), bitorder="little").view(np.bool_).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def count(self, name: str) -> int:
        """Kept units of a mask, without unpacking it."""
        bits = self._bits(name)
        return sum(
            int(np.bitwise_count(bits[at : at + AT_ONCE]).sum(dtype=np.int64)) for at in range(0, len(bits), AT_ONCE)
        )

    def _bits(self, name: str) -> np.ndarray:
        start = self._starts[name]
        return self._content[start : start - (-math.prod(self.shapes[name]) // 8)]


def header(shapes: Shapes) -> bytes:
    """The bytes before masks of these shapes in their file."""
    told: dict[str, object] = {
        "__metadata__": {
            "shapes": json.dumps({name: list(shape) for name, shape in shapes.items()}, ensure_ascii=False)
        }
    }
    offset = 0
    for name, shape in shapes.items():
        size = -(-math.prod(shape) // 8)
        told[name] = {"dtype": "U8", "shape": [size], "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(told, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_bits(blocks: Iterable[np.ndarray], file: BinaryIO) -> int:
    """Write a mask that comes in flat blocks of bool; returns the number of its kept units."""
    kept, rest = 0, np.empty(0, dtype=np.bool_)
    for block in blocks:
        kept += int(np.count_nonzero(block))
        bits = np.concatenate([rest, block])
        whole = len(bits) - len(bits) % 8
        file.write(np.packbits(bits[:whole], bitorder="little").data)
        rest = bits[whole:]
    file.write(np.packbits(rest, bitorder="little").data)
    return kept


def write_masks(masks: Mapping[str, np.ndarray], path: Path) -> None:
    """Write masks, bool of any shape, in their order."""
    if "__metadata__" in masks:
        raise ValueError("__metadata__ is no name for a mask: safetensors files keep it for themselves")
    with path.open("wb") as file:
        file.write(header({name: mask.shape for name, mask in masks.items()}))
        for mask in masks.values():
            write_bits([mask.reshape(-1)], file)
