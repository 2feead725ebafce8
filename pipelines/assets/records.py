"""Dagster's records of a run of the shell, written without building everything anew for each event.

Dagster makes an engine of SQLAlchemy for each statement, opens and closes the file with it, and waits for the disk
each time. A study has a thousand events, so that was a quarter of the time of a small one. Here an engine is kept for
each file, the file stays open, and the disk is waited for when the file is closed: SQLite's write-ahead log keeps the
records sound whatever ends the process, and loses the last of them only where the power goes. No result depends on
them.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from sqlalchemy import Engine, create_engine, event


@contextmanager
def quick_records() -> Iterator[None]:
    """Keep engines and files of Dagster's records in this process until the block ends."""
    engines, held = dict[str, Engine](), dict[str, sqlite3.Connection]()

    def kept(url: str, **how: Any) -> Engine:
        if url not in engines:
            engines[url] = create_engine(url, **how)
            event.listen(engines[url], "connect", hold)
        return engines[url]

    def hold(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous=NORMAL")
        file = connection.execute("PRAGMA database_list").fetchone()[2]
        if file in held:
            return
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA synchronous=FULL")  # a file that Dagster is about to make
            return
        # Another thread may close it. What has read keeps the log, which would else be emptied at each closing.
        held[file] = files.enter_context(closing(sqlite3.connect(file, check_same_thread=False)))
        held[file].execute("SELECT count(*) FROM sqlite_master").fetchone()

    users: tuple[Any, ...] = (sqlite_event_log, sqlite_run_storage)
    with ExitStack() as files:
        for module in users:
            files.callback(setattr, module, "create_engine", module.create_engine)
            module.create_engine = kept
        yield
