"""Available memory, memory taken, and the error for work that needs more, raised before it begins."""

import os
import re
import resource
import sys
from pathlib import Path

UNLIMITED = 1 << 62


class DoesNotFit(MemoryError, ValueError):
    """Work that needs more memory than there is, in one sentence with the remedy."""


def available_memory() -> int:
    """Bytes that this process can still take: the least that machine, control groups and `ulimit -v` leave."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    own = Path("/proc/self/cgroup")  # a kernel without control groups has none
    groups = group_limits(Path("/sys/fs/cgroup"), own.read_text() if own.exists() else "")
    return min(int(fields["MemAvailable"].split()[0]) * 1024, address_space_left(), *groups)


def address_space_left() -> int:
    """Bytes left under the limit of the process's address space (`ulimit -v`); a huge number without one."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return UNLIMITED
    return max(0, limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize())


def group_limits(root: Path, own: str) -> list[int]:
    """Bytes left under the memory limits of the process's control groups and those around them; at least one huge
    number.

    `own` is the text of `/proc/self/cgroup`: a scheduler of jobs sets the limit on a group far below the root. As for
    the machine, pages of files count as free, since the system takes them back.
    """
    left = [UNLIMITED]
    for line in own.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            top, names, pages = root, ("memory.max", "memory.current"), ("inactive_file", "active_file")
        elif "memory" in controllers.split(","):
            top, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
            pages = ("total_inactive_file", "total_active_file")
        else:
            continue
        inner = top / path.strip("/")
        for group in [inner, *(above for above in inner.parents if above.is_relative_to(top))]:
            limit, usage = group / names[0], group / names[1]
            if limit.exists() and usage.exists() and (text := limit.read_text().strip()) != "max":
                left.append(max(0, int(text) - int(usage.read_text()) + _pages(group / "memory.stat", pages)))
    return left


def _pages(stat: Path, names: tuple[str, ...]) -> int:
    """Sum of some counters of a control group's `memory.stat`."""
    fields = dict(line.split() for line in stat.read_text().splitlines()) if stat.exists() else {}
    return sum(int(fields.get(name, 0)) for name in names)


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
