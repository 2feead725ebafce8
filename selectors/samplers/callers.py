"""Callers of a sampler: a library that splits the epoch among processes, or a loader that loads its state.

To every library a sampler is a plain iterable, which it wraps without notice; only the call stack shows the caller.
"""

from __future__ import annotations

import sys
from collections.abc import Container
from dataclasses import dataclass
from operator import attrgetter

from secateur.scorers.lazy import distributed


@dataclass(frozen=True)
class Splitter:
    """A class that splits the ids of a sampler: its attribute with the number of processes, and remedies."""

    processes: str
    shared: str
    """Remedy where the sampler already gives a share."""
    resumed: str
    """Remedy where the sampler is in the middle of an epoch."""


SPLITTERS = {
    "DistributedSampler": Splitter(  # torch's; Lightning's is a subclass
        "num_replicas",
        "pass use_distributed_sampler=False to lightning.Trainer, or leave that DistributedSampler out",
        "make the sampler with Shard(rank, world), and pass use_distributed_sampler=False to lightning.Trainer",
    ),
    "BatchSamplerShard": Splitter(  # accelerate's, and so the transformers Trainer's
        "num_processes",
        "make the sampler without a shard, accelerate splits its batches",
        "save state_dict(consumed=0), and skip batches by accelerator.skip_first_batches",
    ),
    "DataLoaderDispatcher": Splitter(  # accelerate's with dispatch_batches
        "state.num_processes",
        "make the sampler without a shard, accelerate splits its batches",
        "leave dispatch_batches out, save state_dict(consumed=0), and skip batches by accelerator.skip_first_batches",
    ),
}


def caller_of(names: Container[str]) -> tuple[str, object] | None:
    """The nearest object on the call stack whose class has one of these names, behind the name; None without one."""
    frame = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        for kind in type(owner).__mro__:
            if kind.__name__ in names:
                return kind.__name__, owner
        frame = frame.f_back  # type: ignore[assignment] # None at the end
    return None


def check_split(rank: int, world: int, place: int) -> str:
    """Raise RuntimeError where a library splits a share again, or the rest of a resumed epoch as if it were whole.

    Returns a warning for the user where each of several processes goes through the whole epoch, else an empty text.
    """
    processes = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    if world == 1 and processes == 1:
        return ""
    name, owner = caller_of(SPLITTERS) or ("", None)
    try:
        among = attrgetter(SPLITTERS[name].processes)(owner) if name else 1
    except AttributeError:  # another class of the same name
        among = 1
    if among == 1:
        if world > 1:
            return ""
        return (
            f"each of {processes} processes goes through the whole epoch: give the sampler shard=Shard(rank, world), "
            "or let accelerate or Lightning split it"
        )
    if world > 1:
        raise RuntimeError(
            f"each epoch would be split twice: Shard({rank}, {world}) gives this process its share, and {name} takes "
            f"1 of {among} parts of that: {SPLITTERS[name].shared}"
        )
    if place > 0:
        raise RuntimeError(
            f"the sampler was resumed at sample {place} of its epoch, and {name} splits and pads the rest as if it "
            f"were a whole epoch: {SPLITTERS[name].resumed}"
        )
    if name == "DataLoaderDispatcher" and caller_of(("SkipBatchSampler",)):
        raise RuntimeError(
            f"skip_first_batches with dispatch_batches=True skips batches of one process and not of all {among}, and "
            f"shows rows twice: {SPLITTERS[name].resumed}"
        )
    return ""
