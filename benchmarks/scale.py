"""The data stage of a study as it grows, beside a script that does the same by hand.

    python benchmarks/scale.py [tables | texts | pictures] [rows …]

Without arguments: tables of 20 numbers with 10⁴, 10⁵ and 10⁶ rows, texts of 100 words with 10⁴ and 10⁵, PNGs of 28 by
28 pixels with 10⁴ and 6·10⁴. Each is prepared by the function that a study's asset calls (`assets/data.prepared`):
read, typed, hashed, divided by `test_fraction`, checked, encoded and written. By hand: polars reads the table, hashes
its rows and writes standardised float32; scikit-learn reads the texts and fits and writes TF-IDF of the same terms
(`TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=2048)`); Pillow decodes each picture once into an
array.

Each measurement is of a process of its own, after imports and a small run: processor and wall seconds, the peak of
memory above that before, bytes left on disk, and ratios. The exponent is that of growth from one size to the next of
processor seconds, and of memory: 1 is as the rows. A busy machine makes wall seconds longer, processor seconds less so.
"""

import io
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from PIL import Image
from reading import TIMES, measured, write_table

SIZES = {"tables": (10_000, 100_000, 1_000_000), "texts": (10_000, 100_000), "pictures": (10_000, 60_000)}
SMALL, GROUP, WORDS, VOCABULARY, SIDE, DRAWN = 1_000, 20_000, 100, 30_000, 28, 1_000
NAMES = [f"x{number}" for number in range(20)]
COLUMNS = {"tables": {"features": NAMES}, "texts": {"text": "text"}, "pictures": {"image": "image"}}
"""What a study of each kind reads."""


def write_parts(path: Path, rows: int, values: Callable[[np.random.Generator, int], dict[str, Any]]) -> None:
    """A folder of Parquet files of `GROUP` rows, with labels of five classes."""
    path.mkdir()
    random = np.random.default_rng(0)
    for start in range(0, rows, GROUP):
        count = min(GROUP, rows - start)
        columns = values(random, count) | {"label": random.integers(0, 5, count)}
        pl.DataFrame(columns).write_parquet(path / f"{start:010}.parquet")


def texts(random: np.random.Generator, count: int) -> dict[str, Any]:
    """Words by the law of Zipf."""
    every = np.array([f"{'abcdefghij'[number % 10]}w{number}" for number in range(VOCABULARY)])
    share = 1 / np.arange(1, VOCABULARY + 1)
    drawn = random.choice(VOCABULARY, (count, WORDS), p=share / share.sum())
    return {"text": [" ".join(every[row]) for row in drawn]}


def pictures(random: np.random.Generator, count: int) -> dict[str, Any]:
    """Smooth grey pictures, `DRAWN` of them over and over with another pixel each."""
    files, ramp = [], np.add.outer(np.arange(SIDE), np.arange(SIDE)) * 4
    for number in range(count):
        pixels = (ramp + number % DRAWN).astype(np.uint8)
        pixels[:4, :8] = random.integers(0, 256, (4, 8))
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        files.append({"bytes": file.getvalue(), "path": None})
    return {"image": files}


def write_data(folder: Path, kind: str, rows: int) -> None:
    """Data of a kind, and a study of them."""
    folder.mkdir()
    if kind == "tables":
        (folder / "train").mkdir()
        write_table(folder / "train" / "all.parquet", rows)
    else:
        write_parts(folder / "train", rows, texts if kind == "texts" else pictures)
    study = {
        "name": "scale",
        "source": {"kind": "parquet", "train": "train/*.parquet", "test_fraction": 0.1},
        "columns": COLUMNS[kind] | {"label": "label"},
        "training": {"model": "mlp", "epochs": 1},
        "selections": {"uniform_random": None},
        "keep": [0.5],
    }
    (folder / "scale.yaml").write_text(yaml.safe_dump(study))


def by_us(folder: Path, kind: str) -> None:
    """As the asset of a study does."""
    from secateur.pipelines.assets.data import prepared
    from secateur.pipelines.studies.files import load_study

    study = load_study(folder / "scale.yaml")
    (folder / "made").mkdir()
    prepared(study, folder, folder / "cache", folder / "made")  # type: ignore[arg-type]


def by_hand(folder: Path, kind: str) -> None:
    """As a script would."""
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
    """One measurement, printed as JSON; imports are done on a small data set first."""
    work = by_us if how == "secateur" else by_hand
    small = folder.with_name(f"{folder.name}-small-{how}")
    write_data(small, kind, SMALL)
    work(small, kind)
    found = measured(lambda: work(folder, kind))
    made = [path for name in ("made", "cache") for path in (folder / name).rglob("*") if path.is_file()]
    # One file may stand under two names.
    found["disk"] = sum({path.stat().st_ino: path.stat().st_size for path in made}.values())
    print(json.dumps(found))


def ran(folder: Path, kind: str, how: str) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "alone", str(folder), kind, how]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def exponent(before: tuple[int, float] | None, now: tuple[int, float]) -> str:
    """How one number grows with the rows from one size to the next."""
    if before is None or before[1] <= 0 or now[1] <= 0:
        return ""
    return f" (exponent {math.log(now[1] / before[1]) / math.log(now[0] / before[0]):.2f})"


def main(kinds: tuple[str, ...], sizes: tuple[int, ...]) -> None:
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
    if sys.argv[1:2] == ["alone"]:
        alone(Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    else:
        named = tuple(name for name in sys.argv[1:] if name in SIZES)
        main(named or tuple(SIZES), tuple(int(size) for size in sys.argv[1:] if size not in SIZES))
