"""The training loop: kept samples in, model out, observers told of every batch."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from secateur.scorers.contract import Observation, Observer, rows_text
from secateur.selectors.contract import Keep
from secateur.trainers.contract import Data, Recipe
from secateur.trainers.models import Standardise, build

Progress = Callable[[int, int], None]
"""Told (steps done, steps in all) after each epoch."""
Checkpoint = Callable[[nn.Module, int, int], None]
"""Told (model, steps done, steps in all) after each epoch."""


@dataclass(frozen=True)
class Trained:
    """A trained model and what it cost."""

    model: nn.Module
    steps: int
    epochs: int
    samples_seen: int
    seconds: float


def device_of_choice() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def rate_at(progress: float, warmup: float) -> float:
    """Learning rate as a share of its peak: a linear rise, then half a cosine to 0 at the end of the run.

    It follows progress in [0, 1], so that it ends where the run ends, however long its epochs turn out to be.
    """
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def epoch_order(rows: torch.Tensor, *, seed: int, epoch: int) -> torch.Tensor:
    """The rows of one epoch in an order of `(seed, epoch)` alone."""
    order = np.random.default_rng((seed, epoch)).permutation(len(rows))
    return rows[torch.from_numpy(order)]


def batches(rows: torch.Tensor, recipe: Recipe, *, seed: int) -> Iterator[tuple[int, torch.Tensor, bool]]:
    """(epoch, ids int64 `[b]`, whether it ends its epoch) until the recipe's number of steps is reached."""
    steps, done, epoch = recipe.total_steps(len(rows)), 0, 0
    while done < steps:
        parts = torch.split(epoch_order(rows, seed=seed, epoch=epoch), recipe.batch_size)[: steps - done]
        for position, ids in enumerate(parts):
            yield epoch, ids, position == len(parts) - 1
        done, epoch = done + len(parts), epoch + 1


def optimiser_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; fused, for in small networks the Python between its kernels is most of a step."""
    parameters = list(model.parameters())
    fused = {each.device.type for each in parameters} <= {"cpu", "cuda"}
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, nesterov=True, weight_decay=decay, fused=fused)
    return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=fused)


@contextmanager
def private_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators that layers draw from, and give them back as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # torch.manual_seed would also seed every other GPU.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def rows_to_train_on(data: Data, keep: Keep | None) -> torch.Tensor:
    """Rows of the keep mask, int64; raises ValueError for a mask of other data or of nothing, and for wrong labels."""
    if keep is not None and len(keep) != len(data):
        raise ValueError(f"the keep mask is over {len(keep)} samples, the data holds {len(data)}")
    rows = np.arange(len(data)) if keep is None else np.flatnonzero(keep)
    if not len(rows):
        raise ValueError(f"nothing to train on: {len(rows)} of {len(data)} samples are kept")
    wrong = rows[(data.labels[rows] < 0) | (data.labels[rows] >= data.classes)]
    if len(wrong):
        raise ValueError(f"labels must be within 0 … {data.classes - 1}, they are not at {rows_text(wrong)}")
    return torch.from_numpy(rows)


def objective(logits: torch.Tensor, target: torch.Tensor, losses: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """What a step descends: the mean of the per-sample cross-entropies, or the one with smoothed labels."""
    if label_smoothing:
        return functional.cross_entropy(logits, target, label_smoothing=label_smoothing)
    return losses.mean()


def train(
    data: Data,
    recipe: Recipe,
    *,
    seed: int,
    keep: Keep | None = None,
    observers: Sequence[Observer] = (),
    device: torch.device | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train a fresh model on the kept samples (all of them without `keep`).

    Observers get ids, logits, labels and per-sample cross-entropies (without label smoothing) of each batch, before
    the update. Initial weights and order come from `seed` alone; on a CPU the same call gives the same bits.
    """
    device, started = device or device_of_choice(), time.perf_counter()
    rows = rows_to_train_on(data, keep)
    model = build(recipe, data.inputs.shape[1:], data.classes, seed=seed, learned=data.model_settings)
    standardise = model[0]  # type: ignore[index]
    assert isinstance(standardise, Standardise)
    standardise.fit(data if keep is None else data.take(keep))
    model.to(device).train()
    labels = torch.tensor(data.labels).to(device)
    optimiser, steps, seen, last_epoch = optimiser_of(model, recipe), recipe.total_steps(len(rows)), 0, 0
    with private_randomness(seed, device):
        for step, (epoch, ids, ends_epoch) in enumerate(batches(rows, recipe, seed=seed)):
            for group in optimiser.param_groups:
                # Progress in the middle of the step: at either end of it the first or the last step would do nothing.
                group["lr"] = recipe.learning_rate * rate_at((step + 0.5) / steps, recipe.warmup)
            logits = model(torch.as_tensor(data.inputs[ids.numpy()]).to(device))
            on_device = ids.to(device, non_blocking=True)
            target = labels[on_device]
            losses = functional.cross_entropy(logits, target, reduction="none")
            batch = Observation(on_device, logits, target, losses)
            for watcher in observers:
                watcher.observe(batch)
            optimiser.zero_grad(set_to_none=True)
            objective(logits, target, losses, recipe.label_smoothing).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            seen, last_epoch = seen + len(ids), epoch
            if ends_epoch:
                for watcher in observers:
                    watcher.end_epoch(epoch)
                if progress:
                    progress(step + 1, steps)
                if checkpoint:
                    checkpoint(model, step + 1, steps)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Trained(model.eval(), steps, last_epoch + 1, seen, time.perf_counter() - started)
