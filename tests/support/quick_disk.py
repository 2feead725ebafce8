"""Dagster's records in less time, and files that no test waits for: what the tests of a process see stays the same."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage


def quicken(patch: pytest.MonkeyPatch) -> None:
    """Keep what Dagster makes anew for each statement and each file of records, and leave the disk its time.

    Tests kill processes and never the machine, so nothing needs to have reached the disk when a test looks at it.
    """
    for storage in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
        patch.setattr(storage, "create_engine", kept_engines(storage.create_engine))
    patch.setattr(ScriptDirectory, "from_config", kept_scripts(ScriptDirectory.from_config))
    patch.setattr(os, "fsync", lambda _: None)


def kept_engines(make: Callable[..., sqlalchemy.Engine]) -> Callable[..., sqlalchemy.Engine]:
    """`make`, which makes one engine for each file; a storage of Dagster makes all of its engines alike.

    A new engine compiles each statement anew: a sixth of a small study's time. These hold no connection, for their pool
    is a NullPool, and open one where a new engine would.
    """
    kept: dict[str, sqlalchemy.Engine] = {}

    def engine_of(file: str, **settings: Any) -> sqlalchemy.Engine:
        if file not in kept:
            if len(kept) == 32:
                kept.clear()  # most are files of tests that are over
            kept[file] = make(file, **settings)
            sqlalchemy.event.listen(kept[file], "connect", lambda it, _: it.execute("PRAGMA synchronous=OFF"))
        return kept[file]

    return engine_of


def kept_scripts(make: Callable[[Any], ScriptDirectory]) -> Callable[[Any], ScriptDirectory]:
    """`make`, which reads the hundred migrations of Dagster's tables once, and not for each file of records."""
    kept: dict[tuple[Any, ...], ScriptDirectory] = {}

    def scripts_of(config: Any) -> ScriptDirectory:
        name = config.config_file_name, config.get_main_option("script_location")
        if name not in kept:
            kept[name] = make(config)
        return kept[name]

    return scripts_of
