"""Memory and time of preparing a table: bytes per row as it grows, and processor seconds relative to polars.

    python benchmarks/reading.py [rows …]

Without arguments: tables of 10⁵, 10⁶ and 4·10⁶ rows of 20 numbers and a class in Parquet. Each is prepared in a
process of its own, with a random test split (`test_fraction`) and with a file of test rows: read, hashed, checked,
encoded to standardised float32 in an `.npy` file. Memory is the peak above that of the interpreter with its imports;
bytes per row are the growth of the peak from one table to the next, divided by the growth of the rows. The limit of
a preparation is 500 MB.

The ratio is of processor seconds (user and system, all threads) and of wall-clock seconds, after imports, to those of
polars for reading the Parquet file, hashing its rows and writing standardised float32. The accepted ratio is 5.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet

from secateur.scorers.memory import peak_memory

SIZES = (100_000, 1_000_000, 4_000_000)
NAMES = [f"x{number}" for number in range(20)]
TIMES = ("processor", "wall")
GROUP = 1 << 18
"""Rows per row group."""


def write_table(path: Path, rows: int) -> None:
    """Normal numbers of growing scale and a label of five classes."""
    rng, writer = np.random.default_rng(0), None
    for start in range(0, rows, GROUP):
        count = min(GROUP, rows - start)
        numbers = {name: rng.normal(size=count) * (place + 1) for place, name in enumerate(NAMES)}
        table = pa.table(numbers | {"label": rng.integers(0, 5, count)})
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def prepare(folder: Path, rows: int, held_out: bool) -> None:
    """Prepare the table as a study does."""
    from secateur.pipelines.data.check import check_data
    from secateur.pipelines.data.preparation import write_inputs, write_samples
    from secateur.pipelines.data.source_kinds.parquet import Parquet
    from secateur.pipelines.data.sources import Columns, load
    from secateur.trainers.modalities.encoding import fit_encoder
    from secateur.trainers.modalities.tables import TableEncoding

    test = {"test_fraction": 0.2} if held_out else {"test": ["test.parquet"]}
    source = Parquet(kind="parquet", train=[f"{rows}.parquet"], **test)
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        loaded = load(source, Columns(features=NAMES, label="label"), folder, Path(cache))
        check_data(loaded)
        encoder = fit_encoder(TableEncoding(kind="one_hot"), loaded.rows["train"], NAMES)
        for split, targets in (("train", loaded.targets), ("test", loaded.test_targets)):
            write_samples(Path(cache, f"{split}.parquet"), loaded.rows[split], targets, targets)
            write_inputs(Path(cache, f"{split}.npy"), encoder, loaded.rows[split])


def by_polars(folder: Path, rows: int) -> None:
    """Read, hash and write standardised numbers."""
    table = pl.read_parquet(folder / f"{rows}.parquet")
    table.hash_rows()
    standard = [((pl.col(name) - pl.col(name).mean()) / pl.col(name).std()).cast(pl.Float32) for name in NAMES]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        np.save(Path(place, "inputs.npy"), table.select(standard).to_numpy())


def measured(work: Callable[[], None]) -> dict[str, float]:
    """Wall-clock and processor seconds, and bytes of the peak above the previous one."""
    peak, before, started = peak_memory(), resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall": time.perf_counter() - started,
        "processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak": peak_memory() - peak,
    }


def alone(folder: Path, rows: int, how: str) -> None:
    """One measurement, printed as JSON; a small table comes first, for the imports."""
    if how == "polars":
        by_polars(folder, 1000)
        print(json.dumps(measured(lambda: by_polars(folder, rows))))
        return
    prepare(folder, 1000, how == "held out")
    print(json.dumps(measured(lambda: prepare(folder, rows, how == "held out"))))


def ran(folder: Path, rows: int, how: str) -> dict[str, float]:
    """The same measurement in a separate process."""
    command = [sys.executable, __file__, "alone", str(folder), str(rows), how]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


@contextmanager
def tables(sizes: tuple[int, ...]) -> Iterator[Path]:
    """A folder with a table of each size."""
    with tempfile.TemporaryDirectory() as name:
        for rows in (1000, *sizes):
            write_table(Path(name, f"{rows}.parquet"), rows)
        write_table(Path(name, "test.parquet"), 999)
        yield Path(name)


def main(sizes: tuple[int, ...]) -> None:
    with tables(sizes) as folder:
        for how in ("held out", "test file"):
            last = (0, 0.0)
            for rows in sizes:
                ours, theirs = ran(folder, rows, how), ran(folder, rows, "polars")
                growth = (ours["peak"] - last[1]) / (rows - last[0])
                times = [f"{key} {ours[key]:.2f} s, {ours[key] / theirs[key]:.1f} of polars" for key in TIMES]
                peak = f"peak {ours['peak'] / 1e6:.0f} MB, {growth:.1f} bytes per further row"
                print(f"{rows:>10,} rows, {how}: {'; '.join([peak, *times])}", flush=True)
                last = (rows, ours["peak"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["alone"]:
        alone(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        main(tuple(map(int, sys.argv[1:])) or SIZES)
