"""A scoring pass with five scores, compared with a bare forward loop over the same batches.

    python benchmarks/scoring_pass.py [rounds]

The pass is `score_rows` with loss, EL2N, margin, entropy and last-layer GraNd of one checkpoint. The bare loop reads
the same rows, moves them to the device and calls the network under `inference_mode`. The two alternate; the fastest of
each counts, in wall-clock time and, on a CPU, also in processor time, which other load on the machine affects less.
Networks: a ResNet-18 and the proxies `cnn` and `mlp`.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data
from secateur.trainers.models.image_encoder import resnet18
from secateur.trainers.models.networks import Standardise
from secateur.trainers.models.registry import cnn, mlp
from secateur.trainers.passes.scoring import score_rows

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NAMES = ("checkpoint_loss", "checkpoint_el2n", "checkpoint_margin", "checkpoint_entropy", "last_layer_grand")
BATCH = 512
"""Default batch size of `score_rows`."""


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock and processor seconds."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    started, busy = time.perf_counter(), time.process_time()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, time.process_time() - busy


def bare(model: nn.Module, data: Data, rows: np.ndarray) -> None:
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            part = data.take(rows[start : start + BATCH])
            torch.tensor(part.targets).to(DEVICE)
            model(torch.as_tensor(part.inputs).to(DEVICE))


def cases() -> dict[str, tuple[nn.Module, Data]]:
    """Network and data."""
    random = np.random.default_rng(0)

    def images(count: int, *shape: int) -> Data:
        return Data(random.integers(0, 256, (count, *shape)).astype(np.uint8), random.integers(0, 10, count), 10)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {
            "ResNet-18, 32 x 32 x 3": (
                nn.Sequential(Standardise(3), resnet18((32, 32, 3), 10)), images(128, 32, 32, 3),
            ),
            "cnn width 32, 28 x 28 x 1": (
                nn.Sequential(Standardise(1), cnn((28, 28, 1), 10)), images(1024, 28, 28, 1),
            ),
            "mlp 784-512-512-10": (
                nn.Sequential(Standardise(1), mlp((28, 28, 1), 10, hidden=(512, 512))), images(4096, 28, 28, 1),
            ),
        }  # fmt: skip


def main(rounds: int) -> None:
    print(f"torch {torch.__version__}, {DEVICE.type}, {torch.get_num_threads()} threads, {rounds} rounds")
    reading = {name: (scorers()[name], {}) for name in NAMES}
    for name, (model, data) in cases().items():
        model.to(DEVICE).eval()
        rows = np.arange(len(data))
        fastest = np.full((2, 2), np.inf)  # bare loop and scoring pass, by both clocks
        for _ in range(rounds):
            works = (
                lambda m=model, d=data, r=rows: bare(m, d, r),
                lambda m=model, d=data, r=rows: score_rows([[m]], d, r, reading, device=DEVICE, batch_size=BATCH),
            )
            for side, work in enumerate(works):
                fastest[side] = np.minimum(fastest[side], seconds(work))
        (plain, plain_busy), (scored, scored_busy) = fastest
        busy = "" if DEVICE.type == "cuda" else f", {plain_busy / scored_busy:.1%} by processor time"
        print(
            f"{name}: bare {plain * 1e3:.1f} ms, scoring pass {scored * 1e3:.1f} ms for {len(data)} rows, "
            f"{plain / scored:.1%} of the bare loop's rate by the clock{busy} (wanted: at least 95%)"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
