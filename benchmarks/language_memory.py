"""Memory of scoring fine-tuning data by number of rows, compared with rows x vocabulary and rows x queries.

    python benchmarks/language_memory.py [--rows 10000 --rows 100000 …] [--pass scores …]

Samples of 16 tokens, 4 to 9 of them learned, are in a memory-mapped file, as in a study; a Llama with one layer of
width 16 scores them over a vocabulary of 2,000 tokens. Each pass is one of a study, in a process of its own:

- `scores`: NLL and both IFD, written to the score cache by content, and read back;
- `curves`: losses at three checkpoints in blocks on disk, then S2L;
- `target`: RDS+ vectors in blocks on disk, then the ranking of half of the rows by 2,000 examples;
- `gradients`: sketches of the head's gradients in blocks on disk, then the same ranking. A sketch takes 16 KB on disk,
  so 10⁶ rows run only with `--pass gradients`.

Memory is the peak of the process's private memory above the level after imports; pages of mapped files, which the
system may reclaim, do not count. Bytes per row are the growth from one size to the next. Without arguments: 10⁴, 10⁵
and 10⁶ rows.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from select_scores import PeakMemory

from secateur.pipelines.assets import gradients, trajectories
from secateur.pipelines.runs.block_arrays import in_blocks
from secateur.pipelines.storage.score_cache import ScoreKey, ScoreStore, one_by_one
from secateur.scorers.registry import scorers
from secateur.scorers.target.cosines import Cosines, MeanCosines, VectorCosines
from secateur.scorers.target.target_places import target_places
from secateur.selectors.static.s2l import s2l
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.models import registry as models
from secateur.trainers.passes.embeddings import EmbeddingSettings, embed
from secateur.trainers.passes.scoring import score_rows
from secateur.trainers.tasks.sft import Sft
from secateur.trainers.tasks.token_roles import CONTEXT, HEADER, SCORED

SIZES, LENGTH, VOCABULARY, QUERIES = (10_000, 100_000, 1_000_000), 16, 2_000, 2_000
CHECKPOINTS, SHARE = 3, 0.5
MOST_SKETCHED = 100_000
LEARNED = {"kind": "sequences", "vocabulary": VOCABULARY, "start_id": 1, "tokenizer": None}
CONFIG = TrainingConfig(model="language_model", model_settings={"layers": 1, "width": 16, "heads": 2}, epochs=1)
CPU = torch.device("cpu")


def private() -> int:
    """Private memory of the process in bytes: resident pages without those of files."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
    return (int(resident) - int(shared)) * 4096


def write_samples(path: Path, rows: int) -> None:
    """Ids and roles int32 `[rows, 2, LENGTH]`: context, a header of two tokens, a completion, padding."""
    found = np.lib.format.open_memmap(path, "w+", np.int32, (rows, 2, LENGTH))
    for start in range(0, rows, 1 << 16):
        draw, count = np.random.default_rng([rows, start]), min(1 << 16, rows - start)
        learned, place = draw.integers(4, 10, (count, 1)), np.arange(LENGTH)
        found[start : start + count, 0] = draw.integers(2, VOCABULARY, (count, LENGTH))
        roles = np.where(place < 4, CONTEXT, np.where(place < 6, HEADER, SCORED))
        found[start : start + count, 1] = np.where(place < 6 + learned, roles, 0)
    found.flush()


def data_in(path: Path) -> Data:
    """The samples as a study's data, memory-mapped."""
    inputs = np.load(path, mmap_mode="r")
    return Data(inputs, np.zeros(len(inputs), np.int64), Sft(1), LEARNED)


def network(data: Data, seed: int) -> Any:
    """A checkpoint with random weights."""
    return models.build(CONFIG, data.inputs.shape[1:], data.task, seed=seed, learned=LEARNED).eval()


def scores(data: Data, queries: Data, folder: Path) -> None:
    """Compute NLL and both IFD through a study's score cache."""
    wanted: dict[str, Any] = {name: (scorers()[name], {}) for name in ("checkpoint_loss", "ifd_loss", "ifd_ppl")}
    runs, hashes = [[network(data, 0)]], pl.Series([f"{row:032x}" for row in range(len(data))])

    def compute(rows: np.ndarray, names: list[str]) -> Any:
        return score_rows(runs, data, rows, {name: wanted[name] for name in names}, device=CPU)

    keys = {name: ScoreKey(name, "1", {}, "model") for name in wanted}
    found, _ = ScoreStore(folder / "cache").scores(one_by_one(compute), keys, hashes)
    assert all(np.isfinite(values).all() for values in found.values())


