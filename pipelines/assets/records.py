"""Faster writing of Dagster's records for runs from the shell.

Dagster creates an SQLAlchemy engine for each statement, opens and closes the file with it, and waits for the disk each
time. A study has a thousand events, which took a quarter of the time of a small one. Here, each file has one engine and
stays open, and only closing it waits for the disk. SQLite's write-ahead log keeps the records consistent however the
process ends, and loses the last of them only in a power failure. No result depends on them.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from sqlalchemy import Engine, QueuePool, create_engine, event

USERS: tuple[Any, ...] = (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage)


class KeptEngine:
    """An engine that survives `dispose`, which Dagster calls after each statement."""

    def __init__(self, engine: Engine) -> None:
        self.end, engine.dispose = engine.dispose, self.stay  # type: ignore[method-assign]
        self.engine = engine
        event.listen(engine, "checkout", wait_less)

    def stay(self, close: bool = True) -> None:
        """Replaces `dispose` and does nothing."""


def wait_less(connection: Any, record: Any, _: object) -> None:
    """Make a connection skip the wait at each commit if its file has a write-ahead log."""
    if "waits less" in record.info:
        return
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        connection.execute("PRAGMA synchronous=NORMAL")
        record.info["waits less"] = True


@contextmanager
def quick_records() -> Iterator[None]:
    """Keep engines and files of Dagster's records open in this process until the block ends."""
    kept = dict[str, KeptEngine]()

    def engine_of(url: str, **how: Any) -> Engine:
        if url not in kept:
            kept[url] = KeptEngine(create_engine(url, **(how | {"poolclass": QueuePool})))
        return kept[url].engine

    with ExitStack() as after:
        for module in USERS:
            after.callback(setattr, module, "create_engine", module.create_engine)
            module.create_engine = engine_of
        try:
            yield
        finally:
            for each in kept.values():
                each.end()
