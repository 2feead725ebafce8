"""The data stage and embeddings on a local Ray cluster of two nodes, of which a process dies in each job: local bytes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from secateur.pipelines.assets.data import prepared
from secateur.pipelines.studies.files import load_study
from secateur.pipelines.studies.samples import Study

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=node)
cluster.add_node(**node)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""

DRIVER = """
import json, os, signal, sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
import ray
from secateur.pipelines.runs.ray_cluster import spread_over
sys.path.insert(0, sys.argv[1])
from test_ray_data import KINDS, prepared_in, small_shards

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
    spread: Any
    marks: Path
    jobs: int = 0
    room: int = 2
    def __call__(self, work, units):
        self.jobs += 1
        return self.spread(DyingOnce(work, self.marks / str(self.jobs)), units)

marks = Path(sys.argv[2])
marks.mkdir()
ray.data.DataContext.get_current().wait_for_min_actors_s = 120
with small_shards(), spread_over("ray", None) as spread:
    dying = Dying(spread, marks)
    for kind in KINDS:
        before = dying.jobs
        prepared_in(Path.cwd(), kind, "ray", dying)
        print(json.dumps([kind, dying.jobs - before]), flush=True)
assert sorted(path.name for path in marks.iterdir()) == sorted(map(str, range(1, dying.jobs + 1)))
"""


def texts(random: np.random.Generator, rows: int) -> list[str]:
    return [" ".join(f"w{word}é" for word in random.zipf(1.5, 1 + row % 12) % 300) for row in range(rows)]
