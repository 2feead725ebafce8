"""What several tests of manifests and exports need: a manifest of any data set. Dagster's records in less time."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import sqlalchemy
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from sample_tables import samples_table

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.provenance import Provenance
from secateur.pipelines.manifests.rows import Rows

ManifestOf = Callable[..., Manifest]


@pytest.fixture(scope="session", autouse=True)
def _one_engine_for_each_file_of_records() -> Iterator[None]:
    """Dagster makes an engine for each statement to SQLite, which compiles it anew: a sixth of a small study's time.

    These are kept. They hold no connection, for their pool is a NullPool, and open one where a new engine would.
    """
    with pytest.MonkeyPatch.context() as patch:
        for storage in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
            patch.setattr(storage, "create_engine", kept_engines(storage.create_engine))
        yield


def kept_engines(make: Callable[..., sqlalchemy.Engine]) -> Callable[..., sqlalchemy.Engine]:
    """`make`, which makes one engine for each file; a storage of Dagster makes all of its engines alike."""
    kept: dict[str, sqlalchemy.Engine] = {}

    def engine_of(file: str, **settings: Any) -> sqlalchemy.Engine:
        if file not in kept:
            if len(kept) == 32:
                kept.clear()  # most are files of tests that are over
            kept[file] = make(file, **settings)
        return kept[file]

    return engine_of


@pytest.fixture
def manifest_of(tmp_path: Path) -> ManifestOf:
    """Write a manifest that keeps some rows of a data set, in `<tmp_path>/m`."""

    def write(
        data: datasets.Dataset,
        columns: dict[str, Any],
        rows: Sequence[int],
        *,
        weights: np.ndarray | None = None,
        label_names: Sequence[str] | None = None,
        **told: Any,
    ) -> Manifest:
        keep = np.isin(np.arange(len(data)), rows)
        known = {
            "dataset": "samples", "revision": "r1", "selection": "some", "selector": "top", "selector_version": "1",
            "settings": {"end": "high"}, "keep": len(rows), "budget": len(rows), "seed": 0, "columns": columns,
        }  # fmt: skip
        samples = samples_table(data, Columns(**columns))
        names = label_names or getattr(data.features[columns["label"]], "names", None)
        kept = Rows.chosen(samples, keep, weights=weights, label_names=names)
        return Manifest.write(tmp_path / "m", kept, Provenance(**(known | told)))

    return write
