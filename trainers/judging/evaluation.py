"""What a trained model is worth on a split, by the metrics of its task."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

from secateur.scorers.lazy import nn, torch
from secateur.trainers.contract import Data
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.own import OwnTask

Key = TypeVar("Key", bound=Hashable)


def outputs_of(model: nn.Module, data: Data, *, device: torch.device | None = None) -> Float32[np.ndarray, "n width"]:
    """Outputs in evaluation mode, float32 `[n, width]`, by blocks."""
    device = device or next(model.parameters()).device
    model.to(device).eval()
    # What a network holds per sample grows with its input: long texts and large images come in smaller blocks.
    size = min(4096, max(64, 2**18 // max(1, math.prod(data.inputs.shape[1:]))))
    with torch.no_grad():
        parts = [model(block.network_inputs(device)).float().cpu() for block in data.blocks(size)]
    return torch.cat(parts).numpy()


def evaluate(model: nn.Module, data: Data) -> Mapping[str, float]:
    """Metrics by name; those of the model's own task where it remembers one, whose scale its outputs are on.

    Raises ValueError as `Task.evaluate`, and where a task of the user's own measures other numbers than it names.
    """
    task = getattr(model, "task", data.task)
    if not isinstance(task, OwnTask):
        return task.evaluate(outputs_of(model, data), data.targets)  # type: ignore[no-any-return]
    device = next(model.parameters()).device
    with torch.no_grad():
        found = task.measure(model.eval(), (block.network_inputs(device) for block in data.blocks(task.batch_size)))
    names = [metric.name for metric in task.metrics]
    bad = [name for name in names if name not in found or not math.isfinite(found[name])]
    if bad:
        raise ValueError(f"the task {task.name} names the metrics {', '.join(names)} and gave no number for {bad}")
    return {name: float(found[name]) for name in names}


def decided(model: nn.Module, data: Data) -> float:
    """The metric that decides."""
    return evaluate(model, data)[data.task.metrics[0].name]


def best_of(results: Mapping[Key, float], task: Task) -> Key:
    """The key of the best value of the metric that decides; equals go to the earlier one."""
    sign = 1 if task.metrics[0].higher_is_better else -1
    return max(results, key=lambda key: sign * results[key])
