"""Cost of a whole study by size of its data, by stage, compared with a script that does the same by hand.

    python benchmarks/scale.py [tables | texts | pictures] [rows …] [--steps N] [--json FILE] [--work FOLDER]
        [--alone] [--write] [--tiny]
    python benchmarks/scale.py data [tables | texts | pictures] [rows …]

Without rows: tables of 20 numbers with 10⁴ to 10⁷ rows, texts of 100 words and PNGs of 28 by 28 pixels with 10⁴ to
10⁶; five classes, a tenth of the labels wrong, seed 0. `secateur run` reads them, holds out a tenth,
trains a proxy for one epoch (batches of 4,096) with `loss` and `aum`, selects half by `top`, `coverage_centric` and
`uniform_random`, besides stratified random, trains on everything and on each half for 2,000 steps of 1,024 rows (a
network of two layers of 256), evaluates, and writes manifests and the report. `at_scale/by_hand.py` does the minimum:
no checks, no hashes, no records, and trainings on everything, on `top` and on random rows.

Each runs in a process of its own. It prints for each stage processor and wall seconds, peak anonymous memory, bytes
left on disk, each per row, and the growth of seconds and memory from one size to the next: an exponent of 1 means
proportional to the rows. The JSON file holds completed runs, and the same command again adds missing ones. --alone
leaves out the script. --write puts the tables of kinds that ran into docs/big-data.md, and the pictures of tables into
docs/images. --tiny is all of it in seconds; its numbers mean nothing. A busy machine lengthens wall seconds, and
processor seconds less.

`data` measures the data stage alone, after imports: see `at_scale/data_stage.py`.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from at_scale import data_stage, drawn, ours
from at_scale.data import KINDS, STEPS, write_data
from at_scale.watched import watched

SIZES = {
    "tables": (10_000, 100_000, 1_000_000, 10_000_000),
    "texts": (10_000, 100_000, 1_000_000),
    "pictures": (10_000, 100_000, 1_000_000),
}
SECATEUR, BY_HAND = "secateur", "by hand"
BY_HAND_TO = {"tables": 10_000_000, "texts": 100_000, "pictures": 1_000_000}
"""Most rows for the script: scikit-learn needs a quarter of an hour and 14 GB for 10⁶ texts."""
FOLDER = Path(__file__).parent / "at_scale"


def run_ours(folder: Path, kind: str) -> dict[str, Any]:
    """`secateur run` of the study in a folder, in a fresh home."""
    home, notes = folder / "home", folder / "ours.json"
    places = {"SECATEUR_HOME": str(home), "SECATEUR_STUDIES": str(folder / "studies")}
    environment = os.environ | places | {ours.NOTES: str(notes), "PYTHONPATH": python_path()}
    found = watched([sys.executable, str(FOLDER / "ours.py"), "run", "scale"], folder, environment, notes)
    return found | {"disk": ours.sizes_in(home)}


def run_by_hand(folder: Path, kind: str) -> dict[str, Any]:
    """Run the script of the same work."""
    notes = folder / "by-hand.json"
    command = [sys.executable, str(FOLDER / "by_hand.py"), str(folder), kind, str(notes)]
    found = watched(command, folder, os.environ, notes)
    files = [path for path in (folder / "by-hand").rglob("*") if path.is_file()]
    return found | {"disk": {"manifests": sum(path.stat().st_size for path in files)}}


def python_path() -> str:
    """PYTHONPATH of the child: this folder, and the path in the environment."""
    return os.pathsep.join([str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH", "")])])


def circumstances(steps: int, *, tiny: bool) -> dict[str, Any]:
    """Facts that identify equal runs."""
    versions = {name: metadata.version(name) for name in ("secateur", "torch", "polars", "numpy")}
    return {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "tiny": tiny,
        "steps": steps,
        **versions,
    }


def held(file: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Earlier runs by kind, rows and program; exits if they were made under other circumstances."""
    if not file.exists():
        return {}
    known = json.loads(file.read_text())
    if differ := [key for key in about if known["about"].get(key) != about[key]]:
        raise SystemExit(f"{file} is of another {', '.join(differ)}: name another file with --json, or remove it")
    return dict(known["runs"])


def save(file: Path, about: dict[str, Any], runs: dict[str, Any]) -> None:
    """Write the runs atomically."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(json.dumps({"about": about, "runs": runs}, indent=1) + "\n")
    partial.replace(file)


def arguments_of(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("asked", nargs="*", help="data, kinds and rows")
    parser.add_argument("--json", type=Path, default=Path("build/scale.json"))
    parser.add_argument("--work", type=Path, help="where data and homes are written meanwhile; 10 GB for 10⁷ rows")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training: few show the other stages sooner")
    parser.add_argument("--alone", action="store_true", help="without the script by hand")
    parser.add_argument("--write", action="store_true", help="tables and pictures into the documentation")
    parser.add_argument("--tiny", action="store_true", help="in seconds")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    asked = arguments_of(given)
    kinds = [name for name in asked.asked if name in KINDS]
    sizes = tuple(int(size) for size in asked.asked if size not in KINDS and size != "data")
    if "data" in asked.asked:
        data_stage.main(tuple(kinds or KINDS), sizes)
        return
    steps = 5 if asked.tiny else asked.steps
    about = circumstances(steps, tiny=asked.tiny)
    runs = held(asked.json, about)
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    for kind in kinds or KINDS:
        for rows in sizes or SIZES[kind]:
            names = {SECATEUR: run_ours, BY_HAND: run_by_hand}
            if asked.alone or rows > BY_HAND_TO[kind]:
                del names[BY_HAND]
            missing = {f"{kind} {rows} {who}": run for who, run in names.items() if f"{kind} {rows} {who}" not in runs}
            if not missing:
                continue
            with tempfile.TemporaryDirectory(prefix="scale-", dir=asked.work) as work:
                write_data(Path(work, "data"), kind, rows, steps, tiny=asked.tiny)
                for key, run in missing.items():
                    runs[key] = run(Path(work, "data"), kind)
                    save(asked.json, about, runs)
                    print(drawn.line_of(key, runs[key]), flush=True)
    print("\n" + drawn.tables(runs, steps))
    if asked.write:
        drawn.write(runs, steps)


if __name__ == "__main__":
    main()
