"""Resumption of killed work: places for the state and the curves of trainings, and blocks of a pass."""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from secateur.pipelines.storage.home import home
from secateur.pipelines.storage.store import Store
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.loop.trackers import TensorBoard, Tracker

T = TypeVar("T")
EVERY_SECONDS = 60.0
"""Seconds between snapshots of a training, the most that a kill costs."""


def snapshots_of(store: Store, study: str, run: str, made_of: str) -> Snapshots:
    """Place for the state of a training; removes states of the same name from other inputs."""
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
    """A run's name as a folder's name."""
    return run.replace("/", "-").replace("|", "-")


def block_by_block(
    places: Sequence[Path], blocks: Callable[[int], Iterator[T]], write: Callable[[Path, T], None]
) -> int:
    """Write a block to each place from the first missing one on; `blocks` yields those from a number on.

    Returns how many were there. `write` writes a block whole or not at all.
    """
    there = next((number for number, place in enumerate(places) if not place.exists()), len(places))
    for place, block in zip(places[there:], blocks(there) if there < len(places) else iter(()), strict=True):
        write(place, block)
    return there


def block_places(folder: Path, count: int, size: int) -> list[Path]:
    """Files of the blocks of so many rows, each named by its first row."""
    return [folder / f"{start:012d}" for start in range(0, count, size)]
