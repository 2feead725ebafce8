"""Available memory, memory taken, and the error for work that needs more, raised before it begins."""

import os
import re
import resource
import sys
from pathlib import Path


class DoesNotFit(MemoryError, ValueError):
    """Work that needs more memory than there is, in one sentence with the remedy."""


def available_memory() -> int:
    """Bytes that this process can still take: free memory of the machine or of its control group, whichever is less."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return min(int(fields["MemAvailable"].split()[0]) * 1024, *group_limits(Path("/sys/fs/cgroup")))


def group_limits(root: Path) -> list[int]:
    """Bytes left under each control-group limit that holds (version 2, then 1); at least one huge number."""
    left = [1 << 62]
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        if (root / limit).exists() and (root / usage).exists():
            text = (root / limit).read_text().strip()
            if text != "max":
                left.append(int(text) - int((root / usage).read_text()))
    return left


def peak_memory() -> int:
    """Bytes of memory that this process held at most.

    Linux hands the peak in `getrusage` on to a child, which would then count its parent; `VmHWM` is the process's own.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def gigabytes(size: int) -> str:
    """Bytes as text in gigabytes."""
    return f"{size / 1e9:,.2f} GB"
