"""The data stage of a study alone for growing data, beside a script that does the same by hand.

    python benchmarks/scale.py data [tables | texts | pictures] [rows …]

Without rows: 10⁴, 10⁵ and 10⁶ rows of tables, 10⁴ and 10⁵ texts, 10⁴ and 6·10⁴ pictures. The function of a study's
asset (`assets/data.prepared`) reads, types, hashes, splits by `test_fraction`, checks, encodes and writes them. By
hand: polars reads the table, hashes its rows and writes standardised float32; scikit-learn reads the texts and fits
and writes TF-IDF of the same terms (`TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=2048)`);
Pillow decodes each picture once into an array.

Each measurement runs in a process of its own, after imports and a small run: processor and wall seconds, peak memory
above the level before, bytes left on disk, and ratios. The exponent is that of growth of processor seconds and of
memory from one size to the next: 1 means proportional to the rows.
"""

import io
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from at_scale.data import NAMES, SIDE, write_data
from PIL import Image
from reading import TIMES, measured

SIZES = {"tables": (10_000, 100_000, 1_000_000), "texts": (10_000, 100_000), "pictures": (10_000, 60_000)}
SMALL = 1_000


def by_us(folder: Path, kind: str) -> None:
    """Prepare the data as the asset of a study does."""
    from secateur.pipelines.assets.data import prepared
    from secateur.pipelines.studies.files import load_study

    study = load_study(folder / "studies" / "scale.yaml")
    (folder / "made").mkdir()
    prepared(study, folder / "studies", folder / "cache", folder / "made")  # type: ignore[arg-type]


def by_hand(folder: Path, kind: str) -> None:
    """Prepare the data as a script would."""
    frame, out = pl.read_parquet(folder / "train" / "*.parquet"), folder / "by-hand"
    if kind == "tables":
        frame.hash_rows()
        standard = [((pl.col(name) - pl.col(name).mean()) / pl.col(name).std()).cast(pl.Float32) for name in NAMES]
        np.save(out, frame.select(standard).to_numpy())
    elif kind == "texts":
        import scipy.sparse
        from sklearn.feature_extraction.text import TfidfVectorizer

        learned = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=2048, dtype=np.float32)
        scipy.sparse.save_npz(out, learned.fit_transform(frame["text"].to_list()), compressed=False)
    else:
        whole = np.empty((len(frame), SIDE, SIDE), np.uint8)
        for row, file in enumerate(frame["image"].struct.field("bytes")):
            whole[row] = np.asarray(Image.open(io.BytesIO(file)))
        np.save(out, whole)


def alone(folder: Path, kind: str, how: str) -> None:
    """One measurement, printed as JSON; a small data set comes first, for the imports."""
    work = by_us if how == "secateur" else by_hand
    small = folder.with_name(f"{folder.name}-small-{how}")
    write_data(small, kind, SMALL)
    work(small, kind)
    found = measured(lambda: work(folder, kind))
    made = [path for name in ("made", "cache") for path in (folder / name).rglob("*") if path.is_file()]
    # Two names may link to one file.
    found["disk"] = sum({path.stat().st_ino: path.stat().st_size for path in made}.values())
    print(json.dumps(found))


def ran(folder: Path, kind: str, how: str) -> dict[str, float]:
    """The same measurement in a separate process."""
    command = [sys.executable, __file__, str(folder), kind, how]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"PYTHONPATH": path})
    return dict(json.loads(done.stdout))


def exponent(before: tuple[int, float] | None, now: tuple[int, float]) -> str:
    """Exponent of a number's growth with the rows from one size to the next."""
    if before is None or before[1] <= 0 or now[1] <= 0:
        return ""
    return f" (exponent {math.log(now[1] / before[1]) / math.log(now[0] / before[0]):.2f})"


def main(kinds: tuple[str, ...], sizes: tuple[int, ...]) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        for kind in kinds:
            last: dict[str, tuple[int, float]] = {}
            for rows in sizes or SIZES[kind]:
                folder = Path(name, f"{kind}-{rows}")
                write_data(folder, kind, rows)
                ours, theirs = ran(folder, kind, "secateur"), ran(folder, kind, "by hand")
                parts = []
                for key in TIMES:
                    grown = exponent(last.get(key), (rows, ours[key]))
                    parts.append(f"{key} {ours[key]:.2f} s{grown}, {ours[key] / theirs[key]:.2f} of by hand")
                grown = exponent(last.get("peak"), (rows, ours["peak"]))
                parts.append(f"peak {ours['peak'] / 1e6:.0f} MB{grown}, by hand {theirs['peak'] / 1e6:.0f}")
                parts.append(f"disk {ours['disk'] / rows:.0f} bytes a row")
                print(f"{kind}, {rows:>9,} rows: {'; '.join(parts)}", flush=True)
                last = {key: (rows, ours[key]) for key in (*TIMES, "peak")}


if __name__ == "__main__":
    alone(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
