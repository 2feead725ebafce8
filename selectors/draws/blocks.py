"""Work on long arrays block by block, on all cores: temporaries stay in cache, and NumPy lets threads run."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any, TypeVar

import numpy as np

Result = TypeVar("Result")

ROWS = 1 << 19
"""Rows in a block: a temporary of four bytes each fits in a core's own cache, a call's cost is spread thin."""


def over_blocks(count: int, work: Callable[[slice], Result], size: int = ROWS) -> list[Result]:
    """Results of `work` for each block of `size` rows of an array of length `count`, in order.

    `work` must write to no rows but its own.
    """
    blocks = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    if len(blocks) <= 1:
        return [work(block) for block in blocks]
    keep_freed_memory()
    results: list[Any] = [None] * len(blocks)
    queue = iter(list(enumerate(blocks)))  # a list's iterator hands each block to one thread
    helpers, threads = pool(os.getpid())
    tasks = [helpers.submit(drain, queue, work, results) for _ in range(min(threads, len(blocks) - 1))]
    try:
        drain(queue, work, results)
    finally:
        # A task that has not begun is not needed; a wait for it within another helper would never end.
        started = [task for task in tasks if not task.cancel()]
        wait(started)
    for task in started:
        task.result()
    return results


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def pool(process: int) -> tuple[ThreadPoolExecutor, int]:
    """Helper threads of a process, and their number: each process has its own, since a fork inherits none."""
    others = cores() - 1
    return ThreadPoolExecutor(max(1, others), thread_name_prefix="blocks"), others


def drain(queue: Iterator[tuple[int, slice]], work: Callable[[slice], Any], results: list[Any]) -> None:
    """Work on blocks until none is left: one task per thread, since a task per block costs as much as the block."""
    for place, block in queue:
        results[place] = work(block)


@cache
def keep_freed_memory() -> None:
    """Free one array of 31 MB, once: glibc then keeps freed memory up to twice that size.

    Its threshold is twice the largest mapped block freed so far (mallopt(3), M_MMAP_THRESHOLD; 32 MB is the most it
    learns from). Otherwise every block would return its temporaries to the system, and fault them in anew.
    """
    np.empty(31 << 20, dtype=np.uint8)
