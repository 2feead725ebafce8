"""Where training inputs lie: on the device, or in a file that workers read ahead of the steps. The same batches and
the same bits either way: what is in a batch, and how it is augmented, is decided elsewhere.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, Shaped

from secateur.scorers.lazy import torch
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.trainers.augmentation import Augmentation, Views, apply_views, draw_views
from secateur.trainers.contract import Data, moved
from secateur.trainers.sparse_rows import Inputs, SparseRows

HELD_SHARE = 0.5
"""Share of a device's memory (of a GPU's free memory) that inputs may take to be held there."""
COPIED_AT_ONCE = 4096
"""Rows copied to a GPU at a time."""


@runtime_checkable
class Source(Protocol):
    """Gives the inputs of batches."""

    def batches(self, ids: torch.Tensor, on_device: torch.Tensor, parts: Sequence[slice]) -> Iterator[Any]:
        """Inputs on the device for each part of an epoch's ids, int64 `[m]` on the host and on the device.

        Tensors `[b, …]`, or what a task of the user's own collates.
        """


class Held:
    """Inputs that are gathered on the device, where they are put once; on the CPU they stay where they are."""

    def __init__(self, data: Data, rows: torch.Tensor, device: torch.device) -> None:
        self.inputs = data.inputs if isinstance(data.inputs, SparseRows) else np.asarray(data.inputs)
        self.held = self.places = None
        if device.type != "cpu":
            self.held = copied(np.asarray(data.inputs), rows.numpy(), device)
            if len(rows) < len(data):
                places = torch.zeros(len(data), dtype=torch.int64)
                places[rows] = torch.arange(len(rows))
                self.places = places.to(device)

    def batches(self, ids: torch.Tensor, on_device: torch.Tensor, parts: Sequence[slice]) -> Iterator[torch.Tensor]:
        """As `Source` says; nothing waits for the device."""
        if self.held is None:
            numbers = ids.numpy()
            for part in parts:
                yield torch.from_numpy(self.inputs[numbers[part]])
            return
        rows = on_device if self.places is None else self.places[on_device]
        for part in parts:
            yield self.held.index_select(0, rows[part])


def copied(inputs: Shaped[np.ndarray, "n ..."], rows: Int64[np.ndarray, " m"], device: torch.device) -> torch.Tensor:
    """These rows on a device, `[m, …]`, copied by blocks: no second copy of them is made on the host."""
    first = torch.from_numpy(inputs[rows[:1]])
    held = torch.empty((len(rows), *inputs.shape[1:]), dtype=first.dtype, device=device)
    for start in range(0, len(rows), COPIED_AT_ONCE):
        held[start : start + COPIED_AT_ONCE] = torch.from_numpy(inputs[rows[start : start + COPIED_AT_ONCE]])
    return held


class HeldSparse:
    """Sparse inputs that are put on the device once as they are, and made dense there, batch by batch."""

    def __init__(self, data: Data, rows: torch.Tensor, device: torch.device) -> None:
        part = data.inputs.take(rows.numpy())
        self.counts, self.width, self.device = np.diff(part.starts), part.width, device
        self.places = np.zeros(len(data), np.int64)
        self.places[rows.numpy()] = np.arange(len(rows))
        arrays = (part.starts, part.columns, part.values)
        self.starts, self.columns, self.values = (torch.from_numpy(np.asarray(each)).to(device) for each in arrays)

    def batches(self, ids: torch.Tensor, on_device: torch.Tensor, parts: Sequence[slice]) -> Iterator[torch.Tensor]:
        """As `Source` says; how many numbers a batch has is known on the host, so nothing waits for the device."""
        places = self.places[ids.numpy()]
        held = torch.from_numpy(places).to(self.device, non_blocking=True)
        for part in parts:
            rows, total = held[part], int(self.counts[places[part]].sum())
            first = self.starts[rows]
            counts = self.starts[rows + 1] - first
            owners = torch.repeat_interleave(torch.arange(len(rows), device=self.device), counts, output_size=total)
            before = counts.cumsum(0) - counts
            at = torch.arange(total, device=self.device) + (first - before)[owners]
            dense = torch.zeros(len(rows), self.width, device=self.device)
            dense[owners, self.columns[at].long()] = self.values[at]
            yield dense


class Collated:
    """Samples of a user's own data set, read and collated in this process as their turn comes."""

    def __init__(self, data: Data, device: torch.device) -> None:
        self.data, self.device = data, device

    def batches(self, ids: torch.Tensor, on_device: torch.Tensor, parts: Sequence[slice]) -> Iterator[Any]:
        """As `Source` says."""
        for part in parts:
            yield self.data.take(ids.numpy()[part]).network_inputs(self.device)


