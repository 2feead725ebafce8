"""Outputs of a model that a caller holds, or that lie in files, read in blocks of rows; one `Epoch` for each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from secateur.pipelines.data.array_files import array_at
from secateur.pipelines.data.lazy import pa, pc, pq
from secateur.scorers.contract import rows_text
from secateur.scorers.lazy import torch

KINDS = "an array [n, classes] or [epochs, n, classes] of NumPy or torch, a list of one [n, classes] for each epoch"
FILES = ".npy, .safetensors, or .parquet with a column of lists"
NUMBERS = "fiu"
"""Kinds of NumPy's types that hold numbers."""

Named = str | Sequence[str] | None
"""A column of a Parquet file, or a tensor of a safetensors file; several, one for each epoch; None for the only one."""


@dataclass(frozen=True)
class Epoch:
    """Outputs of a model for `rows` samples in one pass, `width` numbers each.

    `blocks(size)` gives all rows in order as arrays or tensors `[size, width]`, the last one shorter.
    """

    rows: int
    width: int
    blocks: Callable[[int], Iterator[Any]]


def epochs_of(outputs: Any, named: Named) -> list[Epoch]:
    """The passes of a model, in order; raises ValueError for unknown kinds of outputs, and for passes of two shapes."""
    if isinstance(outputs, str | Path):
        found = of_file(Path(outputs).expanduser(), named)
    elif isinstance(outputs, list | tuple) and outputs and not isinstance(outputs[0], int | float | list | tuple):
        found = [epoch for number, each in enumerate(outputs) for epoch in one_epoch(each, named, number)]
    else:
        found = of_array(outputs if hasattr(outputs, "detach") else np.asarray(outputs), "the outputs")
    first = found[0]
    for number, epoch in enumerate(found):
        if (epoch.rows, epoch.width) != (first.rows, first.width):
            raise ValueError(
                f"epoch {number} has outputs [{epoch.rows}, {epoch.width}], epoch 0 has [{first.rows}, {first.width}]: "
                "each epoch needs the same samples and classes"
            )
    if not first.rows or first.width < 1:
        raise ValueError(f"the outputs are [{first.rows}, {first.width}]: there is nothing to score")
    return found


def one_epoch(outputs: Any, named: Named, number: int) -> list[Epoch]:
    """One pass of a list of them."""
    found = epochs_of(outputs, named)
    if len(found) != 1:
        raise ValueError(f"item {number} of the list holds {len(found)} epochs: give one [n, classes] for each epoch")
    return found


def of_array(values: Any, what: str) -> list[Epoch]:
    """Passes of an array or tensor; blocks are views, so that a memory map stays in its file."""
    shape = tuple(values.shape)
    numeric = values.is_floating_point() if hasattr(values, "detach") else values.dtype.kind in NUMBERS
    if len(shape) not in (2, 3) or not numeric or not all(shape[:-2]):
        raise ValueError(
            f"{what} are {getattr(values, 'dtype', type(values).__name__)} {list(shape)}, and {KINDS}, or the path of "
            f"a file ({FILES}) is needed"
        )
    each = [values] if len(shape) == 2 else [values[number] for number in range(shape[0])]
    return [Epoch(shape[-2], shape[-1], partial(slices, one)) for one in each]


def slices(values: Any, size: int) -> Iterator[Any]:
    """Consecutive rows of an array or tensor."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def of_file(path: Path, named: Named) -> list[Epoch]:
    """Passes in a file; raises ValueError for a missing file and for an unknown format."""
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    if path.suffix == ".npy":
        return of_array(array_at(path, "outputs"), str(path))
    if path.suffix == ".safetensors":
        return of_tensors(path, named)
    if path.suffix == ".parquet":
        return of_columns(path, named)
    raise ValueError(f"{path}: outputs are read from {FILES}")


def chosen(path: Path, named: Named, there: Sequence[str], what: str) -> list[str]:
    """Names of columns or tensors that hold the passes; raises ValueError for a missing one, and if several could."""
    names = [named] if isinstance(named, str) else list(named or there)
    if missing := [name for name in names if name not in there]:
        raise ValueError(f"{path}: there is no {what} {missing[0]!r}, there are: {', '.join(there) or 'none'}")
    if named is None and len(names) != 1:
        raise ValueError(f"{path}: say by column= which {what} holds the outputs, there are: {', '.join(there)}")
    return names


def of_tensors(path: Path, named: Named) -> list[Epoch]:
    """Passes of a safetensors file: of one tensor, or of several with one pass each."""
    from safetensors import safe_open

    found: list[Epoch] = []
    with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
        names = chosen(path, named, sorted(file.keys()), "tensor")
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    for name, shape in shapes.items():
        if len(shape) not in (2, 3) or (len(shape) == 3 and len(names) > 1):
            raise ValueError(f"{path}: tensor {name!r} is {list(shape)}, and [n, classes] is needed")
        places = [None] if len(shape) == 2 else range(shape[0])
        rows, width = shape[-2:]
        found += [Epoch(rows, width, partial(tensor_blocks, path, name, place, rows)) for place in places]
    return found


def tensor_blocks(path: Path, name: str, place: int | None, rows: int, size: int) -> Iterator[torch.Tensor]:
    """Consecutive rows of a tensor in a file; of a tensor of three dimensions those at `place` in the first."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
        tensor = file.get_slice(name)
        for start in range(0, rows, size):
            stop = min(start + size, rows)
            yield tensor[start:stop] if place is None else tensor[place : place + 1, start:stop][0]


def of_columns(path: Path, named: Named) -> list[Epoch]:
    """Passes of a Parquet file, one for each column of lists."""
    with pq.ParquetFile(path) as file:
        lists = [field.name for field in file.schema_arrow if holds_lists(field.type)]
        names, rows = chosen(path, named, lists, "column of lists"), file.metadata.num_rows
    found = []
    for name in names:
        first = next(column_parts(path, name, 1), None)
        if first is None:
            raise ValueError(f"{path}: no rows")
        found.append(Epoch(rows, first.shape[1], partial(column_blocks, path, name, first.shape[1])))
    return found


def holds_lists(kind: Any) -> bool:
    """Whether an Arrow type is of lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def column_parts(path: Path, name: str, size: int, width: int | None = None) -> Iterator[np.ndarray]:
    """A column of lists in parts of at most `size` rows; raises ValueError for a row of another length."""
    start = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(size, columns=[name]):
            column = batch.column(0)
            lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
            width = int(lengths[0]) if width is None and lengths[0] == lengths[0] else width
            if len(wrong := np.flatnonzero(lengths != width)):
                raise ValueError(
                    f"{path}: column {name!r} has no list of {width} numbers at {rows_text(start + wrong)}"
                )
            values = column.flatten().to_numpy(zero_copy_only=False)
            yield values.astype(np.float64 if values.dtype.kind not in "f" else values.dtype).reshape(len(batch), -1)
            start += len(batch)


def column_blocks(path: Path, name: str, width: int, size: int) -> Iterator[np.ndarray]:
    """A column of lists in blocks of `size` rows, whatever the parts that the file is read in."""
    held: list[np.ndarray] = []
    for part in column_parts(path, name, size, width):
        held.append(part)
        while sum(map(len, held)) >= size:
            whole = np.concatenate(held)
            yield whole[:size]
            held = [whole[size:]]
    if sum(map(len, held)):
        yield np.concatenate(held)
