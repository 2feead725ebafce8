"""What a trained model is judged by."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn
from torch.nn import functional

from secateur.scorers.contract import rows_text
from secateur.trainers.contract import Data
from secateur.trainers.tasks.contract import Metric

METRICS = (
    Metric("accuracy", percent=True),
    Metric("worst_class_accuracy", percent=True),
    Metric("calibration_error", higher_is_better=False, percent=True),
    Metric("loss", higher_is_better=False, unit="nats"),
)


@dataclass(frozen=True)
class Metrics:
    """Results on one split. Shares are in [0, 1]; the loss is mean cross-entropy in nats."""

    accuracy: float
    loss: float
    calibration_error: float
    worst_class_accuracy: float
    class_accuracy: tuple[float | None, ...]
    """Per class; None where the split has none of it."""


def logits_of(model: nn.Module, data: Data, *, device: torch.device | None = None) -> Float32[np.ndarray, "n classes"]:
    """Logits in evaluation mode, float32 `[n, classes]`, by blocks."""
    device = device or next(model.parameters()).device
    model.to(device).eval()
    # What a network holds per sample grows with its input: long texts and large images come in smaller blocks.
    size = min(4096, max(64, 2**18 // max(1, math.prod(data.inputs.shape[1:]))))
    with torch.no_grad():
        parts = [model(torch.as_tensor(block.inputs).to(device)).float().cpu() for block in data.blocks(size)]
    return torch.cat(parts).numpy()


def evaluate(model: nn.Module, data: Data) -> Metrics:
    """Metrics of a model on a split."""
    return metrics_of(logits_of(model, data), data)


def metrics_of(logits: Float32[np.ndarray, "n classes"], data: Data, *, bins: int = 15) -> Metrics:
    """Metrics of logits. The calibration error is ECE over equal-width bins (Guo et al. 2017, section 3).

    Raises ValueError for an empty split and for NaN or infinite logits, which name their rows.
    """
    if not len(logits):
        raise ValueError("the split to evaluate on is empty")
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise ValueError(f"the logits are NaN or infinite at {rows_text(bad)}: training diverged; lower learning rate")
    values, labels = torch.tensor(logits).double(), torch.tensor(data.labels)
    confidence, guess = values.softmax(dim=1).max(dim=1)
    correct = (guess == labels).numpy()
    index = np.minimum((confidence.numpy() * bins).astype(int), bins - 1)
    gaps = np.bincount(index, weights=correct - confidence.numpy(), minlength=bins)
    totals = np.bincount(data.labels, minlength=data.classes)
    hits = np.bincount(data.labels, weights=correct, minlength=data.classes)
    shares = tuple(float(hit / total) if total else None for hit, total in zip(hits, totals, strict=True))
    return Metrics(
        accuracy=float(correct.mean()),
        loss=float(functional.cross_entropy(values, labels)),
        calibration_error=float(np.abs(gaps).sum() / len(labels)),
        worst_class_accuracy=min(share for share in shares if share is not None),
        class_accuracy=shares,
    )
