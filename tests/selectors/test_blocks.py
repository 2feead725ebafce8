"""Blocks on threads: all rows once, in order, also from within a block, after an error and in a forked process."""

import multiprocessing
import threading
import time

import numpy as np
import pytest

from secateur.selectors.draws import blocks
from secateur.selectors.draws.blocks import over_blocks


@pytest.fixture(autouse=True)
def four_helpers(monkeypatch):
    """Whatever the machine has."""
    monkeypatch.setattr(blocks.os, "sched_getaffinity", lambda _: range(5), raising=False)
    blocks.pool.cache_clear()
    yield
    blocks.pool.cache_clear()


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 1000])
def test_every_row_is_seen_once_and_results_are_in_order(count):
    seen = np.zeros(count, int)

    def work(rows):
        seen[rows] += 1
        return rows.start

    assert over_blocks(count, work, 10) == list(range(0, count, 10))
    assert (seen == 1).all()


def test_blocks_within_blocks_end():
    """All helpers wait for blocks of their own: each does them itself."""
    inner = over_blocks(64, lambda rows: sum(over_blocks(64, lambda own: own.stop - own.start, 2)), 2)
    assert inner == [64] * 32


def test_others_have_ended_when_an_error_is_raised():
    failed, ended = threading.Event(), []

    def work(rows):
        if rows.start == 0:
            failed.set()
            raise RuntimeError("block 0")
        failed.wait(10)
        time.sleep(0.02)
        ended.append(rows.start)

    with pytest.raises(RuntimeError, match="block 0"):
        over_blocks(100, work, 10)
    count = len(ended)
    time.sleep(0.2)
    assert len(ended) == count
    assert over_blocks(100, lambda rows: rows.start, 10) == list(range(0, 100, 10))


def forked(queue):
    queue.put(over_blocks(100, lambda rows: rows.start, 10))


def test_a_forked_process_has_threads_of_its_own():
    over_blocks(100, lambda rows: rows.start, 10)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=forked, args=(queue,))
    process.start()
    try:
        assert queue.get(timeout=60) == list(range(0, 100, 10))
    finally:
        process.kill()
        process.join()
