"""The data stage and embeddings on a Ray cluster of two nodes with killed processes: equality with a local run."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from spread_studies import STUDIES, left_in, prepared_in, small_shards, told, write_sources
from two_nodes import environment

from secateur.pipelines.definitions import build
from secateur.pipelines.studies.files import StudyFile

WriteStudy = Callable[..., StudyFile]
DRIVER = """
import json, os, signal, sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
import dagster as dg
import ray
from secateur.pipelines.assets import data, embeddings
from secateur.pipelines.data import source_digests
from secateur.pipelines.definitions import build
from secateur.pipelines.runs import ray_cluster
from secateur.pipelines.studies.files import StudyFile, load_study
from spread_studies import STUDIES, prepared_in, small_shards, told

folder, marks = Path(sys.argv[1]), Path(sys.argv[2])

@dataclass
class DyingOnce:
    work: Any
    mark: Path
    def __call__(self, unit):
        try:
            os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return self.work(unit)
        os.kill(os.getpid(), signal.SIGKILL)

@dataclass
class Dying:
    # In the first job of each kind of work one process is killed.
    spread: Any
    jobs = 0
    def __getattr__(self, name):
        return getattr(self.spread, name)
    def __call__(self, work, units):
        Dying.jobs += 1
        name = getattr(getattr(work, "func", work), "__name__", type(work).__name__)
        return self.spread(DyingOnce(work, marks / name), units)

@contextmanager
def dying_over(*arguments, **named):
    with ray_cluster.spread_over(*arguments, **named) as spread:
        yield Dying(spread)

data.spread_over = embeddings.spread_over = dying_over
source_digests.LEAST = 1
# Both processes stand ready before the first unit is handed out, so that neither can finish alone.
ray.data.DataContext.get_current().wait_for_min_actors_s = 400
with small_shards(), dying_over("ray", None) as spread:
    for kind in STUDIES:
        before = Dying.jobs
        made = prepared_in(folder, kind, "ray", spread)
        print(json.dumps([kind, Dying.jobs - before, told(made)]), flush=True)
    for path in sys.argv[3:]:
        path = Path(path)
        job = build([StudyFile(path, load_study(path))], path.parent / "ray").resolve_implicit_global_asset_job_def()
        names = ("source", "samples", "test_samples", "inputs", "test_inputs", "encoder", "embeddings")
        keys = [dg.AssetKey(["blobs", name]) for name in names]
        with dg.DagsterInstance.ephemeral() as instance:
            job.execute_in_process(instance=instance, asset_selection=keys)
"""


def materialised(file: StudyFile, root: Path, *names: str) -> None:
    """Materialise assets of the study of blobs in this process."""
    job = build([file], root).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(["blobs", name]) for name in names])


PREPARED = ("source", "samples", "test_samples", "inputs", "test_inputs", "encoder")


@pytest.mark.nightly
def test_data_and_embeddings_on_two_nodes_have_local_bytes_though_processes_are_killed(
    write_study: WriteStudy, tmp_path: Path, two_nodes: str
) -> None:
    write_sources(tmp_path)
    with small_shards():
        local = {kind: told(prepared_in(tmp_path, kind, "local", None)) for kind in STUDIES}
    places = []
    for kind in ("proxy", "sklearn"):
        place = tmp_path / kind
        place.mkdir()
        changes: dict[str, Any] = {
            "scores": {"density": None},
            "selections": {"hardest": {"selector": "top", "score": "density"}},
        }
        changes["embeddings"] = {"kind": kind, "block": 8, "dimensions": 2}
        file = write_study(**changes)
        materialised(file, place / "local", *PREPARED, "proxy", "embeddings")
        if kind == "proxy":  # both runs share the model, which is not under test
            shutil.copytree(place / "local", place / "ray")
            for path in (place / "ray").rglob("*embeddings*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        file = write_study(**changes, compute={"scoring": "ray"})
        places.append(shutil.move(file.path, place / "blobs.yaml"))
        shutil.copytree(tmp_path / "data", place / "data")
    (tmp_path / "marks").mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER, str(tmp_path), str(tmp_path / "marks"), *map(str, places)],
        env=environment(two_nodes),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Running Dataset" not in done.stderr
    # Libraries may print other lines.
    kinds = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    assert {kind: said for kind, _, said in kinds} == local
    assert min(count for _, count, _ in kinds) >= 5
    killed = {"entries_of", "kinds_of", "sizes_of", "make_shards", "of_shard", "encoded_shard", "Embedding"}
    assert {mark.name for mark in (tmp_path / "marks").iterdir()} == killed
    assert left_in(tmp_path, "ray") == left_in(tmp_path, "local")
    for place in map(Path, places):
        for name in ("samples.parquet", "inputs.npy", "test_inputs.npy", "embeddings.npy", "encoder/encoding.json"):
            ours, theirs = (place.parent / where / "blobs" / name for where in ("ray", "local"))
            assert ours.read_bytes() == theirs.read_bytes(), f"{place} {name}"
