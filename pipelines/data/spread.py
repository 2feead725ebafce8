"""Work on numbered units by other processes, on this machine or on others."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from secateur.pipelines.data.scan import SplitRows

if TYPE_CHECKING:
    import pyarrow as pa

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class Spread(Protocol):
    """Other processes, which see the same files."""

    @property
    def room(self) -> int:
        """Number of units that run at once."""

    def __call__(self, work: Callable[[Unit], Result], units: Sequence[Unit]) -> Iterator[tuple[int, Result]]:
        """The number of each unit with its result, in any order; raises the error of any unit's work.

        A unit may run more than once: its work must write files whole or not at all.
        """


def in_order(results: Iterable[tuple[int, Result]]) -> Iterator[Result]:
    """Results in the order of their numbers, from 0; memory holds those that came early.

    >>> list(in_order([(1, "b"), (2, "c"), (0, "a")]))
    ['a', 'b', 'c']
    """
    waiting: dict[int, Result] = {}
    turn = 0
    for number, result in results:
        waiting[number] = result
        while turn in waiting:
            yield waiting.pop(turn)
            turn += 1


@dataclass(frozen=True)
class SpreadRows(SplitRows):
    """Rows whose shards other processes read, one each: `trainers.modalities.rows.Divided`."""

    spread: Spread

    @cached_property
    def firsts(self) -> list[int]:
        """Number of the first row of each shard."""
        return [0, *accumulate(len(SplitRows((shard,))) for shard in self.shards)][: len(self.shards)]

    def each(self, names: Sequence[str], work: "Callable[[pa.Table, int], Iterable[Result]]") -> Iterator[Result]:
        """Results of `work` on each batch of some columns and the number of its first row, in the order of the rows."""
        units = list(zip(self.shards, self.firsts, strict=True))
        for results in in_order(self.spread(partial(of_shard, tuple(names), work), units)):
            yield from results


def divided(rows: SplitRows, spread: Spread | None) -> SplitRows:
    """The rows; with `spread` other processes read a shard each."""
    return rows if spread is None else SpreadRows(rows.shards, spread)


def of_shard(
    names: Sequence[str], work: Callable[[Any, int], Iterable[Result]], unit: tuple[Path, int]
) -> list[Result]:
    """Results of the batches of one shard."""
    shard, first = unit
    results: list[Result] = []
    for table in SplitRows((shard,)).batches(names):
        results.extend(work(table, first))
        first += table.num_rows
    return results
