"""Several processes that train one model: each takes its share of every batch.

`accelerate launch --multi_gpu` starts them for GPUs, `torchrun --nproc-per-node=2` on a CPU; accelerate detects which.
Batches, the arguments of observers and samplers, and, up to rounding, gradients are the same as in one process. A
single process does not import accelerate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from secateur.scorers.lazy import distributed, nn, torch


@dataclass(frozen=True)
class MicroBatch:
    """Places in an epoch's ids that one forward pass takes; one that does not count only keeps processes in step."""

    places: slice
    counts: bool = True


def divided(whole: slice, parts: int) -> list[slice]:
    """Split a run of places into `parts` runs; the earlier ones are longer by one where it does not divide.

    >>> divided(slice(10, 15), 2)
    [slice(10, 13, None), slice(13, 15, None)]
    """
    size, longer = divmod(whole.stop - whole.start, parts)
    starts = [whole.start + number * size + min(number, longer) for number in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(starts)]


@dataclass(frozen=True)
class Processes:
    """This process among all that train the model; rank 0 writes."""

    rank: int = 0
    world: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files, progress bars and trackers."""
        return self.rank == 0

    def parts(self, step: slice, accumulate: int) -> list[MicroBatch]:
        """Forward passes of this process for a step, equally many in each process.

        A part has at least two samples if the share allows it, because batch norm cannot measure one. A process that
        has no sample left of a small batch repeats the first one without counting it: all processes must take part in
        exchanging gradients.
        """
        longest = -(-(step.stop - step.start) // self.world)
        mine = divided(divided(step, self.world)[self.rank], min(accumulate, max(1, longest // 2)))
        filler = MicroBatch(slice(step.start, step.start + 1), counts=False)
        return [MicroBatch(places) if places.start < places.stop else filler for places in mine]

    @contextmanager
    def sharing(self, model: nn.Module, device: torch.device) -> Iterator[nn.Module]:
        """The model to call in training, which exchanges gradients; afterwards all processes hold the same buffers.

        On GPUs, batch norm measures the whole batch; on the CPU torch cannot, and each process measures its share.
        """
        if self.world == 1:
            yield model
            return
        if device.type != "cuda":
            yield nn.parallel.DistributedDataParallel(model)
        else:
            plain = {
                name: each for name, each in model.named_modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)
            }
            shared = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
            yield nn.parallel.DistributedDataParallel(shared, device_ids=[device])
            for name, each in plain.items():
                model.set_submodule(name, each)  # It shares parameters and buffers with its SyncBatchNorm.
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)

    def quiet(self, network: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Keep gradients in this process in all but the last of a step's backward passes."""
        return nullcontext() if last or self.world == 1 else network.no_sync()  # type: ignore[operator]

    def gather(self, mine: torch.Tensor, step: slice) -> torch.Tensor:
        """Rows of all processes, `[b, …]` in the order of the batch; does not synchronise with the device."""
        if self.world == 1:
            return mine
        lengths = [share.stop - share.start for share in divided(step, self.world)]
        padded = mine.new_zeros((lengths[0], *mine.shape[1:]))
        padded[: len(mine)] = mine
        found = mine.new_empty((self.world, *padded.shape))
        distributed.all_gather_single(found.flatten(0, 1), padded)
        return torch.cat([rows[:length] for rows, length in zip(found, lengths, strict=True)])

    def agree(self, mine: bool, device: torch.device) -> bool:
        """The value of rank 0; a collective call that synchronises."""
        if self.world == 1:
            return mine
        said = torch.tensor([mine], dtype=torch.uint8, device=device)
        distributed.broadcast(said, 0)
        return bool(said.item())

    def collect(self, mine: torch.Tensor, device: torch.device) -> list[torch.Tensor]:
        """The tensors of all processes, of equal shape, on the CPU in rank order; a collective call, synchronises."""
        if self.world == 1:
            return [mine]
        sent = mine.to(device)
        found = [torch.empty_like(sent) for _ in range(self.world)]
        distributed.all_gather(found, sent)
        return [each.cpu() for each in found]


def processes_here(device: torch.device | None) -> tuple[Processes, torch.device]:
    """This process among those of one launch, and the device it trains on.

    Without `device` it trains on its own GPU, or on the CPU. Raises ValueError for launches that shard the model.
    """
    together = distributed.is_available() and distributed.is_initialized()
    if not together and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(), device or device_of_choice()
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    state = PartialState(cpu=device is not None and device.type == "cpu")
    if state.distributed_type not in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        raise ValueError(
            f"launched as {state.distributed_type.value}: training shares batches, it does not shard models; "
            "use `accelerate launch --multi_gpu`, or torchrun on a CPU"
        )
    return Processes(state.process_index, state.num_processes), device or state.device


def device_of_choice() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def private_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators that layers draw from; restores their states at the end."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # torch.manual_seed would also seed every other GPU.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
