"""Would the tests notice? Changes the product in one random place at a time, and runs the tests that stand nearest.

    python tests/support/mutation.py --mutants 100 --seed 0 --minutes 120

Each mutant stands in a copy of the tree under build/mutation. Results go to a file there, from which a run that was
stopped goes on; a change of the tree begins anew. Of the kept libraries mutmut (3.8) leaves decorated functions and the
methods of dataclasses alone, which the product is made of, and cosmic-ray (8.7) runs one command, all tests, for each.
"""

import argparse
import ast
import compileall
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import xxhash
from mutants import Mutant, mutants_of

ROOT = Path(__file__).parents[2]
FLOORS = ("scorers", "selectors", "trainers", "pipelines")
BUDGET, HANGS = 150, 90
"""Seconds that the tests of one mutant may take together, and one test."""
PARTS = (0, 3, 12, 40)
"""Test files of one mutant, by nearness, are run in these parts."""


def needs(path: Path, root: Path, names: dict[str, set[Path]]) -> set[Path]:
    """Files of the product that a file imports, or names in a text, as registries do."""
    found = set[str]()
    for node in ast.walk(ast.parse((root / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value.partition(":")[0]}
    return set[Path]().union(*(names.get(name, ()) for name in found))


def nearest_tests(root: Path) -> dict[str, list[str]]:
    """Test files that reach each file of the product: those of its name, then by imports between, then by size."""
    product = [path.relative_to(root) for floor in FLOORS for path in (root / floor).rglob("*.py")]
    tests = [path.relative_to(root) for path in (root / "tests").rglob("test_*.py")]
    names = {".".join(["secateur", *path.with_suffix("").parts]): {path} for path in product}
    for path in product:  # several rooms may have a file of one name
        names.setdefault(path.stem, set()).add(path)
    graph = {path: needs(path, root, names) for path in (*product, *tests)}
    ranked: dict[str, list[tuple[bool, int, int, str]]] = {str(path): [] for path in product}
    for test in tests:
        size, reached, ring, far = (root / test).stat().st_size, {test}, {test}, 0
        while ring := set[Path]().union(*(graph[path] for path in ring)) - reached:
            reached, far = reached | ring, far + 1
            for path in ring:
                ranked[str(path)].append((path.stem not in test.stem, far, size, str(test)))
    return {path: [rank[-1] for rank in sorted(ranks)] for path, ranks in ranked.items()}


class Trials:
    """Runs tests in a copy of the tree until a monotonic time, and keeps what they came to."""

    def __init__(self, root: Path, results: Path, until: float) -> None:
        self.root, self.results, self.until, self.nearest = root, results, until, nearest_tests(root)
        lines = results.read_text().splitlines() if results.exists() else []
        self.known: dict[str, bool] = dict(json.loads(line) for line in lines if line.endswith("]"))  # no half lines

    def tell(self, name: str, result: bool) -> None:
        """Keep whether a mutant was noticed, or whether a test passes where nothing is changed."""
        self.known[name] = result
        with self.results.open("a") as file:
            file.write(json.dumps([name, result]) + "\n")

    def failure(self, tests: list[str], until: float) -> str | None:
        """The first test that fails until a time, empty for one that does not end; TimeoutError when all time is up."""
        line = [sys.executable, "-m", "pytest", "-xqp", "no:cacheprovider", "-m", "not (nightly or browser)", "-rfE"]
        line += ["-o", f"faulthandler_timeout={HANGS}", "-o", "faulthandler_exit_on_timeout=true", *tests]
        places = {"PYTHONPATH": str(self.root / ".layout"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        real = {"SECATEUR_DATA": str(ROOT / "shared" / "data")} | os.environ | places
        with subprocess.Popen(
            line,
            cwd=self.root,
            env=real,
            start_new_session=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as running:
            try:
                said = running.communicate(timeout=max(min(until, self.until) - time.monotonic(), 0))[0]
            except subprocess.TimeoutExpired as error:
                if time.monotonic() > self.until:
                    raise TimeoutError from error
                return None
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGKILL)
        found = re.findall("^(?:FAILED|ERROR) (.*?)(?: - .*)?$", said, re.MULTILINE)
        return None if running.returncode in (0, 5) else found[0] if found else ""  # 5: no test for every day

    def notice(self, mutant: Mutant) -> bool:
        """Whether a test fails, or does not end, where the mutant stands in the file's place, and passes without it."""
        name, place = f"{mutant.path}:{mutant.start}-{mutant.stop} {mutant.text}", self.root / mutant.path
        while name not in self.known:
            broken = {test for test, passes in self.known.items() if test.startswith("tests/") and not passes}
            tests = [test for test in self.nearest[mutant.path] if test not in broken]
            failed, part, until = None, list[str](), time.monotonic() + BUDGET
            place.write_bytes(mutant.apply((ROOT / mutant.path).read_bytes()))
            try:
                for start, stop in pairwise(PARTS):  # pytest imports all its files first, so the nearest run alone
                    if failed is None and tests[start:stop] and time.monotonic() < until:
                        part = [*tests[start:stop], *(f"--deselect={test}" for test in broken)]
                        failed = self.failure(part, until)
            finally:
                shutil.copy2(ROOT / mutant.path, place)  # with its time, by which Python knows its compiled form
            again = [failed] if failed else part
            if failed is not None and " ".join(again) not in self.known:
                self.tell(" ".join(again), self.failure(again, time.monotonic() + BUDGET) is None)
            if not failed or self.known[failed]:
                self.tell(name, failed is not None and self.known[" ".join(again)])
        return self.known[name]


def copied(into: Path) -> str:
    """Copy the tree, less what git ignores; the fingerprint of it."""
    shutil.rmtree(into, ignore_errors=True)
    listed, digest = ["git", "ls-files", "-co", "--exclude-standard"], xxhash.xxh3_64()
    for name in sorted(subprocess.check_output(listed, cwd=ROOT, text=True).splitlines()):
        if os.path.lexists(ROOT / name):
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name, follow_symlinks=False)
            digest.update(name.encode() + ((ROOT / name).read_bytes() if (ROOT / name).is_file() else b""))
    compileall.compile_dir(into, quiet=2)
    return digest.hexdigest()


def main() -> None:
    """Try mutants until all are tried or the time is up; print the share that the tests noticed, and the others."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"mutants": 100, "seed": 0, "minutes": 120.0, "only": ""}.items():
        options.add_argument(f"--{name}", type=type(value), default=value)
    told, place = options.parse_args(), ROOT / "build" / "mutation"
    until = time.monotonic() + 60 * told.minutes
    trials = Trials(place / "tree", place / f"{copied(place / 'tree')}.jsonl", until)
    sources = {path: (ROOT / path).read_bytes() for path in sorted(trials.nearest) if path.startswith(told.only)}
    every = [mutant for path, source in sources.items() for mutant in mutants_of(path, source)]
    noticed = list[bool]()
    with suppress(TimeoutError):
        for mutant in random.Random(told.seed).sample(every, min(told.mutants, len(every))):
            noticed.append(trials.notice(mutant))
            if not noticed[-1]:
                print(f"{mutant.path}:{mutant.line}\n{mutant.diff(sources[mutant.path])}", flush=True)
    print(f"{sum(noticed)} of {len(noticed)} mutants were noticed ({sum(noticed) / max(len(noticed), 1):.0%})")
    print(f"{min(told.mutants, len(every)) - len(noticed)} are left for another run")


if __name__ == "__main__":
    main()
