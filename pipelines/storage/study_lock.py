"""A lock for each study, below the store, so that one process at a time makes it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from secateur.pipelines.files.locks import held
from secateur.pipelines.files.partial_names import remove_all_leftovers

LOCKS = ".locks"


@contextmanager
def study_lock(
    root: Path,
    study: str,
    doing: str = "",
    *,
    waits: Callable[[str], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Iterator[None]:
    """Keep other processes from making a study below `root` until the block ends; see `held` for the rest.

    First removes the leftovers of killed writers of the study, and unfinished preparations and rows of any study,
    unless their writers are running.
    """
    with held(root / LOCKS / study, f"study {study}", doing, waits=waits, stopped=stopped):
        for folder in (root / study, root / ".cache", root / LOCKS):
            remove_all_leftovers(folder)
        yield
