"""Progress bars of long work, in a shell and in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Bars:
    """One bar at a time, which disappears when its work is done; none unless `shown`.

    It replaces `ProgressDisplay` in a run of a study, whose steps pass their context.
    """

    def __init__(self, *, shown: bool) -> None:
        self.shown = shown
        self.bar: Any = None
        self.said = ""

    def stage(self, words: str) -> None:
        """Show the stage that begins."""
        if words == self.said:  # each input of a step reports it
            return
        self.close()
        self.said = words
        if self.shown:
            from tqdm.auto import tqdm

            self.bar = tqdm(desc=words, leave=False, bar_format="{desc}")

    def start(self, context: Any, title: str, *, part: bool = False) -> Callable[[int, int], None]:
        """A callback for (done, total)."""
        self.close()
        if not self.shown:
            return lambda done, total: None
        from tqdm.auto import tqdm

        bar = self.bar = tqdm(desc=title, leave=False)

        def told(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return told

    def track(self, context: Any, items: Iterable[T], title: str) -> Iterator[T]:
        """Iterate, and update the bar."""
        listed = list(items)
        told = self.start(context, title)
        for number, item in enumerate(listed):
            yield item
            told(number + 1, len(listed))

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
        self.bar, self.said = None, ""


@contextmanager
def bars(shown: bool) -> Iterator[Bars]:
    """Bars that are removed when the block ends, also by an error."""
    display = Bars(shown=shown)
    try:
        yield display
    finally:
        display.close()