def curves(data: Data, queries: Data, folder: Path) -> None:
    """Compute losses at checkpoints, then select half by S2L."""
    ages, loss = [network(data, seed) for seed in range(CHECKPOINTS)], {"loss": (scorers()["checkpoint_loss"], {})}

    def blocks(first: int) -> Iterator[np.ndarray]:
        for start in range(first * trajectories.BLOCK, len(data), trajectories.BLOCK):
            rows = np.arange(start, min(start + trajectories.BLOCK, len(data)))
            each = [score_rows([[one]], data, rows, loss, device=CPU)["loss"] for one in ages]  # type: ignore[dict-item]
            yield np.stack(each, axis=1)

    path, _ = in_blocks(folder / "curves", "curves", len(data), trajectories.BLOCK, blocks)
    s2l(np.load(path, mmap_mode="r"), np.zeros(len(data), np.int64), int(SHARE * len(data)), seed=0)


def target(data: Data, queries: Data, folder: Path) -> None:
    """Compute vectors of data and examples, then rank half of the rows by the examples."""
    model, settings = network(data, 0), EmbeddingSettings()

    def blocks(first: int) -> Iterator[np.ndarray]:
        return embed(settings, data, model=model, start=first * settings.block)

    path, _ = in_blocks(folder / "vectors", "vectors", len(data), settings.block, blocks)
    asked = np.concatenate(list(embed(settings, queries, model=model)))
    in_order(VectorCosines(np.load(path, mmap_mode="r"), asked))


def sketches(data: Data, queries: Data, folder: Path) -> None:
    """Compute sketches of both by two checkpoints, as in the asset, then rank likewise."""
    told: Callable[[int, int], None] = lambda done, total: None  # noqa: E731
    checkpoints = [network(data, seed) for seed in range(2)]
    cosines = gradients.by_sketches(checkpoints, data, queries, folder / "sketches", "sketches", told)
    assert isinstance(cosines, MeanCosines)
    in_order(cosines)


def in_order(cosines: Cosines) -> None:
    """Compute the first half of the ranking."""
    places = target_places(cosines, depth=int(SHARE * cosines.rows))
    assert len(places) == cosines.rows


PASSES: dict[str, Callable[[Data, Data, Path], None]] = {
    "scores": scores, "curves": curves, "target": target, "gradients": sketches
}  # fmt: skip


def alone(name: str, folder: Path, rows: int) -> None:
    """One measurement in this process, printed as JSON: bytes, and processor seconds."""
    queries = data_in(folder / f"{QUERIES}.npy")
    data, began = data_in(folder / f"{rows}.npy"), time.process_time()
    with PeakMemory(private) as memory:
        PASSES[name](data, queries, folder / f"{name}-{rows}")
    print(json.dumps([memory.added, time.process_time() - began]))


def main(arguments: list[str] | None = None) -> None:
    """See the file's first lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--pass", dest="passes", choices=PASSES, action="append")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.alone:
        name, folder, rows = given.alone
        alone(name, Path(folder), int(rows))
        return
    sizes = sorted(given.rows or SIZES)
    print("| pass | rows | memory, MB | bytes per row | rows x vocabulary, MB | rows x queries, MB | processor s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in given.passes or PASSES:
        before = None
        for rows in sizes:
            if name == "gradients" and rows > MOST_SKETCHED and not given.passes:
                continue
            with tempfile.TemporaryDirectory() as folder:
                for count in {QUERIES, rows}:
                    write_samples(Path(folder, f"{count}.npy"), count)
                command = [sys.executable, __file__, "--alone", name, folder, str(rows)]
                peak, seconds = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            grown = "" if before is None else f"{(peak - before[1]) / (rows - before[0]):.0f}"
            never = " | ".join(f"{rows * each * 4 / 1e6:,.0f}" for each in (VOCABULARY, QUERIES))
            print(f"| {name} | {rows:,} | {peak / 1e6:,.0f} | {grown} | {never} | {seconds:.0f} |", flush=True)
            before = (rows, peak)


if __name__ == "__main__":
    main()
