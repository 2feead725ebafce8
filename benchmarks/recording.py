"""Cost of recording every dynamics score in a training step, with observers and step timed in the same run.

    python benchmarks/recording.py [rounds]

The step is that of a ResNet-18 for 32 x 32 images (3 x 3 stem, no pooling after it), batch 128, 10 classes, SGD; for
comparison also that of the proxies' small `cnn`. Observers record 50,000 samples, with default settings. A step takes
far longer than the recording and is as noisy, so the two are timed separately, in turns, fastest of each; the recording
includes the construction of the `TrainingBatch` and all work that observers share. On a GPU the recording runs under
`torch.cuda.set_sync_debug_mode("error")`, and its time is that of the device.
"""

import inspect
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from secateur.scorers.contract import Observer, TrainingBatch
from secateur.scorers.registry import scorers
from secateur.trainers.models.image_encoder import resnet18
from secateur.trainers.models.registry import cnn

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SAMPLES, BATCH, CLASSES = 50_000, 128, 10


def seconds(work: Callable[[], object]) -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def step_of(model: nn.Module) -> Callable[[], None]:
    """One update of the model, including per-sample losses, as in the training loop."""
    model.to(DEVICE).train()
    optimiser = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True)
    inputs, labels = torch.randn(BATCH, 3, 32, 32, device=DEVICE), torch.arange(BATCH, device=DEVICE) % CLASSES

    def step() -> None:
        losses = functional.cross_entropy(model(inputs), labels, reduction="none")
        optimiser.zero_grad(set_to_none=True)
        losses.mean().backward()
        optimiser.step()

    return step


def recording_of(watchers: list[Observer]) -> Callable[[], None]:
    """A function that feeds one batch to every observer."""
    logits, labels = torch.randn(BATCH, CLASSES, device=DEVICE), torch.arange(BATCH, device=DEVICE) % CLASSES
    losses = functional.cross_entropy(logits, labels, reduction="none")
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    parts, turn = order.split(BATCH), 0

    def record() -> None:
        nonlocal turn
        ids = parts[turn % (SAMPLES // BATCH)]
        batch = TrainingBatch(ids, logits, labels, losses)
        for watcher in watchers:
            watcher.observe(batch)
        turn += 1

    return record


def main(rounds: int) -> None:
    print(f"torch {torch.__version__}, {DEVICE.type}, {torch.get_num_threads()} threads, {rounds} rounds")
    observers = {name: one for name, one in scorers().items() if inspect.isclass(one) and issubclass(one, Observer)}
    watchers = [one(SAMPLES, DEVICE) for one in observers.values()]
    record = recording_of(watchers)
    for _ in range(10):
        record()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        steps = {
            "ResNet-18": step_of(resnet18((32, 32, 3), CLASSES)),
            "cnn, width 32": step_of(cnn((32, 32, 3), CLASSES)),
        }
    fastest = dict.fromkeys(steps, float("inf"))
    recorded = float("inf")
    for _ in range(rounds):
        for name, step in steps.items():
            fastest[name] = min(fastest[name], seconds(step))
        if DEVICE.type == "cuda":
            torch.cuda.set_sync_debug_mode("error")
            for _ in range(5):
                record()
            torch.cuda.set_sync_debug_mode("default")
        recorded = min(recorded, seconds(lambda: [record() for _ in range(20)]) / 20)
    print(f"recording {len(watchers)} scores ({', '.join(observers)}): {recorded * 1e6:.0f} us per batch of {BATCH}")
    for name, length in fastest.items():
        print(f"{name}: step {length * 1e3:.1f} ms, recording adds {recorded / length:.2%} (wanted: at most 1%)")
    alone = {name: one(SAMPLES, DEVICE) for name, one in observers.items()}
    for name, watcher in alone.items():
        work = recording_of([watcher])
        print(f"  {name}: {min(seconds(work) for _ in range(50)) * 1e6:.0f} us")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