class RowReader:
    """Reads whole batches: indexed with row numbers, int64 `[b]`, it gives inputs `[b, …]`."""

    def __init__(self, data: Data) -> None:
        self.data = data

    def __getitem__(self, rows: np.ndarray) -> Any:
        """One batch, on the CPU."""
        return self.data.take(rows).network_inputs()


class ListedBatches:
    """The batches of the epoch at hand; replaced between epochs, so that workers can stay."""

    def __init__(self) -> None:
        self.listed: list[np.ndarray] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.listed)

    def __len__(self) -> int:
        return len(self.listed)


class Loaded:
    """Inputs that a DataLoader's workers read, `ahead` batches each before they are asked for."""

    def __init__(self, data: Data, device: torch.device, *, workers: int, ahead: int = 4) -> None:
        self.device, self.order = device, ListedBatches()
        dataset: Any = RowReader(data)
        self.loader: torch.utils.data.DataLoader[Any] = torch.utils.data.DataLoader(
            dataset,
            batch_size=None,
            sampler=self.order,
            num_workers=workers,
            prefetch_factor=ahead,
            pin_memory=device.type == "cuda",
            persistent_workers=True,
            # Its seeds for workers would else be drawn from the generator that dropout draws from.
            generator=torch.Generator(),
        )

    def batches(self, ids: torch.Tensor, on_device: torch.Tensor, parts: Sequence[slice]) -> Iterator[Any]:
        """As `Source` says; transfers from pinned memory wait for nothing."""
        numbers = ids.numpy()
        self.order.listed = [numbers[part] for part in parts]
        for inputs in self.loader:
            yield moved(inputs, self.device)


def is_mapped(array: Inputs) -> bool:
    """Whether an array, or what it is a view of, lies in a file."""
    holder: object = array.values if isinstance(array, SparseRows) else array
    while isinstance(holder, np.ndarray):
        if isinstance(holder, np.memmap):
            return True
        holder = holder.base
    return False


def memory_of(device: torch.device) -> int:
    """Bytes: what is free on a GPU, what the machine has else."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def source_of(
    data: Data,
    rows: torch.Tensor,
    device: torch.device,
    *,
    loading: Literal["auto", "memory", "workers"],
    workers: int,
    memory: int | None = None,
) -> Source:
    """Inputs held on the device where `HELD_SHARE` of its memory is enough for these rows, else read by workers.

    `loading` overrides the choice; `memory` in bytes stands for what `memory_of` measures. On a CPU, an array that is
    in memory already is held whatever its size. Samples of a user's own data set are read in this process, or by
    workers.
    """
    if not isinstance(data.inputs, np.ndarray | SparseRows):
        return Loaded(data, device, workers=workers) if loading == "workers" else Collated(data, device)
    if loading == "auto":
        size = bytes_of(data.inputs, len(rows))
        fits = size <= HELD_SHARE * (memory_of(device) if memory is None else memory)
        loading = "memory" if fits or (device.type == "cpu" and not is_mapped(data.inputs)) else "workers"
    if loading == "workers":
        return Loaded(data, device, workers=workers)
    sparse = isinstance(data.inputs, SparseRows) and device.type != "cpu"
    return HeldSparse(data, rows, device) if sparse else Held(data, rows, device)


def bytes_of(inputs: Inputs, rows: int) -> int:
    """About how many bytes so many rows take."""
    if isinstance(inputs, SparseRows):
        return inputs.nbytes * rows // max(1, len(inputs))
    return rows * inputs.itemsize * math.prod(inputs.shape[1:])


class StepViews:
    """Random views of a step's images as a function of seed, epoch and step: no matter who loads or shares them."""

    def __init__(self, augmentation: Augmentation, shape: tuple[int, ...], seed: int, device: torch.device) -> None:
        augmentation.check(shape)
        self.augmentation, self.shape, self.seed = augmentation, shape, seed
        # On the device itself: drawn on the host, every step would wait for a transfer.
        self.generator = torch.Generator(device)
        self.epoch, self.key = -1, 0

    def draw(self, epoch: int, step: int, count: int) -> Views:
        """Views of the `count` images of a step."""
        if epoch != self.epoch:
            self.epoch, self.key = epoch, derive_seed(self.seed, epoch, 4)
        self.generator.manual_seed((self.key + step) % (1 << 63))
        return draw_views(count, self.shape, self.augmentation, self.generator)

    def apply(self, inputs: torch.Tensor, views: Views) -> torch.Tensor:
        """The images as these views have them."""
        return apply_views(inputs, self.augmentation, views)
