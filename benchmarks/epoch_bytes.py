"""Bytes per row and epoch of the file of epochs' samples, and the time to read one epoch.

    python benchmarks/epoch_bytes.py [--write docs/replay.md]

RS2 draws a tenth in each epoch. InfoBatch has its defaults; it observes losses from a gamma distribution, redrawn for
the selected samples in each epoch.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from label_noise import write

from secateur.pipelines.storage.epoch_table import EpochTable, sizes_of, write_epochs
from secateur.selectors.samplers.contract import EpochSampler
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.selectors.samplers.rs2 import Rs2
from secateur.trainers.loop.shown_epochs import Shown

CASES = ((1_438, 40), (60_000, 40), (1_281_167, 10))
"""Training samples and epochs: digits, Fashion-MNIST, ImageNet."""


def epochs_of(sampler: EpochSampler, epochs: int, *, weighted: bool) -> list[Shown]:
    """The epochs of a sampler, in the order of training."""
    losses, shown = np.random.default_rng(0), []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        rows = torch.tensor(list(sampler))
        weights = sampler.weights(rows).numpy() if weighted else None
        shown.append(Shown(rows.numpy(), weights))
        sampler.observe(rows, torch.from_numpy(losses.gamma(1.0, size=len(rows)).astype(np.float32)))
    return shown


def line(samples: int, epochs: int, name: str, sampler: EpochSampler, folder: Path) -> str:
    """A row of the table."""
    path = folder / "epochs.parquet"
    write_epochs(path, epochs_of(sampler, epochs, weighted=name != "RS2 at 10%"), samples)
    sizes, weighted = sizes_of(path)
    table, started = EpochTable(path, sizes, samples, weighted), time.process_time()
    table.read(epochs - 1)
    milliseconds = 1000 * (time.process_time() - started)
    each = path.stat().st_size / sum(sizes)
    return f"| {samples:,} | {name}, {epochs} | {sum(sizes):,} | {each:.2f} | {milliseconds:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    lines = [
        "| training samples | sampler, epochs | rows shown | bytes per row and epoch | ms to read the last epoch |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for samples, epochs in CASES:
            for name, made in (
                ("RS2 at 10%", Rs2(samples, keep=0.1)),
                ("InfoBatch with weights", InfoBatch(samples, epochs)),
            ):
                lines.append(line(samples, epochs, name, made, Path(folder)))
                print(lines[-1], flush=True)
    if asked.write:
        write(asked.write, "epoch bytes", "\n".join(lines))


if __name__ == "__main__":
    main()
