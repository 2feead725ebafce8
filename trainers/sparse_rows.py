"""Sparse rows in files and memory maps; networks get dense batches of them.

The file is an uncompressed `.npz` of `scipy.sparse.save_npz`; its arrays are memory-mapped.
"""

import io
import math
import struct
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Float32, Float64, Int64, Integer, Shaped

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ENDING = ".npz"
HEAD = struct.Struct("<26xHH")
"""Header of a zip entry: 26 bytes, then the lengths of its name and of its extra field."""
BLOCK = 1 << 14
"""Rows per block of `moments`."""


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A float32 matrix `[n, width]` in compressed sparse rows: the stored values of row i and their columns lie from
    `starts[i]` to `starts[i + 1]`.

    Row numbers, a slice or a mask as index give a dense array; `take` gives sparse rows.

    >>> rows = SparseRows.of([0, 1, 3], [2, 0, 1], [5, 1, 2], width=3)
    >>> rows.shape, rows[[1, 0]].tolist()
    ((2, 3), [[1.0, 2.0, 0.0], [0.0, 0.0, 5.0]])
    """

    starts: Integer[np.ndarray, " n1"]
    columns: Integer[np.ndarray, " k"]
    values: Float32[np.ndarray, " k"]
    width: int
    path: Path | None = field(default=None)
    """The file that holds exactly these rows, None if there is none."""

    ndim = 2
    dtype = np.dtype(np.float32)

    @classmethod
    def of(cls, starts: Any, columns: Any, values: Any, width: int) -> "SparseRows":
        """Rows from arrays of any dtype, or from lists."""
        return cls(np.asarray(starts, np.int64), np.asarray(columns, np.int32), np.asarray(values, np.float32), width)

    @classmethod
    def joined(cls, parts: "Iterable[SparseRows]", width: int) -> "SparseRows":
        """Concatenate parts in memory; each part's `starts` begin at 0."""
        starts: list[np.ndarray] = [np.zeros(1, np.int64)]
        columns: list[np.ndarray] = [np.zeros(0, np.int32)]
        values: list[np.ndarray] = [np.zeros(0, np.float32)]
        count = 0
        for part in parts:
            starts.append(count + np.asarray(part.starts[1:]))
            columns.append(np.asarray(part.columns))
            values.append(np.asarray(part.values))
            count += len(values[-1])
        return cls.of(np.concatenate(starts), np.concatenate(columns), np.concatenate(values), width)

    @classmethod
    def open(cls, path: Path) -> "SparseRows":
        """The rows in a file, memory-mapped; raises ValueError if it holds no sparse matrix."""
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            arrays = {entry.filename.removesuffix(".npy"): mapped(file, entry) for entry in archive.infolist()}
        if not arrays.keys() >= {"indptr", "indices", "data", "shape"}:
            raise ValueError(f"{path} holds no rows of a sparse matrix, but {', '.join(arrays) or 'nothing'}")
        return cls(arrays["indptr"], arrays["indices"], arrays["data"], int(arrays["shape"][1]), path)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), self.width

    @property
    def nbytes(self) -> int:
        """Bytes of the three arrays."""
        return self.starts.nbytes + self.columns.nbytes + self.values.nbytes

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, rows: Any) -> Float32[np.ndarray, "..."]:
        if isinstance(rows, int | np.integer):
            return np.asarray(self.take(np.array([rows])).dense()[0])
        return self.take(rows).dense()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Shaped[np.ndarray, "n width"]:
        return self.dense().astype(dtype or np.float32, copy=False)

    def take(self, rows: Any) -> "SparseRows":
        """Some rows, by numbers, a slice or a mask, as sparse rows."""
        if isinstance(rows, slice):
            first, last, step = rows.indices(len(self))
            if step == 1:
                part = slice(int(self.starts[first]), int(self.starts[max(first, last)]))
                starts = np.asarray(self.starts[first : max(first, last) + 1]) - self.starts[first]
                return SparseRows(starts, self.columns[part], self.values[part], self.width)
            rows = np.arange(first, last, step)
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.where(rows < 0, rows + len(self), rows)
        counts = self.starts[rows + 1] - self.starts[rows]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        places = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], counts)
        return SparseRows(starts, self.columns[places], self.values[places], self.width)

    def save(self, path: Path) -> None:
        """Write the file of the rows."""
        arrays = (self.starts, self.columns, self.values)
        parts = [io.BytesIO(np.ascontiguousarray(each).data) for each in arrays]
        write_rows(path, parts, [len(each) for each in arrays], self.width)

    def dense(self) -> Float32[np.ndarray, "n width"]:
        """All rows as an array."""
        found = np.zeros(self.shape, np.float32)
        found[np.repeat(np.arange(len(self)), np.diff(self.starts)), self.columns] = self.values
        return found

    def csr(self) -> "csr_matrix":
        """The rows as a scipy matrix that shares their memory."""
        from scipy.sparse import csr_matrix

        return csr_matrix((self.values, self.columns, self.starts), shape=self.shape, copy=False)

    def moments(self, rows: Int64[np.ndarray, " m"] | None = None) -> tuple[Float64[np.ndarray, " width"], ...]:
        """Mean and variance of each column over all rows, or over these, float64; in two passes."""
        count = len(self) if rows is None else len(rows)

        def summed(of: Any) -> Float64[np.ndarray, " width"]:
            total = np.zeros(self.width)
            for start in range(0, count, BLOCK):
                end = min(start + BLOCK, count)
                part = self.take(slice(start, end) if rows is None else rows[start:end])
                total += np.bincount(part.columns, of(part), self.width)
            return total

        mean = summed(lambda part: part.values.astype(np.float64)) / count
        stored = summed(lambda part: np.ones(len(part.values)))
        squares = summed(lambda part: np.square(part.values - mean[part.columns]))
        return mean, (squares + (count - stored) * np.square(mean)) / count


