"""Metrics of a trained model on a split, by its task."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from secateur.scorers.contract import finite_outputs
from secateur.scorers.lazy import nn, torch
from secateur.trainers.contract import Data
from secateur.trainers.models.registry import networks
from secateur.trainers.passes.folds import Folds, by_fold
from secateur.trainers.tasks.class_order import places_of
from secateur.trainers.tasks.contract import Metric, Task
from secateur.trainers.tasks.own import OwnTask

Key = TypeVar("Key", bound=Hashable)


def outputs_of(model: nn.Module, data: Data, *, device: torch.device | None = None) -> Float32[np.ndarray, "n width"]:
    """Outputs in evaluation mode, float32 `[n, width]`, by blocks; raises NotFinite if any is NaN or infinite."""
    device = device or next(model.parameters()).device
    model.to(device).eval()
    # A network's memory per sample grows with its input: long texts and large images get smaller blocks.
    size = min(4096, max(64, 2**18 // max(1, math.prod(data.inputs.shape[1:]))))
    with torch.no_grad():
        parts = [model(block.network_inputs(device)).float().cpu() for block in data.blocks(size)]
    network = model[1] if isinstance(model, networks.Model) else model
    return np.asarray(finite_outputs(torch.cat(parts).numpy(), model=network))


def beside(data: Data, inputs: Shaped[np.ndarray, "n ..."]) -> Data:
    """Data of other inputs, with dummy targets of zero."""
    targets = np.zeros((len(inputs), *data.targets.shape[1:]), data.targets.dtype)
    return replace(data, inputs=inputs, targets=targets)


def mean_outputs(
    models: Sequence[Any], data: Data, rows: Int64[np.ndarray, " m"], folds: Folds | None = None
) -> Float64[np.ndarray, "m width"]:
    """Mean outputs of these models for some rows; with `folds`, of the models that did not train on the row."""
    if folds is None:
        some = data.take(rows)
        return np.asarray(np.mean([outputs_of(model, some) for model in models], axis=0, dtype=np.float64))
    outputs = np.empty((len(rows), data.task.width))
    for fold, own in enumerate(by_fold(models, folds)):
        places = np.flatnonzero(folds[rows] == fold)
        if len(places):
            outputs[places] = mean_outputs(own, data, rows[places])
    return outputs


@dataclass(frozen=True)
class Judged:
    """Metrics of a model on a split."""

    metrics: Mapping[str, float]
    recalls: Sequence[float | None] = ()
    """Recall of each class or label; see `Task.recalls`."""


def judged(model: nn.Module, data: Data) -> Judged:
    """Metrics, and recalls by class; for numbers by the model's own task, if it has one, because its outputs have the
    scale of that task.

    Classes of model and data are matched by name. Raises ValueError as `Task.evaluate`, for a model of other classes,
    and if a user's own task does not return a finite number for each metric that it names.
    """
    task: Task = getattr(model, "task", data.task)
    if not isinstance(task, OwnTask):
        if task.target == "numbers":
            return Judged(task.evaluate(outputs_of(model, data), data.targets))
        places = places_of(task, data.task, "the model")
        outputs = outputs_of(model, data)
        ordered = outputs if places is None else outputs[:, places]
        # The data's task defines the rarer class: the model may have classes in another order.
        asked = data.task.evaluate_by(lambda other: outputs_of(model, beside(data, other)), data.inputs, data.targets)
        metrics = {**data.task.evaluate(ordered, data.targets), **asked}
        return Judged(metrics, data.task.recalls(ordered, data.targets))
    device = next(model.parameters()).device
    with torch.no_grad():
        found = task.measure(model.eval(), (block.network_inputs(device) for block in data.blocks(task.batch_size)))
    names = [metric.name for metric in task.metrics]
    bad = [name for name in names if name not in found or not math.isfinite(found[name])]
    if bad:
        raise ValueError(f"the task {task.name} names the metrics {', '.join(names)} and gave no number for {bad}")
    return Judged({name: float(found[name]) for name in names})


def evaluate(model: nn.Module, data: Data) -> Mapping[str, float]:
    """Metrics by name; raises as `judged`."""
    return judged(model, data).metrics


def decided(model: nn.Module, data: Data, metric: Metric | None = None) -> float:
    """The value of a metric, by default the task's first; raises ValueError if it is undefined."""
    name = (metric or data.task.metrics[0]).name
    found = evaluate(model, data)
    if name not in found:
        why = data.task.undefined(data.targets).get(name, f"there are {', '.join(found)}")
        raise ValueError(f"{name} is undefined for these samples: {why}; name another metric")
    return found[name]


def best_of(results: Mapping[Key, float], metric: Metric) -> Key:
    """The key of the best value of the metric; the earlier key wins ties."""
    sign = 1 if metric.higher_is_better else -1
    return max(results, key=lambda key: sign * results[key])
