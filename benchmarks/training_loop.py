"""The training loop against a bare loop of torch in the same run: cost of observers, sampling and bookkeeping.

    python benchmarks/training_loop.py            # on the GPU where there is one; --small for seconds

The bare loop is that of a tutorial: a shuffled DataLoader over a TensorDataset (`DataLoader`), or tensors indexed with
a permutation (`indexed`), cross-entropy, AdamW (fused, like ours), a cosine step per batch; it has no ids and no
scores. Ours trains plainly, with two observers, and under InfoBatch with all samples kept. Runs alternate; the output
is medians of seconds per step, and the ratio to `indexed`, below 1 if ours is faster.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from secateur.scorers.observers.aum import Aum
from secateur.scorers.observers.el2n import El2n
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.train import train
from secateur.trainers.models.registry import build
from secateur.trainers.processes import device_of_choice


def bare(data: Data, config: TrainingConfig, device: torch.device, *, loader: bool) -> None:
    """A plain loop of torch."""
    torch.manual_seed(0)
    model = build(config, data.inputs.shape[1:], data.task.width, seed=0)
    model[0].fit(data)
    model.to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=1e-4, fused=True)
    steps = config.total_steps(len(data))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    inputs, labels = torch.from_numpy(data.inputs), torch.from_numpy(data.targets)
    if not loader:
        inputs, labels = inputs.to(device), labels.to(device)
    batches = DataLoader(TensorDataset(inputs, labels), config.batch_size, shuffle=True)
    for _ in range(config.epochs or 0):
        order = torch.randperm(len(data), device=device).split(config.batch_size)
        for x, y in batches if loader else ((inputs[rows], labels[rows]) for rows in order):
            optimiser.zero_grad(set_to_none=True)
            functional.cross_entropy(model(x.to(device)), y.to(device)).backward()
            optimiser.step()
            schedule.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def turns(data: Data, config: TrainingConfig, device: torch.device, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way to train, in turns; the first turn is a warm-up."""
    count, epochs = len(data), config.epochs or 1
    ways: dict[str, Callable[[], object]] = {
        "bare, indexed": lambda: bare(data, config, device, loader=False),
        "bare, DataLoader": lambda: bare(data, config, device, loader=True),
        "ours": lambda: train(data, config, seed=0, device=device),
        "ours, two observers": lambda: train(
            data, config, seed=0, device=device, observers=[Aum(count, device), El2n(count, device)]
        ),
        "ours, InfoBatch": lambda: train(
            data, config, seed=0, device=device, sampler=InfoBatch(count, epochs, anneal_from=0.0)
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            if turn:
                taken[name].append(time.perf_counter() - began)
    return taken


def measure(title: str, data: Data, config: TrainingConfig, device: torch.device, rounds: int) -> None:
    """Print a line for each way to train."""
    count, epochs = len(data), config.epochs or 1
    taken = turns(data, config, device, rounds)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    for name, seconds in medians.items():
        spread = f"{min(taken[name]) / seconds:.2f} … {max(taken[name]) / seconds:.2f}"
        print(
            f"{title:24} {name:20} {1e6 * seconds / config.total_steps(count):8.0f} us/step "
            f"{count * epochs / seconds:10.0f} samples/s  ratio {seconds / medians['bare, indexed']:.2f}  ({spread})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tiny configuration")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    device, random = device_of_choice(), np.random.default_rng(0)
    print(f"torch {torch.__version__} on {device}, {torch.get_num_threads()} threads")
    rows, images, epochs = (200, 100, 2) if chosen.small else (6000, 1000, 5)
    table = Data(random.normal(size=(rows, 64)).astype(np.float32), random.integers(0, 10, rows), 10)
    pixels = Data(random.integers(0, 256, (images, 28, 28, 1), dtype=np.uint8), random.integers(0, 10, images), 10)
    measure("mlp, 64 columns", table, TrainingConfig(epochs=epochs, batch_size=64), device, chosen.rounds)
    cnn = TrainingConfig(model="cnn", model_settings={"width": 8}, epochs=epochs, batch_size=64)
    measure("cnn, 28 x 28", pixels, cnn, device, chosen.rounds)


if __name__ == "__main__":
    main()
