"""Read a subset of a table by row numbers, as slices: runs of neighbours, and of near neighbours, in one read each."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from secateur.selectors.draws.ranks import Keep

if TYPE_CHECKING:
    from datasets import Dataset

Runs = Int64[np.ndarray, "runs 2"]
"""First row and the one after the last of each run, ascending and apart."""


def index_runs(keep: Keep, *, gap: int = 0, longest: int | None = None) -> Runs:
    """Runs that cover all kept rows, bridging up to `gap` dropped ones, each of at most `longest` rows.

    >>> index_runs(np.array([True, True, False, True, False, False, True]), gap=1)
    array([[0, 4],
           [6, 7]])
    """
    rows = np.flatnonzero(keep)
    breaks = np.flatnonzero(np.diff(rows) > gap + 1)
    starts = rows[np.concatenate([[0], breaks + 1])] if len(rows) else rows
    stops = rows[np.concatenate([breaks, [len(rows) - 1]])] + 1 if len(rows) else rows
    runs = np.stack([starts, stops], axis=1)
    return runs if longest is None else cut(runs, longest)


def cut(runs: Runs, longest: int) -> Int64[np.ndarray, "pieces 2"]:
    """The same runs in pieces of at most `longest` rows."""
    pieces = -(-(runs[:, 1] - runs[:, 0]) // longest)
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = np.repeat(runs[:, 0], pieces) + number * longest
    return np.stack([starts, np.minimum(starts + longest, np.repeat(runs[:, 1], pieces))], axis=1)


def kept_batches(
    dataset: "Dataset", keep: Keep, batch_size: int, *, gap: int = 64, longest: int = 8192
) -> Iterator[dict[str, Any]]:
    """Batches of the kept rows, in order, in the dataset's own format: what iterating its `select` would give, faster.

    Reads runs as slices of the Arrow table and drops the rows between there, before anything is decoded.
    All batches have `batch_size` rows but the last. Raises ValueError where the mask is not as long as the data.
    """
    import pyarrow as pa
    from datasets.formatting import get_formatter

    if len(keep) != len(dataset):
        raise ValueError(f"the mask has {len(keep)} rows and the dataset {len(dataset)}; select from the data it is of")
    table = dataset.with_format("arrow")
    form = dataset.format
    formatter = get_formatter(form["type"], features=dataset.features, **form["format_kwargs"])
    waiting: list[Any] = []
    count = 0
    for start, stop in index_runs(keep, gap=gap, longest=longest).tolist():
        part = table[start:stop].select(form["columns"])
        waiting.append(part if stop - start == keep[start:stop].sum() else part.filter(pa.array(keep[start:stop])))
        count += len(waiting[-1])
        if count >= batch_size:
            joined = pa.concat_tables(waiting)
            whole = count - count % batch_size
            for at in range(0, whole, batch_size):
                yield formatter.format_batch(joined.slice(at, batch_size))
            waiting, count = [joined.slice(whole)], count - whole
    if count:
        yield formatter.format_batch(pa.concat_tables(waiting))
