"""Measurement of a process by stages: seconds of processor and clock, and peak memory.

The child notes when it enters a stage; this process samples the child's memory meanwhile, and combines both. Memory is
anonymous memory (`RssAnon` of Linux): the system may reclaim pages of mapped files. If the child has children of its
own, shared pages count once (`Pss_Anon`). `whole` includes mapped files (`VmHWM`).
"""

import itertools
import json
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EVERY = 0.1
"""Seconds between two samples of the memory."""


def memory_of(process: int, file: str = "status") -> dict[str, int]:
    """Memory of a process in bytes, by the system's names; empty if it has ended."""
    try:
        text = Path(f"/proc/{process}/{file}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    fields = dict(line.split(":", 1) for line in text.splitlines() if line.endswith("kB"))
    return {name: 1024 * int(value.split()[0]) for name, value in fields.items()}


def family(process: int) -> list[int]:
    """A process and all its descendants."""
    try:
        tasks = Path(f"/proc/{process}/task").iterdir()
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return [process]
    return [process, *(each for child in children for each in family(child))]


def watched(command: Sequence[str], folder: Path, environment: Mapping[str, str], notes: Path) -> dict[str, Any]:
    """Run a command that writes its notes into a file: seconds and peak by stage and in total; exits if it fails.

    Notes are JSON, `[[moment, processor seconds until then, the stage that begins], …]`, the last stage empty; moments
    are of the clock that all processes share.
    """
    looks: list[tuple[float, int]] = []
    whole = 0
    with (folder / "log.txt").open("w") as log:
        started = time.monotonic()
        child = subprocess.Popen(command, cwd=folder, env=dict(environment), stdout=log, stderr=subprocess.STDOUT)
        while child.poll() is None:
            own, all_of_it = memory_of(child.pid), family(child.pid)
            held = own.get("RssAnon", 0)
            if len(all_of_it) > 1:
                held = sum(memory_of(each, "smaps_rollup").get("Pss_Anon", 0) for each in all_of_it)
            looks.append((time.monotonic(), held))
            whole = max(whole, own.get("VmHWM", 0))
            time.sleep(EVERY)
        ended = time.monotonic()
    if child.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {child.returncode}:\n{(folder / 'log.txt').read_text()[-3000:]}"
        )
    events = json.loads(notes.read_text())
    stages = by_stage([(started, 0.0, "start and end of Python"), *events, (ended, events[-1][1], "")], looks)
    return {"stages": stages, "wall": ended - started, "processor": events[-1][1], "whole": whole}


def by_stage(
    events: Sequence[tuple[float, float, str]], looks: Sequence[tuple[float, int]]
) -> dict[str, dict[str, float]]:
    """Wall and processor seconds and peak memory, in bytes, of each stage, which may occur several times."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"wall": 0.0, "processor": 0.0, "peak": 0.0})
    place = 0
    for (begun, spent, name), (ended, later, _) in itertools.pairwise(events):
        stage = found[name or "start and end of Python"]
        stage["wall"] += ended - begun
        stage["processor"] += later - spent
        while place < len(looks) and looks[place][0] < ended:
            if looks[place][0] >= begun:
                stage["peak"] = max(stage["peak"], looks[place][1])
            place += 1
    return dict(found)
