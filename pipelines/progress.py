"""Progress of long work: log lines in a Dagster run, bars in a terminal."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import dagster as dg

T = TypeVar("T")


class Progress:
    """Says how far a piece of work has come, in the run's log, at most every few seconds."""

    seconds_between = 5.0

    def start(self, context: dg.AssetExecutionContext, title: str) -> Callable[[int, int], None]:
        """A callback told (done, in all)."""
        last = time.monotonic()

        def told(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= self.seconds_between or done == total:
                last = time.monotonic()
                context.log.info(f"{title}: {done} of {total}")

        return told

    def track(self, context: dg.AssetExecutionContext, items: Iterable[T], title: str) -> Iterator[T]:
        """Iterate and tell."""
        listed = list(items)
        told = self.start(context, title)
        for number, item in enumerate(listed):
            yield item
            told(number + 1, len(listed))


class Bars(Progress):
    """Bars of a rich progress display that the caller has started."""

    def __init__(self, display: Any) -> None:
        self.display = display

    def start(self, context: dg.AssetExecutionContext, title: str) -> Callable[[int, int], None]:
        task = self.display.add_task(title, total=None)

        def told(done: int, total: int) -> None:
            self.display.update(task, completed=done, total=total)

        return told
