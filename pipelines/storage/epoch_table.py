"""The samples of each epoch of a training, as one Parquet file that any reader opens.

A record per sample and epoch, in the order of training: `epoch` int32 from 0; `row` int32 (int64 from 2^31 samples on),
the number of the training sample; and `weight` float32, the factor of its loss, where some epoch has one other than 1.
The bytes of `row` are split by place (BYTE_STREAM_SPLIT) and compressed by zstd, which removes bytes that are zero in
all rows. As the order of training is random, a row and epoch take 2 bytes for up to 65,536 samples, 3 for up to 16.7
million, less than 2 for a few thousand. `epoch` and `weight` are dictionary-encoded: the former takes nearly nothing, a
weight with two values in an epoch one bit. The same epochs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from secateur.pipelines.data.lazy import pa, pq
from secateur.trainers.loop.shown_epochs import Shown

EPOCHS: Final = "epochs.parquet"
"""File of a training in the folder of its model, and of a manifest of epochs."""
ROWS_PER_GROUP: Final = 1 << 20


def schema_of(samples: int, *, weighted: bool) -> pa.Schema:
    """Columns of a file for `samples` training samples."""
    fields = [("epoch", pa.int32()), ("row", pa.int32() if samples <= 1 << 31 else pa.int64())]
    fields += [("weight", pa.float32())] if weighted else []
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields])


def write_epochs(path: Path, epochs: Iterable[Shown], samples: int) -> None:
    """Write the epochs of a training on `samples` samples, in their order; holds all of them in memory once."""
    held = list(epochs)
    weighted = any(one.weights is not None for one in held)
    schema = schema_of(samples, weighted=weighted)
    columns: dict[str, np.ndarray] = {
        "epoch": np.repeat(np.arange(len(held), dtype=np.int32), [len(one.rows) for one in held]),
        "row": np.concatenate([np.empty(0, np.int64), *(one.rows for one in held)]),
    }
    if weighted:
        parts = [np.ones(len(one.rows), np.float32) if one.weights is None else one.weights for one in held]
        columns["weight"] = np.concatenate(parts)
    kinds = {"epoch": np.int32, "row": np.int32 if samples <= 1 << 31 else np.int64, "weight": np.float32}
    arrays = [pa.array(columns[name].astype(kinds[name], copy=False)) for name in schema.names]
    pq.write_table(
        pa.table(arrays, schema=schema),
        path,
        compression="zstd",
        row_group_size=ROWS_PER_GROUP,
        use_dictionary=[name for name in schema.names if name != "row"],
        column_encoding={"row": "BYTE_STREAM_SPLIT"},
        store_schema=False,
    )


@dataclass(frozen=True)
class EpochTable:
    """A file of epochs, with the claimed number of samples of each, `sizes`, and of all training `samples`.

    An epoch is read on access, from the row groups that hold it.
    """

    path: Path
    sizes: tuple[int, ...]
    samples: int
    weighted: bool

    def read(self, epoch: int) -> Shown:
        """One epoch; raises ValueError where the file contradicts the claim."""
        start = sum(self.sizes[:epoch])
        parts = [part for _, part in self._parts(start, start + self.sizes[epoch])]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
        if not whole or len(whole["row"]) != self.sizes[epoch] or (whole["epoch"] != epoch).any():
            raise ValueError(f"{self.path.name} does not hold the {self.sizes[epoch]} samples of epoch {epoch}")
        weights = whole.get("weight")
        plain = weights is None or bool((weights == 1).all())
        return Shown(whole["row"].astype(np.int64), None if plain else weights)

    def shown(self, rows: np.ndarray) -> np.ndarray:
        """Number of times that all epochs show each of some rows, int64 ascending: int64 `[rows]`; checks the whole
        file.

        Raises ValueError for an epoch of another length than claimed, a row that is none of these, and a weight that is
        negative, NaN or infinite.
        """
        counts, ends = np.zeros(len(rows), np.int64), np.cumsum(self.sizes)
        for start, part in self._parts(0, int(ends[-1]) if len(ends) else 0):
            numbers = np.searchsorted(ends, np.arange(start, start + len(part["row"])), side="right")
            if (part["epoch"] != numbers).any():
                raise ValueError(f"{self.path.name}: its epochs do not have the lengths that it says")
            places = np.minimum(np.searchsorted(rows, part["row"]), max(len(rows) - 1, 0))
            if not len(rows) or (rows[places] != part["row"]).any():
                raise ValueError(f"{self.path.name}: an epoch shows a row that is not among the {len(rows)} shown ones")
            if "weight" in part and not (np.isfinite(part["weight"]) & (part["weight"] >= 0)).all():
                raise ValueError(f"{self.path.name}: a weight is negative, NaN or infinite")
            counts += np.bincount(places, minlength=len(rows))
        return counts

    def epochs_of(self, row: int) -> tuple[int, ...]:
        """Epochs that show a training sample, ascending, twice where an epoch showed it twice."""
        found: list[int] = []
        for _, part in self._parts(0, sum(self.sizes)):
            found += part["epoch"][part["row"] == row].tolist()
        return tuple(found)

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """The records from `start` to `stop`, by row groups, each with the number of its first record."""
        with pq.ParquetFile(self.path) as file:
            described, schema = file.metadata, schema_of(self.samples, weighted=self.weighted)
            if file.schema_arrow.remove_metadata() != schema:
                raise ValueError(f"{self.path.name} has the columns {file.schema_arrow.names[:20]} of other types")
            if described.num_rows != sum(self.sizes):
                raise ValueError(f"{self.path.name} has {described.num_rows} records, not {sum(self.sizes)}")
            first = 0
            for number in range(described.num_row_groups):
                count = described.row_group(number).num_rows
                if not 0 <= count <= ROWS_PER_GROUP:
                    raise ValueError(f"{self.path.name} has {count} records in one group of rows, too many for it")
                low, high = max(start - first, 0), min(stop - first, count)
                if low < high:
                    table = file.read_row_group(number)
                    yield first + low, {name: _numbers(table[name])[low:high] for name in schema.names}
                first += count


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers; raises ValueError for one with empty cells."""
    if column.null_count:
        raise ValueError("a file of epochs has empty cells")
    return np.concatenate([np.empty(0, column.type.to_pandas_dtype()), *map(np.from_dlpack, column.chunks)])


def sizes_of(path: Path) -> tuple[tuple[int, ...], bool]:
    """Samples of each epoch of a file from `write_epochs`, and whether it has weights."""
    table = pq.read_table(path, columns=["epoch"])
    counts = np.bincount(_numbers(table["epoch"]))
    return tuple(counts.tolist()), "weight" in pq.read_schema(path).names


def mask_shown(path: Path, samples: int) -> np.ndarray:
    """A mask of the training samples that some epoch of a file showed, bool `[samples]`."""
    found: np.ndarray = np.zeros(samples, np.bool_)
    found[_numbers(pq.read_table(path, columns=["row"])["row"])] = True
    return found
