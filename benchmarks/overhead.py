"""Overhead of a study beside its trainings: `secateur run digits` in a fresh home, by part, in one run.

    python benchmarks/overhead.py [study]

The command runs in a process of its own, with one thread of torch. Each second of that process counts once, as
processor time (user and system, of all its threads, as the system accounts them when it ends) and as wall time, which
also includes waits for the disk and for other processes. A function in `PARTS` adds its time to its part, without the
time of such functions that it calls; so does each import and each step of the study. Other time within a step counts
for that step. Time between steps counts for Dagster, and so do its records of a step's messages. The rest is named at
the end: Python's own start and end, and the command around the study.

Trainings are all calls of `secateur.trainers.loop.train.train`, of the proxy, of tuning and of the trials, from the
fresh model to the trained one, without their imports and without writing TensorBoard curves. The overhead is
everything else, given as a share of the trainings and of the whole.
"""

import functools
import importlib.abc
import importlib.util
import inspect
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TRAININGS, IMPORTS, DAGSTER = "trainings", "imports", "Dagster"
LOGGING = ("Curves.__enter__", "Curves.__exit__", "Curves.close", "TensorBoard.log", "TensorBoard.flush")
PARTS = {
    "secateur.trainers.loop.train": {"train": TRAININGS},
    "secateur.trainers.loop.trackers": dict.fromkeys(LOGGING, "curves of TensorBoard"),
    "secateur.trainers.experiments.drawing": {"picture": "drawing"},
    "secateur.pipelines.pages.extremes": {"strip": "drawing"},
    "secateur.pipelines.pages.report": {"build_report": "report, its numbers"},
    "secateur.pipelines.files.whole_files": {"_flush": "flushing files", "_flush_folder": "flushing files"},
    "secateur.pipelines.assets.shell_runs": {"run_here": DAGSTER},
    "secateur.pipelines.materialise": {"instance_at": DAGSTER, "Work.__init__": "planning", "Work.stale": "planning"},
    "secateur.pipelines.assets.freshness": {"Freshness.note": "noting what is fresh"},
    "secateur.pipelines.data.sources": {"read": "reading", "revision_of": "reading"},
    "dagster._core.execution.context.asset_execution_context": {"AssetExecutionContext.add_asset_metadata": DAGSTER},
}
"""Functions and methods by module, each with its part."""
ASKED = "SECATEUR_OVERHEAD"
"""Environment variable with the file for the child's seconds."""


class Clock:
    """Processor and wall-clock seconds by part; a part stops while another one runs within it."""

    def __init__(self) -> None:
        self.spent, self.calls = defaultdict[str, list[float]](lambda: [0.0, 0.0]), defaultdict[str, int](int)
        self.open, self.last = ["the command around the study"], self.now()

    @staticmethod
    def now() -> tuple[float, float]:
        """Processor seconds of this process, and a wall clock."""
        return time.process_time(), time.perf_counter()

    def turn(self) -> None:
        """Add the time since the last turn to the innermost part."""
        now = self.now()
        part = self.spent[self.open[-1]]
        part[0], part[1], self.last = part[0] + now[0] - self.last[0], part[1] + now[1] - self.last[1], now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to a part."""
        self.turn()
        self.open.append(name)
        try:
            yield
        finally:
            self.turn()
            self.open.pop()
            self.calls[name] += 1

    def counted(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The function, timed as a part; a generator is timed step by step."""
        if not inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def plain(*given: Any, **named: Any) -> Any:
                with self.part(name):
                    return function(*given, **named)

            return plain

        @functools.wraps(function)
        def stepwise(*given: Any, **named: Any) -> Iterator[Any]:
            steps = function(*given, **named)
            while True:
                with self.part(name):
                    try:
                        value = next(steps)
                    except StopIteration:
                        return
                yield value

        return stepwise


