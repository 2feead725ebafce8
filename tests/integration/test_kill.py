"""A run that is killed leaves nothing half-written, and the next run ends with the same bytes."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import run_study
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile
from secateur.trainers.models import registry as models

SCRIPT = """
import sys
from pathlib import Path
import dagster as dg
from secateur.pipelines.materialise import run_study
from secateur.pipelines.studies.files import StudyFile, load_study
path = Path(sys.argv[1])
with dg.DagsterInstance.ephemeral() as instance:
    run_study(StudyFile(path, load_study(path)), Path(sys.argv[2]), instance)
"""


def whole(store: Store, study: str) -> int:
    """Read everything that a reader would find; returns how many values there are."""
    count = 0
    for path in store.root.rglob("*"):
        inside = path.relative_to(store.root).parts
        if any(part.startswith(".") for part in inside):
            continue
        if path.suffix == ".npy":
            np.load(path, allow_pickle=False)
        elif path.name == "manifest.json":
            Manifest.load(path, verify=True)
        elif path.name == "model.json":
            models.load(path.parent)
        count += path.is_file()
    return count


@pytest.mark.parametrize("moment", ["scores", "subset", "manifest", "trained_model"])
def test_a_kill_at_any_moment_leaves_only_whole_files(
    moment: str, write_study: Callable[..., StudyFile], tmp_path: Path
) -> None:
    file = write_study(seeds=3, keep=[0.25])
    root = tmp_path / "killed"
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(file.path), str(root)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as run:
        until = time.monotonic() + 120
        while not (root / "blobs" / moment).exists() and run.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
    assert whole(Store(root), "blobs") > 0
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, root, instance)
        if moment == "trained_model":
            run_study(file, tmp_path / "undisturbed", instance)
            for name in ("scores/aum.npy", "subset/hardest@0.25/2.npy", "manifest/hardest@0.25/2/kept.parquet"):
                again, first = (place / "blobs" / name for place in (root, tmp_path / "undisturbed"))
                assert again.read_bytes() == first.read_bytes()


RESUMING = (
    """
from secateur.pipelines.runs import resumption
from secateur.trainers.loop.snapshots import Snapshots
import sys
resumption.EVERY_SECONDS = 0.02
def read(self, made_of, read=Snapshots.read):
    state = read(self, made_of)
    if state is not None:
        with open(sys.argv[3], "a") as file:
            file.write(self.folder.name.rpartition("-")[0] + "\\n")
    return state
Snapshots.read = read
"""
    + SCRIPT
)
LONG: dict[str, Any] = {
    "seeds": 2,
    "keep": [0.25],
    "proxy": {"model": "mlp", "model_settings": {"hidden": [16]}, "epochs": 60, "batch_size": 8},
    "training": {"model": "mlp", "model_settings": {"hidden": [16]}, "steps": 700, "batch_size": 8},
    "scores": {"aum": None, "el2n": {"epochs": 2}, "checkpoint_loss": None},
    "selections": {"hardest": {"selector": "top", "score": "checkpoint_loss"}, "info_batch": None},
}


def killed_at(pattern: str, file: StudyFile, root: Path, told: Path) -> bool:
    """Run a study in a process of its own until a file of this pattern is there, then kill it; whether it was."""
    with subprocess.Popen(
        [sys.executable, "-c", RESUMING, str(file.path), str(root), str(told)],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as run:
        until = time.monotonic() + 240
        while run.poll() is None and time.monotonic() < until:
            if any((root / "blobs").glob(pattern)):
                run.send_signal(signal.SIGKILL)
                run.wait()
                return True
            time.sleep(0.002)
        run.kill()
    return False


def results(root: Path) -> dict[str, Any]:
    """Scores, subsets and weights as bytes, metrics as numbers."""
    store, kinds = root / "blobs", ("scores/*.npy", "subset/**/*.npy", "**/*.safetensors")
    found: dict[str, Any] = {
        str(path.relative_to(store)): path.read_bytes() for kind in kinds for path in store.glob(kind)
    }
    for path in store.glob("evaluation/**/*.json"):
        told = json.loads(path.read_text())
        found[str(path.relative_to(store))] = {name: told[name] for name in told if name not in ("seconds", "compute")}
    return found


def test_trainings_and_scoring_that_are_killed_go_on_to_the_same_bits(
    write_study: Callable[..., StudyFile], tmp_path: Path
) -> None:
    file, root, told = write_study(**LONG), tmp_path / "killed", tmp_path / "resumed.txt"
    trial = "info_batch@0.25-1"
    for moment in (".snapshots/proxy-0-*/snapshot.pt", ".score_store/*/*.parquet", f".snapshots/{trial}-*/snapshot.pt"):
        assert killed_at(moment, file, root, told), f"the run ended before there was {moment}"
    ended = subprocess.run(
        [sys.executable, "-c", RESUMING, str(file.path), str(root), str(told)], capture_output=True, check=False
    )
    assert ended.returncode == 0, ended.stderr.decode()[-2000:]
    assert told.read_text().split() == ["proxy-0", trial]
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
