"""Work on long arrays block by block, on the cores there are: temporaries stay in cache, NumPy lets threads run."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

ROWS = 1 << 17
"""Rows in a block: a few temporaries of eight bytes fit in a core's own cache."""


def over_blocks(count: int, work: Callable[[slice], Result], size: int = ROWS) -> list[Result]:
    """What `work` gives for each block of `size` rows of an array of length `count`, in order.

    `work` writes to no rows but its own.
    """
    blocks = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    if len(blocks) <= 1:
        return [work(block) for block in blocks]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        return list(pool.map(work, blocks))
