"""Killed trainings and scoring passes resume, and end with the same bytes."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import run_study
from secateur.pipelines.studies.files import StudyFile

DRIVER = """
import json, os, signal, sys, time
from pathlib import Path
import dagster as dg
import torch
from secateur.pipelines import definitions
from secateur.pipelines.materialise import run_study
from secateur.pipelines.runs import resumption
from secateur.pipelines.studies.files import StudyFile, load_study
from secateur.trainers.loop.snapshots import Snapshots

torch.set_num_threads(1)
path, root, resumed = (Path(word) for word in sys.argv[1:])

def run():
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(StudyFile(path, load_study(path)), root, instance)

def watch_snapshots(awaited):
    if awaited.startswith(".snapshots"):
        resumption.EVERY_SECONDS = 0.02
    def read(self, made_of, read=Snapshots.read):
        state = read(self, made_of)
        if state is not None:
            with resumed.open("a") as file:
                file.write(self.folder.name.rpartition("-")[0] + chr(10))
        return state
    def write(self, made_of, state, write=Snapshots.write):
        write(self, made_of, state)
        if self.path in (root / "blobs").glob(awaited or "nothing"):
            time.sleep(240)
    Snapshots.read, Snapshots.write = read, write

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        try:
            os.dup2(2, 1)
            if order["snapshots"]:
                watch_snapshots(order["until"])
            run()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ended = status = 0
    while not ended:
        if order["until"] and any((root / "blobs").glob(order["until"])):
            os.kill(child, signal.SIGKILL)
            ended, status = os.waitpid(child, 0)
        else:
            ended, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.002)
    print(status, flush=True)
"""
"""Runs a study in forks of a process that has imported everything and started no thread, and kills them."""


class Driver:
    """Runs of one study below one root, each in a process of its own."""

    def __init__(self, file: StudyFile, root: Path, process: subprocess.Popen[str]) -> None:
        self.file, self.root, self.process = file, root, process

    def run(self, until: str = "", *, snapshots: bool = False) -> int:
        """Exit status of a run, killed as soon as a file or folder matches the pattern; with `snapshots` it takes them
        often, and waits for its kill after the first match.
        """
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"until": until, "snapshots": snapshots}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def driver(file: StudyFile, root: Path, resumed: Path) -> Iterator[Driver]:
    """A driver; runs append the names of parts that they resume from a snapshot to `resumed`."""
    command = [sys.executable, "-W", "ignore", "-c", DRIVER, *map(str, (file.path, root, resumed))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield Driver(file, root, process)
        process.stdin.close()


def results(root: Path) -> dict[str, Any]:
    """Scores, subsets and weights as bytes, metrics as numbers."""
    store, kinds = root / "blobs", ("scores/*.npy", "subset/**/*.npy", "**/[!.]*/model.safetensors")
    found: dict[str, Any] = {
        str(path.relative_to(store)): path.read_bytes() for kind in kinds for path in store.glob(kind)
    }
    for path in store.glob("evaluation/**/*.json"):
        told = json.loads(path.read_text())
        found[str(path.relative_to(store))] = {name: told[name] for name in told if name not in ("seconds", "compute")}
    return found


LONG: dict[str, Any] = {
    "seeds": 2,
    "keep": [0.25],
    "proxy": {"model": "mlp", "model_settings": {"hidden": [16]}, "epochs": 30, "batch_size": 8},
    "training": {"model": "mlp", "model_settings": {"hidden": [16]}, "steps": 200, "batch_size": 8},
    "scores": {"aum": None, "el2n": {"epochs": 2}, "checkpoint_loss": None},
    "selections": {"hardest": {"selector": "top", "score": "checkpoint_loss"}, "info_batch": None},
}


@pytest.mark.nightly  # test_killed_commands.py kills runs and searches in the daily tests
def test_trainings_and_scoring_that_are_killed_go_on_to_the_same_bits(
    write_study: Callable[..., StudyFile], tmp_path: Path
) -> None:
    file, root, resumed = write_study(**LONG), tmp_path / "killed", tmp_path / "resumed.txt"
    trial = "info_batch@0.25-1"
    with driver(file, root, resumed) as driven:
        for moment in (
            ".snapshots/proxy-0-*/snapshot.pt",
            ".score_store/*/*.parquet",
            f".snapshots/{trial}-*/snapshot.pt",
        ):
            assert driven.run(moment, snapshots=True) == signal.SIGKILL, f"the run ended before there was {moment}"
        assert driven.run(snapshots=True) == 0
    assert resumed.read_text().split() == ["proxy-0", trial]
    assert not list((root / "blobs").glob(".snapshots/*/*"))
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, tmp_path / "undisturbed", instance)
    again, once = results(root), results(tmp_path / "undisturbed")
    assert again.keys() == once.keys()
    assert [name for name in once if again[name] != once[name]] == []
    assert len([name for name in once if name.endswith(".safetensors")]) == 1 + 2 * 5


def test_a_folder_without_its_manifest_json_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "kept.parquet").touch()
    with pytest.raises(ManifestError):
        Manifest.load(tmp_path)
