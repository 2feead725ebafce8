"""From a file of own scores to manifests, compared with polars that reads, filters and writes the same rows.

    python benchmarks/own_scores.py [rows]

Without an argument 10⁶ rows of 500 bytes of text in Parquet, with a score, an id and an episode of about ten rows. The
study selects a tenth by `band` and by `top`, by whole episodes and exact budgets, each with a random baseline: four
manifests, through the same assets as `secateur select`. polars reads the file once, and filters and writes the rows of
those four manifests by id. Each runs in a process of its own, after imports. The output is processor and wall seconds,
their ratios, and peak memory above that of the interpreter with its imports. The accepted ratio is 3.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import yaml
from reading import TIMES, measured

ROWS, GROUP, LETTERS = 1_000_000, 1 << 17, 500
KEPT = [f"{name}@0.1" for name in ("band", "band+random", "best", "best+random")]
STUDY = {
    "source": {"kind": "parquet", "train": "prompts.parquet"},
    "columns": {"text": "prompt", "id": "uuid", "group": "episode"},
    "scores": {"pass_rate": {"column": "pass_rate", "high_means": "easier"}},
    "selections": {
        "band": {"score": "pass_rate", "low": 0.2, "high": 0.8},
        "best": {"selector": "top", "score": "pass_rate"},
    },
    "keep": [0.1],
}


def write_data(folder: Path, rows: int) -> None:
    """Texts of random letters and spaces, and a study of them."""
    folder.mkdir()
    rng, writer = np.random.default_rng(0), None
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz      ", np.uint8)
    for start in range(0, rows, GROUP):
        count = min(GROUP, rows - start)
        drawn = letters[rng.integers(0, len(letters), count * LETTERS, dtype=np.uint8)]
        offsets = np.arange(0, (count + 1) * LETTERS, LETTERS, dtype=np.int64)
        texts = pa.Array.from_buffers(pa.large_string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(drawn)])
        columns = {
            "prompt": texts,
            "uuid": [f"u{row:09d}" for row in range(start, start + count)],
            "episode": rng.integers(0, max(1, rows // 10), count),
            "pass_rate": rng.random(count),
        }
        table = pa.table(columns)
        writer = writer or pyarrow.parquet.ParquetWriter(folder / "prompts.parquet", table.schema)
        writer.write_table(table)
    if writer:
        writer.close()
    (folder / "chosen.yaml").write_text(yaml.safe_dump({"name": "chosen", **STUDY}))


def choose(folder: Path) -> None:
    """Select as `secateur select` does."""
    from secateur.pipelines.materialise import run_study
    from secateur.pipelines.studies.files import StudyFile, load_study

    file = StudyFile(folder / "chosen.yaml", load_study(folder / "chosen.yaml"))
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, folder / "assets", instance, part="subsets")


def by_polars(folder: Path) -> None:
    """Read, filter and write the rows of every manifest."""
    table = pl.read_parquet(folder / "prompts.parquet")
    for name in KEPT:
        ids = pl.read_parquet(folder / "assets" / "chosen" / "manifest" / name / "0" / "kept.parquet")["id"]
        table.filter(pl.col("uuid").is_in(ids.implode())).write_parquet(folder / f"{name}.parquet")


def alone(folder: Path, how: str) -> None:
    """One measurement, printed as JSON; a small table comes first, for the imports."""
    work = choose if how == "secateur" else by_polars
    if how == "secateur":
        small = folder.with_name("small")
        write_data(small, 1000)
        work(small)
    print(json.dumps(measured(lambda: work(folder))))


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name, "data"), dict[str, dict[str, float]]()
        write_data(folder, rows)
        for how in ("secateur", "polars"):
            command = [sys.executable, __file__, "alone", str(folder), how]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[how] = json.loads(done.stdout)
            spent = ", ".join(f"{key} {found[how][key]:.2f} s" for key in TIMES)
            print(f"{how}, {rows:,} rows: {spent}, peak {found[how]['peak'] / 1e6:,.0f} MB", flush=True)
        print("; ".join(f"{key} {found['secateur'][key] / found['polars'][key]:.1f} of polars" for key in TIMES))


if __name__ == "__main__":
    if sys.argv[1:2] == ["alone"]:
        alone(Path(sys.argv[2]), sys.argv[3])
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else ROWS)
