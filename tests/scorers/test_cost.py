"""Estimates of time and memory, and what the operating system says is free."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from secateur.scorers.geometry.neighbours import choose_engine, nearest_neighbours
from secateur.scorers.geometry.search_cost import estimate, refuse_beyond, sgemm_rate
from secateur.scorers.memory import available_memory, gigabytes, group_limits, peak_memory


def test_time_is_that_of_the_products():
    assert estimate(10_000, 512, 10, engine="exact", rate=1e9).seconds == pytest.approx(2 * 10_000**2 * 512 / 1e9)
    assert estimate(10_000, 512, 10, engine="exact", rate=1e9, pairs=5e6).seconds == pytest.approx(2 * 5e6 * 512 / 1e9)


@pytest.mark.parametrize("engine", ["exact", "ivf"])
def test_a_search_within_classes_is_estimated_by_the_pairs_of_each_class(engine, monkeypatch):
    """Classes of 60, 40 and 20: 5,600 pairs instead of 14,400, and a copy of the largest class."""
    monkeypatch.setattr("secateur.scorers.geometry.search_cost.sgemm_rate", lambda: 1e9)
    points, labels = np.ones((120, 4), np.float32), np.repeat([7, 0, 3], [60, 40, 20])
    seen = []
    monkeypatch.setattr("secateur.scorers.geometry.neighbours.refuse_beyond", lambda cost, _: seen.append(cost))
    for classes, pairs, copied in ((None, 14_400.0, 0), (labels, 5_600.0, 60 * 16)):
        assert choose_engine(points, classes, 5, engine, 3600.0, None) == engine
        plain = estimate(120, 4, 5, engine=engine, rate=1e9, pairs=pairs)
        assert (seen[-1].seconds, seen[-1].memory) == (plain.seconds, plain.memory + copied)


def test_exact_search_goes_up_to_its_seconds_and_no_further(monkeypatch):
    monkeypatch.setattr("secateur.scorers.geometry.search_cost.sgemm_rate", lambda: 1e9)
    points = np.ones((120, 4), np.float32)
    seconds = estimate(120, 4, 5, engine="exact", rate=1e9).seconds
    for limit, engine in ((seconds, "exact"), (seconds * 0.999, "ivf")):
        assert choose_engine(points, None, 5, "auto", limit, None) == engine


def test_inverted_lists_pay_for_themselves_on_large_data_only():
    for samples, cheaper in ((1_000_000, True), (2_000, False)):
        exact, lists = (estimate(samples, 768, 10, engine=e, rate=1e11).seconds for e in ("exact", "ivf"))
        assert (lists < exact) is cheaper


def test_memory_grows_linearly_once_the_workspace_is_full():
    one, two = (estimate(n, 768, 10, engine="exact", rate=1.0).memory for n in (10_000_000, 20_000_000))
    assert two - one == 10_000_000 * (15 + 10) * 12
    assert estimate(100_000_000, 768, 10, engine="exact", rate=1.0).memory < 40e9


def test_memory_used_is_within_the_estimate():
    embeddings = np.random.default_rng(0).standard_normal((20_000, 16), dtype=np.float32)
    nearest_neighbours(embeddings, 20)
    tracemalloc.start()
    nearest_neighbours(embeddings, 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= estimate(20_000, 16, 20, engine="exact", rate=1.0).memory


def test_refusal_says_the_sizes():
    cost = estimate(1_000_000_000, 768, 64, engine="exact", rate=1e12)
    with pytest.raises(MemoryError, match=r"1,000,000,000 samples of 768 dimensions, 64.* but only 8\.00 GB"):
        refuse_beyond(cost, 8_000_000_000)
    refuse_beyond(cost, cost.memory)
    with pytest.raises(MemoryError):
        refuse_beyond(cost, cost.memory - 1)
    with pytest.raises(MemoryError, match="is available"):
        refuse_beyond(estimate(10**12, 8, 5, engine="exact", rate=1e12))


def test_free_memory_is_read_from_the_system():
    psutil = pytest.importorskip("psutil")
    assert 0 < available_memory() <= psutil.virtual_memory().total


def test_the_peak_of_a_process_is_not_that_of_its_parent():
    """`getrusage` of a child starts at the peak of the process that started it."""
    if "VmHWM" not in Path("/proc/self/status").read_text():
        pytest.skip("this system does not count a peak of memory for each process")
    held = bytearray(600_000_000)
    held[::4096] = b"1" * len(held[::4096])
    assert peak_memory() > len(held)
    asked = "from secateur.scorers.memory import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert 1e6 < int(done.stdout) < 200e6


GROUPS = {
    1: ("3:cpu:/\n4:pids,memory:/jobs/7\n", "memory", ("limit_in_bytes", "usage_in_bytes"), "total_"),
    2: ("3:cpu:/\n0::/jobs/7\n", "", ("max", "current"), ""),
}


@pytest.mark.parametrize("version", [1, 2])
def test_every_control_group_around_the_process_lowers_what_is_free(tmp_path, version):
    own, below, names, total = GROUPS[version]
    limits = {"": (10_000, 9_000), "jobs": (5_000, 4_900), "jobs/7": (1_000, 400), "jobs/8": (10, 10)}
    for group, numbers in limits.items():
        folder = tmp_path / below / group
        folder.mkdir(parents=True, exist_ok=True)
        for name, number in zip(names, numbers, strict=True):
            (folder / f"memory.{name}").write_text(f"{number}\n")
    assert sorted(group_limits(tmp_path, own))[:-1] == [100, 600, 1000]
    assert sorted(group_limits(tmp_path, own.replace("jobs/7", "none/such")))[:-1] == [1000]
    # Pages of files that were read fill a group, and the system takes them back.
    stat = f"{total}inactive_file 150\n{total}active_file 50\nshmem 7\n"
    (tmp_path / below / "jobs" / "memory.stat").write_text(stat)
    assert sorted(group_limits(tmp_path, own))[:-1] == [300, 600, 1000]


def test_a_group_without_a_limit_lowers_nothing(tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert min(group_limits(tmp_path, "0::/\n")) == 1 << 62


def test_a_limit_of_the_address_space_lowers_what_is_free():
    asked = (
        "import resource; from pathlib import Path; from secateur.scorers.memory import available_memory; "
        "taken = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize(); "
        "resource.setrlimit(resource.RLIMIT_AS, (taken + 50_000_000,) * 2); print(available_memory())"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert 40_000_000 < int(done.stdout) <= 50_000_000


def test_rate_is_measured():
    assert sgemm_rate() > 1e8
    assert sgemm_rate() is sgemm_rate()
    assert gigabytes(1_500_000_000) == "1.50 GB"
