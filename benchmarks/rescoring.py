"""Cost of scoring after 1% of rows were added, relative to scoring everything, both through the score store.

    python benchmarks/rescoring.py [rows]

Five scores of a `cnn` on random images of 28 x 28 pixels; their content does not matter. The full pass starts with an
empty store; then 1% of rows are appended and the whole data set is scored again. The time includes all work but the
hashing of rows, which reading a data set needs in any case: lookup of known scores, computation of missing ones,
writing and reordering. It is processor time, which other load on the machine affects less.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

from secateur.pipelines.storage.score_cache import ScoreKey, ScoreStore, one_by_one
from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.models.registry import build
from secateur.trainers.passes.scoring import score_rows

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NAMES = ("checkpoint_loss", "checkpoint_el2n", "checkpoint_margin", "checkpoint_entropy", "last_layer_grand")


def main(rows: int) -> None:
    count, random = rows + rows // 100, np.random.default_rng(0)
    inputs = random.integers(0, 256, (count, 28, 28, 1)).astype(np.uint8)
    data = Data(inputs, random.integers(0, 10, count), 10)
    hashes = pl.Series([f"{high:016x}{low:016x}" for high, low in random.integers(0, 2**62, (count, 2)).tolist()])
    model = build(TrainingConfig(model="cnn", epochs=1), (28, 28, 1), 10, seed=0)
    reading = {name: (scorers()[name], {}) for name in NAMES}
    keys = {name: ScoreKey(name, "1", {}, "model") for name in NAMES}

    def compute(part: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
        return score_rows([[model]], data, part, {name: reading[name] for name in names}, device=DEVICE)

    print(f"torch {torch.__version__}, {DEVICE.type}, {torch.get_num_threads()} threads, {len(NAMES)} scores")
    with tempfile.TemporaryDirectory() as folder:
        store, spent = ScoreStore(Path(folder)), []
        for asked in (rows, count, count):
            started = time.process_time()
            _, tally = store.scores(one_by_one(compute), keys, hashes[:asked])
            spent.append(time.process_time() - started)
            print(f"{asked} rows, {max(tally.computed.values())} of them computed: {spent[-1]:.2f} s", flush=True)
    print(f"adding 1% of rows costs {spent[1] / spent[0]:.2%} of scoring all of them (wanted: at most 3%), ")
    print(f"asking again without any new row {spent[2] / spent[0]:.2%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
