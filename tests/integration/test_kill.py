"""A run that is killed leaves nothing half-written, and the next run ends with the same bytes."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from secateur.pipelines.manifest import Manifest, ManifestError
from secateur.pipelines.run import run_study
from secateur.pipelines.store import Store
from secateur.pipelines.study_file import StudyFile
from secateur.trainers import models

SCRIPT = """
import sys
from pathlib import Path
import dagster as dg
from secateur.pipelines.run import run_study
from secateur.pipelines.study_file import StudyFile, load_study
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


def test_a_folder_without_its_manifest_json_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "kept.parquet").touch()
    with pytest.raises(ManifestError):
        Manifest.load(tmp_path)
