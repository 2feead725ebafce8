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
from secateur.selectors.epoch_sampler import EpochSampler
from secateur.trainers.contract import Data, Objective, Recipe, TrainingBatch
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


@dataclass(frozen=True)
class Place:
    """Where a step stands: its epoch and position there, how long that epoch is, and the share of the run done.

    `progress` is that of the middle of the step: at either end of it the first or the last step would do nothing.
    """

    epoch: int
    ends_epoch: bool
    progress: float


def static_steps(rows: torch.Tensor, recipe: Recipe, *, seed: int) -> Iterator[tuple[Place, torch.Tensor]]:
    """Place and ids int64 `[b]` of each step over the same rows in every epoch, as many as the recipe says."""
    steps, done, epoch = recipe.total_steps(len(rows)), 0, 0
    while done < steps:
        parts = torch.split(epoch_order(rows, seed=seed, epoch=epoch), recipe.batch_size)[: steps - done]
        for position, ids in enumerate(parts):
            yield Place(epoch, position == len(parts) - 1, (done + position + 0.5) / steps), ids
        done, epoch = done + len(parts), epoch + 1


def sampled_steps(sampler: EpochSampler, recipe: Recipe) -> Iterator[tuple[Place, torch.Tensor]]:
    """The same over the epochs of a sampler: exactly `recipe.steps` steps, or `recipe.epochs` epochs.

    The length of an epoch is known when it begins, so that with epochs progress is that of epochs, each counting the
    same however many steps it has.
    """
    done, epoch = 0, 0
    while epoch < recipe.epochs if recipe.epochs is not None else done < (recipe.steps or 0):
        sampler.set_epoch(epoch)
        parts = torch.split(torch.from_numpy(sampler.epoch_ids()), recipe.batch_size)
        if recipe.steps is not None:
            parts = parts[: recipe.steps - done]
        for position, ids in enumerate(parts):
            if recipe.epochs is not None:
                progress = (epoch + (position + 0.5) / len(parts)) / recipe.epochs
            else:
                progress = (done + position + 0.5) / (recipe.steps or 1)
            yield Place(epoch, position == len(parts) - 1, progress), ids
        done, epoch = done + len(parts), epoch + 1


def check_sampler(sampler: EpochSampler, data: Data, keep: Keep | None) -> None:
    """Raise ValueError for a sampler beside a subset, of other data, of a share, or that has been trained with."""
    name = type(sampler).__name__
    if keep is not None:
        raise ValueError(f"a keep mask and the sampler {name} were given: train on a subset, or select while training")
    if sampler.samples != len(data):
        raise ValueError(f"the sampler {name} is over {sampler.samples} samples, the data holds {len(data)}")
    if sampler.shard.world != 1:
        raise ValueError(f"the sampler {name} draws a share of each epoch: the loop itself splits batches, leave Shard")
    if sampler.epoch or (sampler.observed is not None and sampler.observed.pending):
        raise ValueError(f"the sampler {name} has been trained with already: make a new one for each run")


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


def cross_entropy(label_smoothing: float) -> Objective:
    """The plain objective: per-sample cross-entropies, or those with smoothed labels."""

    def losses_of(batch: Observation, inputs: torch.Tensor) -> torch.Tensor:
        if not label_smoothing:
            return batch.losses
        return functional.cross_entropy(batch.logits, batch.labels, reduction="none", label_smoothing=label_smoothing)

    return losses_of


def train(
    data: Data,
    recipe: Recipe,
    *,
    seed: int,
    keep: Keep | None = None,
    sampler: EpochSampler | None = None,
    objective: Objective | None = None,
    observers: Sequence[Observer] = (),
    device: torch.device | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train a fresh model on the kept samples (all of them without `keep`), or on the epochs of a new `sampler`.

    A step descends the mean over its batch of `sampler.weights(ids)` times `objective`, which is the cross-entropy with
    the recipe's label smoothing where none is given. Observers and the sampler get ids, logits, labels and the plain
    per-sample cross-entropies of each batch, before the update, whatever the objective. Initial weights and order come
    from `seed` (and the sampler's) alone; on a CPU the same call gives the same bits.

    With a sampler `recipe.steps` is exactly that many optimiser steps over as many epochs as it takes, and
    `recipe.epochs` that many epochs of the sampler; the schedule ends where the run ends either way.
    """
    device, started = device or device_of_choice(), time.perf_counter()
    if sampler is not None:
        check_sampler(sampler, data, keep)
    rows = rows_to_train_on(data, keep)
    descended = objective or cross_entropy(recipe.label_smoothing)
    model = build(recipe, data.inputs.shape[1:], data.classes, seed=seed, learned=data.model_settings)
    standardise = model[0]  # type: ignore[index]
    assert isinstance(standardise, Standardise)
    standardise.fit(data if keep is None else data.take(keep))
    model.to(device).train()
    labels = torch.tensor(data.labels).to(device)
    optimiser, done, seen, place = optimiser_of(model, recipe), 0, 0, None
    run = static_steps(rows, recipe, seed=seed) if sampler is None else sampled_steps(sampler, recipe)
    with private_randomness(seed, device):
        for place, ids in run:
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * rate_at(place.progress, recipe.warmup)
            inputs = torch.as_tensor(data.inputs[ids.numpy()]).to(device)
            logits = model(inputs)
            on_device = ids.to(device, non_blocking=True)
            target = labels[on_device]
            losses = functional.cross_entropy(logits, target, reduction="none")
            batch = Observation(on_device, logits, target, losses)
            for watcher in observers:
                watcher.observe(batch)
            each = descended(TrainingBatch(on_device, logits, target, losses), inputs)
            if sampler is not None:
                sampler.observe(on_device, batch.losses)
                each = sampler.weights(on_device) * each
            optimiser.zero_grad(set_to_none=True)
            each.mean().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            done, seen = done + 1, seen + len(ids)
            if place.ends_epoch:
                for watcher in observers:
                    watcher.end_epoch(place.epoch)
                # Under a sampler the steps of epochs to come are not known: as long as those so far, it is this many.
                total = recipe.steps or done * (recipe.epochs or 0) // (place.epoch + 1)
                if progress:
                    progress(done, total)
                if checkpoint:
                    checkpoint(model, done, total)
    assert place is not None
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Trained(model.eval(), done, place.epoch + 1, seen, time.perf_counter() - started)
