"""Who splits an epoch is seen from the classes of the libraries themselves; two processes are made believe here.

What the libraries do in two real processes: tests/integration/test_resumed_loops.py.
"""

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from torch.utils.data import BatchSampler

from secateur.selectors.samplers import callers
from secateur.selectors.samplers.contract import Shard
from secateur.selectors.samplers.rs2 import Rs2


@pytest.fixture(autouse=True)
def two_processes() -> Any:
    fake = SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, get_world_size=lambda: 2)
    with mock.patch.object(callers, "distributed", fake):
        yield


class DataLoaderDispatcher:
    """Named and built as accelerate's, whose own broadcasts what it reads to processes that are not there."""

    def __init__(self, batches: Any) -> None:
        self.batches, self.state = batches, SimpleNamespace(num_processes=2)

    def __iter__(self) -> Any:
        yield from self.batches


def batches_of(sampler: Any) -> BatchSampler:
    return BatchSampler(sampler, 4, drop_last=False)


SPLIT = {
    "accelerate": lambda sampler: BatchSamplerShard(batches_of(sampler), 2, 0),
    "dispatched": lambda sampler: DataLoaderDispatcher(batches_of(sampler)),
    "Lightning": lambda sampler: DistributedSamplerWrapper(sampler, num_replicas=2, rank=0),
}


@pytest.mark.parametrize("library", SPLIT)
def test_an_epoch_is_split_once_and_from_its_first_sample(library: str) -> None:
    split = SPLIT[library]
    assert list(split(Rs2(20, keep=1.0)))
    with pytest.raises(RuntimeError, match="split twice"):
        list(split(Rs2(20, keep=1.0, shard=Shard(0, 2))))
    resumed = Rs2(20, keep=1.0)
    resumed.load_state_dict(resumed.state_dict(consumed=8))
    with pytest.raises(RuntimeError, match="resumed at sample 8 of its epoch"):
        list(split(resumed))


def test_batches_that_are_skipped_before_they_are_dealt_out_are_those_of_one_process() -> None:
    assert len(list(SkipBatchSampler(BatchSamplerShard(batches_of(Rs2(20, keep=1.0)), 2, 0), 1))) == 2
    with pytest.raises(RuntimeError, match="leave dispatch_batches out"):
        list(DataLoaderDispatcher(SkipBatchSampler(batches_of(Rs2(20, keep=1.0)), 1)))


def test_a_whole_epoch_in_each_process_is_warned_of_once_and_a_share_is_not() -> None:
    list(Rs2(20, keep=1.0, shard=Shard(0, 2)))
    sampler = Rs2(20, keep=1.0)
    with pytest.warns(UserWarning, match="each of 2 processes goes through the whole epoch"):
        list(sampler)
    sampler.set_epoch(1)
    list(sampler)  # warnings are errors here
