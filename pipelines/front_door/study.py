"""`study`: run a study like the shell does, and return its results."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from secateur.pipelines.files.locks import Held
from secateur.pipelines.front_door.progress import bars
from secateur.pipelines.front_door.results import StudyResult
from secateur.pipelines.storage.home import ASSETS, marked_home
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import find_study


def study(name: str | Path, *, again: bool = False, wait: bool = False, progress: bool = True) -> StudyResult:
    """Run a study of any kind, and return its report, manifests, scores and findings.

    `name` is that of a study in the folder `studies`, of one that ships, or the path of its YAML file. The run is that
    of `secateur run`: it writes the same files below SECATEUR_HOME (or `.secateur`), and skips fresh results unless
    `again`. With `wait` it waits where another process makes the study.

    Raises StudyError for an unknown study or a broken file, Held where another process makes it, and the errors of the
    study's steps.

    >>> import secateur as sc
    >>> result = sc.study("digits")  # doctest: +SKIP
    >>> result.manifests["hardest", 0.3].keep(1438).sum()  # doctest: +SKIP
    431
    """
    file = find_study(str(name))
    assert file.study is not None
    from secateur.pipelines.materialise import instance_at, run_study  # imports Dagster

    def told(text: str) -> None:
        warnings.warn(text, stacklevel=2)

    store = Store(marked_home() / ASSETS)
    with warnings.catch_warnings(), bars(progress) as display, instance_at(marked_home(), told) as instance:
        warnings.filterwarnings("ignore", message=".*is currently in (beta|preview)")  # we use beta features
        how: dict[str, Any] = {"again": again, "waits": told if wait else None, "told": told}
        try:
            run_study(file, store.root, instance, display, **how)  # type: ignore[arg-type]
        except Held as error:
            raise Held(f"{error}: let it end, or say wait=True to wait for it") from error
    return StudyResult(store, file.study)