Inputs = np.ndarray | SparseRows


def mapped(file: Any, entry: zipfile.ZipInfo) -> np.ndarray:
    """Memory-map an array of an open zip file; one of objects gives zeros. Raises ValueError if it is compressed."""
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{file.name}: {entry.filename} is compressed: write it without compression")
    file.seek(entry.header_offset)
    file.seek(entry.header_offset + HEAD.size + sum(HEAD.unpack(file.read(HEAD.size))))
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject or not math.prod(shape):
        return np.zeros(shape, None if dtype.hasobject else dtype)
    return np.memmap(file, dtype, "r", file.tell(), shape)


def open_inputs(path: Path) -> Inputs:
    """Inputs in a `.npy` or `.npz` file, memory-mapped."""
    return SparseRows.open(path) if path.suffix == ENDING else np.load(path, mmap_mode="r", allow_pickle=False)


def inputs_at(path: Path) -> Path:
    """The existing inputs file under the given name with either ending; the name itself if neither exists."""
    other = path.with_suffix(ENDING)
    return other if other.exists() and not path.exists() else path


def write_rows(path: Path, parts: Sequence[io.BufferedIOBase], counts: Sequence[int], width: int) -> None:
    """Join files of starts, columns and values, of `counts` numbers each, into the file of a matrix; equal parts give
    equal bytes."""
    kinds = (("indptr", np.int64), ("indices", np.int32), ("data", np.float32))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for (name, kind), part, count in zip(kinds, parts, counts, strict=True):
            with opened(archive, name) as member:
                head = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": (count,)}
                np.lib.format.write_array_header_1_0(cast(Any, member), head)
                while block := part.read(1 << 20):
                    member.write(block)
        for name, value in (("shape", np.array([counts[0] - 1, width])), ("format", np.array(b"csr"))):
            with opened(archive, name) as member:
                np.lib.format.write_array(cast(Any, member), value, allow_pickle=False)


def opened(archive: zipfile.ZipFile, name: str) -> Any:
    """Open a member for writing whose array begins at a multiple of 64 bytes, after 30 bytes of header, the name, 20
    bytes of sizes and padding."""
    entry = zipfile.ZipInfo(f"{name}.npy")
    at = (archive.fp.tell() if archive.fp else 0) + 30 + len(entry.filename) + 20 + 4
    fill = -at % 64
    entry.extra = struct.pack("<HH", 0xD935, fill) + bytes(fill)
    return archive.open(entry, "w", force_zip64=True)
