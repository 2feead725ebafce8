"""Rows in batches of Arrow columns for encoders, from shards on disk or from a data set of `datasets`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Int64

from secateur.scorers.contract import rows_text

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa


Result = TypeVar("Result")


class RowFault(ValueError):
    """Rows that an encoder cannot use: row numbers, int64 `[k]`, in the encoder's input."""

    def __init__(self, fault: str, rows: Int64[np.ndarray, " k"], remedy: str) -> None:
        super().__init__(f"{fault} at {rows_text(rows)}: {remedy}")
        self.fault, self.rows, self.remedy = fault, rows, remedy

    def __reduce__(self) -> tuple[Any, ...]:
        return RowFault, (self.fault, self.rows, self.remedy)


BATCH, PICTURES = 8192, 256
"""Rows per batch, and per batch of encoded pictures."""


@runtime_checkable
class Batches(Protocol):
    """Rows that are read in batches, with one batch in memory at a time."""

    def __len__(self) -> int: ...

    def batches(self, names: Sequence[str]) -> "Iterator[pa.Table]":
        """Some columns of consecutive rows, pictures undecoded."""


@runtime_checkable
class Stored(Batches, Protocol):
    """Rows that may have more columns than a study names."""

    @property
    def schema(self) -> "pa.Schema":
        """All of their columns."""


@runtime_checkable
class Divided(Batches, Protocol):
    """Rows that several processes may read in parts."""

    def each(self, names: Sequence[str], work: "Callable[[pa.Table, int], Iterable[Result]]") -> Iterator[Result]:
        """The results of `work` for each batch, see `results_of`; `work` and its results must be picklable."""


def results_of(
    rows: "Batches | datasets.Dataset",
    names: Sequence[str],
    work: "Callable[[pa.Table, int], Iterable[Result]]",
) -> Iterator[Result]:
    """The results of `work`, called with each batch of some columns and the number of its first row, in row order."""
    if isinstance(rows, Divided):
        yield from rows.each(names, work)
        return
    first = 0
    for table in batches_of(rows, names):
        yield from work(table, first)
        first += table.num_rows


def batches_of(rows: "Batches | datasets.Dataset", names: Sequence[str]) -> "Iterator[pa.Table]":
    """Some columns of consecutive rows, pictures undecoded."""
    if isinstance(rows, Batches):
        yield from rows.batches(names)
        return
    import datasets

    chosen, size = rows.select_columns(list(names)), BATCH
    for name in names:
        if isinstance(chosen.features[name], datasets.Image):
            chosen, size = chosen.cast_column(name, datasets.Image(decode=False)), PICTURES
    yield from chosen.with_format("arrow").iter(batch_size=size)
