"""Gradient scores compared with straightforward implementations, in one run: ratios and numerical differences.

    python benchmarks/gradient_scores.py [rounds]

- last-layer GraNd in closed form, including its forward pass, against `torch.func.vmap(grad)` over the same layer;
- all-layer GraNd against a loop that calls `backward` on one sample at a time, and against one training pass of the
  whole batch: if that is hardly faster than the loop, norms of all layers cannot be much faster either;
- VoG over five checkpoints against five forward passes, each with a backward pass to the input, and its memory with two
  and with ten checkpoints, in separate processes, in units of a batch's activations.

Rounds alternate between the two sides; the fastest of each counts. Times are wall-clock seconds; the ratio is also that
of processor seconds, which other load on the machine affects less. Both sides have the same threads.
"""

import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from secateur.scorers.checkpoints.contract import CheckpointBatch
from secateur.scorers.checkpoints.grand import grand
from secateur.scorers.checkpoints.last_layer_grand import last_layer_grand
from secateur.scorers.checkpoints.vog import vog
from secateur.scorers.memory import peak_memory
from secateur.trainers.models.registry import cnn, mlp

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CHECKPOINTS = 5


def beside(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Fastest wall-clock seconds of each side, and the ratio of their processor time to ours.

    They alternate in runs of three, so that both have the same noise and warm caches.
    """
    fastest, busiest = [float("inf"), float("inf")], [float("inf"), float("inf")]
    for _ in range(rounds):
        for side, work in enumerate((ours, ours, ours, theirs, theirs, theirs)):
            finish()
            started, busy = time.perf_counter(), time.process_time()
            work()
            finish()
            fastest[side // 3] = min(fastest[side // 3], time.perf_counter() - started)
            busiest[side // 3] = min(busiest[side // 3], time.process_time() - busy)
    return fastest[0], fastest[1], busiest[1] / busiest[0]


def finish() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def vmapped_norms(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Gradient norms over all parameters of the model, from explicit gradients of each sample."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(parameters: dict[str, torch.Tensor], row: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        logits = torch.func.functional_call(model, parameters, (row.unsqueeze(0),))
        return functional.cross_entropy(logits, label.unsqueeze(0))

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, inputs, labels)
    return torch.stack([value.flatten(1).square().sum(dim=1) for value in gradients.values()]).sum(dim=0).sqrt()


def looped_norms(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The same from one backward pass per sample."""
    lengths = []
    for row, label in zip(inputs.split(1), labels.split(1), strict=True):
        model.zero_grad(set_to_none=True)
        functional.cross_entropy(model(row), label).backward()
        squares = [parameter.grad.square().sum() for parameter in model.parameters() if parameter.grad is not None]
        lengths.append(torch.stack(squares).sum().sqrt())
    model.zero_grad(set_to_none=True)
    return torch.stack(lengths)


def training_pass(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> None:
    """Forward and backward pass of the whole batch, without gradients of single samples."""
    model.zero_grad(set_to_none=True)
    functional.cross_entropy(model(inputs), labels, reduction="sum").backward()


def plain_input_passes(models: list[nn.Module], inputs: torch.Tensor, labels: torch.Tensor) -> None:
    """Forward and backward pass to the input under each checkpoint; the gradients are discarded."""
    for model in models:
        leaf = inputs.detach().requires_grad_()
        torch.autograd.grad(model(leaf).gather(1, labels.unsqueeze(1)).sum(), leaf)


def far(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float(((ours - theirs).abs() / theirs.abs()).max())


def networks() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {
            "mlp 784-512-512-10, batch 128": (mlp((784,), 10, hidden=(512, 512)), torch.randn(128, 784)),
            "mlp 64-128-10 (digits), batch 128": (mlp((64,), 10), torch.randn(128, 64)),
            "cnn width 32, 1 x 8 x 8, batch 128": (cnn((8, 8, 1), 10), torch.randn(128, 1, 8, 8)),
            "cnn width 32, 1 x 28 x 28, batch 128": (cnn((28, 28, 1), 10), torch.randn(128, 1, 28, 28)),
        }


def checkpoints_of(model: nn.Module, count: int) -> list[nn.Module]:
    """Untrained copies with different weights."""
    found = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        twin = copy.deepcopy(model).requires_grad_(False)
        for parameter in twin.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
        found.append(twin.eval().to(DEVICE))
    return found


def vog_batch(count: int) -> tuple[list[nn.Module], torch.Tensor, torch.Tensor]:
    model, inputs = networks()["cnn width 32, 1 x 28 x 28, batch 128"]
    return checkpoints_of(model, count), inputs.to(DEVICE), torch.arange(len(inputs), device=DEVICE) % 10


def report_memory(count: int) -> None:
    """Peak memory, in bytes, of VoG over `count` checkpoints, or with 1 of one forward and input-backward pass."""
    models, inputs, labels = vog_batch(max(count, 2))
    plain_input_passes(models[:1], inputs[:1], labels[:1])
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_memory()
    if count == 1:
        plain_input_passes(models[:1], inputs, labels)
    else:
        vog(CheckpointBatch(models, inputs, labels))
    print(peak_memory() - before)


def peak_of(count: int) -> int:
    """The same in a process that returns every freed tensor to the system at once."""
    command = [sys.executable, __file__, "memory", str(count)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def main(rounds: int) -> None:
    print(f"torch {torch.__version__}, {DEVICE.type}, {torch.get_num_threads()} threads, {rounds} rounds")
    head = nn.Linear(512, 100).eval().to(DEVICE)
    features = torch.randn(512, 512, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    labels = torch.arange(512, device=DEVICE) % 100
    closed, vmapped, busy = beside(
        lambda: last_layer_grand(CheckpointBatch([head], features, labels)),
        lambda: vmapped_norms(head, features, labels),
        rounds,
    )
    gap = far(last_layer_grand(CheckpointBatch([head], features, labels)), vmapped_norms(head, features, labels))
    print(
        f"last-layer GraNd, 512 samples, 512 features, 100 classes: {closed * 1e3:.2f} ms, vmap(grad) "
        f"{vmapped * 1e3:.0f} ms, {vmapped / closed:.0f} times faster, {busy:.0f} by processor time (wanted: 100), "
        f"relative gap {gap:.1e}"
    )
    for name, (model, inputs) in networks().items():
        model, inputs = model.eval().to(DEVICE), inputs.to(DEVICE)
        labels = torch.arange(len(inputs), device=DEVICE) % 10
        ghost, loop, busy = beside(
            lambda m=model, x=inputs, y=labels: grand(CheckpointBatch([m], x, y)),
            lambda m=model, x=inputs, y=labels: looped_norms(m, x, y),
            rounds,
        )
        _, _, most = beside(
            lambda m=model, x=inputs, y=labels: training_pass(m, x, y),
            lambda m=model, x=inputs, y=labels: looped_norms(m, x, y),
            rounds,
        )
        gap = far(grand(CheckpointBatch([model], inputs, labels)), looped_norms(model, inputs, labels))
        print(f"all-layer GraNd, {name}: {ghost * 1e3:.1f} ms, loop {loop * 1e3:.0f} ms, {loop / ghost:.1f} times "
              f"faster, {busy:.1f} by processor time (wanted: 5; a training pass of the batch: {most:.1f}), relative "
              f"gap {gap:.1e}")  # fmt: skip
    models, inputs, labels = vog_batch(CHECKPOINTS)
    scored, plain, busy = beside(
        lambda: vog(CheckpointBatch(models, inputs, labels)), lambda: plain_input_passes(models, inputs, labels), rounds
    )
    print(f"VoG, {CHECKPOINTS} checkpoints: {scored * 1e3:.0f} ms, as many plain passes {plain * 1e3:.0f} ms, "
          f"{scored / plain:.2f} times as long, {1 / busy:.2f} by processor time (wanted: at most 1.3)")  # fmt: skip
    one, two, ten = peak_of(1), peak_of(2), peak_of(10)
    print(f"VoG, memory against one plain pass's {one / 2**20:.0f} MiB: {two / one:.2f} times with 2 checkpoints, "
          f"{ten / one:.2f} times with 10 (wanted: at most 2)")  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        report_memory(int(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
