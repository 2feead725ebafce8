"""A SIGKILL at any point of an export leaves the target absent, old or new; the next export cleans up and succeeds."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pytest
from sample_tables import samples_table

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.exports.registry import export, exporters
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.provenance import Provenance
from secateur.pipelines.manifests.rows import Rows

COUNT, TURNS = 3000, 20
COLUMNS = {"text": "text", "label": "label"}


def manifest_at(path: Path, data: datasets.Dataset, rows: list[int]) -> Manifest:
    provenance = Provenance(
        dataset="texts", revision="", selection="s", selector="top", selector_version="1", settings={},
        keep=len(rows), budget=len(rows), seed=0, columns=COLUMNS,
    )  # fmt: skip
    keep = np.isin(np.arange(COUNT), rows)
    return Manifest.write(path, Rows.chosen(samples_table(data, Columns(**COLUMNS)), keep), provenance)


DRIVER = """
import gc, os, signal, sys, time
import datasets
from secateur.pipelines.exports.registry import export, exporters
data = datasets.load_from_disk(sys.argv[1])
hashes = open(sys.argv[2]).read().split()
exporters()
gc.freeze()
print("ready", flush=True)
for line in sys.stdin:
    manifest, name, target, seconds = line.split()
    child = os.fork()
    if not child:
        export(manifest, name, target, dataset=data, hash_rows=lambda _: hashes, overwrite=True)
        os._exit(0)
    until, ended = time.monotonic() + float(seconds), 0
    while not ended and time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.0005)
    if not ended:
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    print(status, flush=True)
"""
"""Exports in forks of a process that has imported everything and started no thread, and kills them."""


def contents(place: Path) -> dict[str, bytes] | None:
    if not place.exists():
        return None
    if place.is_file():
        return {"": place.read_bytes()}
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


@dataclass(frozen=True)
class Ground:
    """Two manifests of one data set, and a driver that exports and kills."""

    data: datasets.Dataset
    hashes: list[str]
    manifests: tuple[Manifest, Manifest]
    driver: subprocess.Popen[str]

    def export(self, manifest: Manifest, name: str, target: Path) -> None:
        """An export without a kill."""
        export(manifest, name, target, dataset=self.data, hash_rows=lambda _: self.hashes, overwrite=True)

    def killed(self, manifest: Manifest, name: str, target: Path, seconds: float) -> int:
        """Exit status of an export that is killed after `seconds`; 0 if it ended before."""
        assert self.driver.stdin
        assert self.driver.stdout
        self.driver.stdin.write(f"{manifest.path} {name} {target} {seconds}\n")
        self.driver.stdin.flush()
        return int(self.driver.stdout.readline())


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    data = datasets.Dataset.from_dict({"text": [f"text {row}" for row in range(COUNT)], "label": [0, 1, 2] * 1000})
    root = tmp_path_factory.mktemp("ground")
    data.save_to_disk(root / "data")
    hashes = samples_table(data, Columns(**COLUMNS))["content_hash"].to_list()
    (root / "hashes").write_text("\n".join(hashes))
    chosen = [list(range(0, COUNT, 2)), list(range(1, COUNT, 3))]
    first, second = (manifest_at(root / str(number), data, rows) for number, rows in enumerate(chosen))
    command = [sys.executable, "-c", DRIVER, str(root / "data"), str(root / "hashes")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout
        assert driver.stdout.readline() == "ready\n"
        yield Ground(data, hashes, (first, second), driver)
        assert driver.stdin
        driver.stdin.close()


# One file, one folder; a folder of packed files at night.
@pytest.mark.parametrize("name", ["jsonl", "datasets", pytest.param("webdataset", marks=pytest.mark.nightly)])
def test_a_killed_export_leaves_the_old_or_the_new(name: str, ground: Ground, tmp_path: Path) -> None:
    place = tmp_path / "exports" / f"target{exporters()[name].suffix}"
    wholes = []
    for manifest in ground.manifests:
        ground.export(manifest, name, tmp_path / manifest.path.name)
        wholes.append(contents(tmp_path / manifest.path.name))
    assert wholes[0] != wholes[1]
    start = time.monotonic()
    assert ground.killed(ground.manifests[0], name, tmp_path / "timed", 60) == 0
    length = time.monotonic() - start
    generator, killed = random.Random(0), 0
    for turn in range(TURNS):
        before, manifest, expected = contents(place), ground.manifests[turn % 2], wholes[turn % 2]
        status = ground.killed(manifest, name, place, generator.uniform(0, 1.2) * length)
        assert status in (0, signal.SIGKILL)
        killed += status != 0
        assert contents(place) in (before, expected)
        assert status != 0 or contents(place) == expected
        if turn % 5 == 4:
            ground.export(manifest, name, place)
            assert contents(place) == expected
            assert [path.name for path in place.parent.iterdir()] == [place.name]
    assert killed > 0
