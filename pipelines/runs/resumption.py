"""How trainings of a study go on after a kill: where their state is saved, and where their curves are written."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from secateur.pipelines.storage.home import home
from secateur.pipelines.storage.store import Store
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.trackers import TensorBoard, Tracker

EVERY_SECONDS = 60.0
"""Between snapshots of a training: what a kill costs at most."""


def snapshots_of(store: Store, study: str, run: str, made_of: str) -> Snapshots:
    """Where a training saves its state; what was begun under the same name of other inputs is removed."""
    folder = store.root / study / ".snapshots"
    own = folder / f"{plain(run)}-{made_of[:16]}"
    for stale in folder.glob(f"{plain(run)}-*"):
        if stale != own and re.fullmatch(r"[0-9a-f]{16}", stale.name.removeprefix(f"{plain(run)}-")):
            shutil.rmtree(stale)
    return Snapshots(own, seconds=EVERY_SECONDS, of={"made_of": made_of})


@contextmanager
def trackers_of(study: str, run: str, snapshots: Snapshots) -> Iterator[list[Tracker]]:
    """TensorBoard curves of a training, in `tensorboard/<study>/<run>` below SECATEUR_HOME; a new run starts over."""
    folder = home() / "tensorboard" / study / plain(run)
    if not snapshots.path.exists():
        shutil.rmtree(folder, ignore_errors=True)
    with TensorBoard(folder) as board:
        yield [board]


def plain(run: str) -> str:
    """A run's name as that of a folder."""
    return run.replace("/", "-").replace("|", "-")
