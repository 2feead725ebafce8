"""Sources of training inputs: on the device, or in a file that workers read ahead of the steps. Both give bit-identical
batches; other modules decide on their samples and augmentation.
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
"""Largest share of a device's memory (of a GPU's free memory) that held inputs may take."""
COPIED_AT_ONCE = 4096
"""Rows per copy to a GPU."""


@runtime_checkable
class Source(Protocol):
    """Gives the inputs of batches."""

    def batches(self, ids: torch.Tensor, on_device: torch.Tensor, parts: Sequence[slice]) -> Iterator[Any]:
        """Inputs on the device for each part of an epoch's ids, int64 `[m]` on the host and on the device.

        Yields tensors `[b, …]`, or collated batches of a user's own task.
        """


class Held:
    """Inputs that are copied to the device once and gathered there; on the CPU there is no copy."""

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
        """As `Source.batches`; does not synchronise with the device."""
        if self.held is None:
            numbers = ids.numpy()
            for part in parts:
                yield torch.from_numpy(self.inputs[numbers[part]])
            return
        rows = on_device if self.places is None else self.places[on_device]
        for part in parts:
            yield self.held.index_select(0, rows[part])


def copied(inputs: Shaped[np.ndarray, "n ..."], rows: Int64[np.ndarray, " m"], device: torch.device) -> torch.Tensor:
    """Copy these rows to a device, `[m, …]`, by blocks, which avoids a second copy of them on the host."""
    first = torch.from_numpy(inputs[rows[:1]])
    held = torch.empty((len(rows), *inputs.shape[1:]), dtype=first.dtype, device=device)
    for start in range(0, len(rows), COPIED_AT_ONCE):
        held[start : start + COPIED_AT_ONCE] = torch.from_numpy(inputs[rows[start : start + COPIED_AT_ONCE]])
    return held


class HeldSparse:
    """Sparse inputs that are copied to the device once and made dense there, batch by batch."""

    def __init__(self, data: Data, rows: torch.Tensor, device: torch.device) -> None:
        part = data.inputs.take(rows.numpy())
        self.counts, self.width, self.device = np.diff(part.starts), part.width, device
        self.places = np.zeros(len(data), np.int64)
        self.places[rows.numpy()] = np.arange(len(rows))
        arrays = (part.starts, part.columns, part.values)
        self.starts, self.columns, self.values = (torch.from_numpy(np.asarray(each)).to(device) for each in arrays)

    def batches(self, ids: torch.Tensor, on_device: torch.Tensor, parts: Sequence[slice]) -> Iterator[torch.Tensor]:
        """As `Source.batches`; the host knows the number of values of a batch, so it does not synchronise."""
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
    """Samples of a user's own data set; this process reads and collates each batch when its turn comes."""

    def __init__(self, data: Data, device: torch.device) -> None:
        self.data, self.device = data, device

    def batches(self, ids: torch.Tensor, on_device: torch.Tensor, parts: Sequence[slice]) -> Iterator[Any]:
        """As `Source.batches`."""
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
    """Inputs that a DataLoader's workers read, each `ahead` batches in advance."""

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
            # Without it, the seeds of workers would come from dropout's generator.
            generator=torch.Generator(),
        )

    def batches(self, ids: torch.Tensor, on_device: torch.Tensor, parts: Sequence[slice]) -> Iterator[Any]:
        """As `Source.batches`; transfers from pinned memory do not synchronise."""
        numbers = ids.numpy()
        self.order.listed = [numbers[part] for part in parts]
        for inputs in self.loader:
            yield moved(inputs, self.device)


def is_mapped(array: Inputs) -> bool:
    """Whether an array, or the array behind its view, is memory-mapped."""
    holder: object = array.values if isinstance(array, SparseRows) else array
    while isinstance(holder, np.ndarray):
        if isinstance(holder, np.memmap):
            return True
        holder = holder.base
    return False


def memory_of(device: torch.device) -> int:
    """Bytes of free memory of a GPU, or of the machine's total memory."""
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
    """Inputs held on the device if these rows fit `HELD_SHARE` of its memory, else read by workers.

    `loading` overrides the choice, `memory` in bytes the value of `memory_of`. On a CPU, an array in memory is always
    held. This process reads the samples of a user's own data set, unless `loading` is workers.
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
    """Approximate bytes of so many rows."""
    if isinstance(inputs, SparseRows):
        return inputs.nbytes * rows // max(1, len(inputs))
    return rows * inputs.itemsize * math.prod(inputs.shape[1:])


class StepViews:
    """Random views of a step's images, a function of seed, epoch and step: independent of loaders and processes."""

    def __init__(self, augmentation: Augmentation, shape: tuple[int, ...], seed: int, device: torch.device) -> None:
        augmentation.check(shape)
        self.augmentation, self.shape, self.seed = augmentation, shape, seed
        # On the device: draws on the host would synchronise at every step.
        self.generator = torch.Generator(device)
        self.epoch, self.key = -1, 0

    def draw(self, epoch: int, step: int, count: int) -> Views:
        """Views of the `count` images of a step."""
        if epoch != self.epoch:
            self.epoch, self.key = epoch, derive_seed(self.seed, epoch, 4)
        self.generator.manual_seed((self.key + step) % (1 << 63))
        return draw_views(count, self.shape, self.augmentation, self.generator)

    def apply(self, inputs: torch.Tensor, views: Views) -> torch.Tensor:
        """Apply these views to the images."""
        return apply_views(inputs, self.augmentation, views)