class Counting(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Times imports, and replaces functions by timed ones before another module can import them."""

    def __init__(self, clock: Clock, parts: Mapping[str, Mapping[str, str]]) -> None:
        self.clock, self.parts, self.asked = clock, parts, set[str]()

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        """The module's spec with a loader that wraps its own."""
        if name in self.asked:
            return None
        self.asked.add(name)
        try:
            with self.clock.part(IMPORTS):
                spec = importlib.util.find_spec(name)
        except (ImportError, AttributeError, ValueError):
            return None
        finally:
            self.asked.discard(name)
        if spec is None or not hasattr(spec.loader, "exec_module") or name.startswith("importlib"):
            return spec
        plain = spec.loader.exec_module  # type: ignore[union-attr]

        def execute(module: Any) -> None:
            with self.clock.part(IMPORTS):
                plain(module)
            self.put(module)

        try:
            spec.loader.exec_module = execute  # type: ignore[union-attr, method-assign]
        except AttributeError:  # the loader of built-in modules is shared
            return spec
        return spec

    def put(self, module: Any) -> None:
        """Time the functions of a module that belong to parts, and the steps of studies by name."""
        for place, name in self.parts.get(module.__name__, {}).items():
            *owners, function = place.split(".")
            owner = functools.reduce(getattr, owners, module)
            if function in vars(owner):
                setattr(owner, function, self.clock.counted(vars(owner)[function], name))
        if module.__name__ == "secateur.pipelines.assets.sentences":
            told = module.told_in_a_sentence
            module.told_in_a_sentence = lambda step: told(self.clock.counted(step, f"step {step.__name__}"))


def run_counted(clock: Clock, parts: Mapping[str, Mapping[str, str]], arguments: Sequence[str]) -> None:
    """Run the command with a clock that counts its parts, up to its end or error."""
    sys.meta_path.insert(0, Counting(clock, parts))
    sys.argv = ["secateur", *arguments]
    try:
        from secateur.pipelines.commands.entry import main

        main()
    finally:
        clock.turn()


def child(arguments: Sequence[str]) -> None:
    """Run the command, then write the measurements."""
    started, clock = time.process_time(), Clock()
    try:
        run_counted(clock, PARTS, arguments)
    finally:
        spent = dict(clock.spent) | {"start of Python": [started, 0.0]}
        Path(os.environ[ASKED]).write_text(json.dumps({"spent": spent, "calls": clock.calls}), encoding="utf-8")


def main(study: str) -> None:
    """Run a study and print its parts."""
    with tempfile.TemporaryDirectory() as home:
        told = Path(home) / "seconds.json"
        given = {"SECATEUR_HOME": f"{home}/home", "OMP_NUM_THREADS": "1", ASKED: str(told)}
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, __file__, "--child", "run", study]
        subprocess.run(command, env=os.environ | given, check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        counted = json.loads(told.read_text(encoding="utf-8"))
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    spent: dict[str, list[float]] = counted["spent"]
    rest = [whole - sum(part[0] for part in spent.values()), wall - sum(part[1] for part in spent.values())]
    spent["end of Python, and the rest"] = rest
    print(f"secateur run {study}: {whole:.1f} processor seconds, {wall:.1f} seconds by the clock")
    print(f"{'part':<34}{'processor s':>12}{'share':>8}{'wall s':>9}{'calls':>8}")
    for name, (processor, clock) in sorted(spent.items(), key=lambda part: -part[1][0]):
        print(f"{name:<34}{processor:12.2f}{processor / whole:8.1%}{clock:9.2f}{counted['calls'].get(name, 0):8,}")
    trained = spent[TRAININGS]
    for title, number, all_of_it in (("processor", trained[0], whole), ("wall", trained[1], wall)):
        over = all_of_it - number
        print(
            f"{title} seconds beside the trainings: {over:.1f}, {over / number:.0%} of the {number:.1f} in trainings "
            f"and {over / all_of_it:.0%} of the whole"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main(*(sys.argv[1:] or ["digits"]))
