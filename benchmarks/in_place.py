"""Parquet rows in place, compared with a copy of the same rows: bytes written, and the time of an epoch.

For random kept rows and for rows by a score that sorts the file: bytes of the saved view per kept row, bytes of the
copy per kept row, and processor seconds to iterate over all kept rows in blocks, divided by the copy's. With pylance
also the bytes of a score as a column of Lance, per kept row.

    python benchmarks/in_place.py --rows 1000000
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import secateur as sc

SHARES = (0.01, 0.1, 0.3)


def seconds(work: Callable[[], int], rounds: int = 3) -> float:
    """Least processor seconds over several rounds."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def size_below(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def lance_bytes(folder: Path, rows: int, kept: np.ndarray, random: np.random.Generator) -> str:
    """Bytes per kept row of a float32 column; `-` without pylance."""
    try:
        import lance
    except ImportError:
        return "-"
    data = folder / f"{len(kept)}.lance"
    lance.write_dataset(pa.table({"row": np.arange(rows)}), str(data))
    before = size_below(data)
    sc.in_place(kept, data).add_column("score", random.random(len(kept)))
    return f"{(size_below(data) - before) / len(kept):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    random = np.random.default_rng(0)
    texts = random.bytes(rows * 100).hex()
    table = pa.table({"id": np.arange(rows), "text": [texts[200 * row : 200 * row + 200] for row in range(rows)]})
    print("kept | which | saved bytes/row | copy bytes/row | in place/copy, seconds | Lance score, bytes/row")
    with TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(table, folder / "data.parquet", row_group_size=20_000)
        for share in SHARES:
            count = int(rows * share)
            drawn = np.sort(random.choice(rows, count, replace=False))
            for which, kept in (("random", drawn), ("sorted", np.arange(count))):
                view = sc.in_place(kept, folder / "data.parquet")
                saved = view.save(folder / f"{which}{share}.parquet")
                copy = folder / f"copy{which}{share}.parquet"
                pq.write_table(table.take(pa.array(kept)), copy, row_group_size=20_000)
                whole = sc.in_place(np.arange(count), copy)
                assert view.table().equals(whole.table())
                ratio = seconds(lambda view=view: sum(t.num_rows for t in view.batches())) / seconds(
                    lambda whole=whole: sum(t.num_rows for t in whole.batches())
                )
                added = lance_bytes(folder, rows, kept, random) if which == "random" else "-"
                sizes = [Path(path).stat().st_size / count for path in (saved, copy)]
                print(f"{share:.0%} | {which} | {sizes[0]:.2f} | {sizes[1]:.0f} | {ratio:.1f} | {added}")


if __name__ == "__main__":
    main()
