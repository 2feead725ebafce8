"""One pass of checkpoints over rows: all scorers share the forward passes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from secateur.scorers.checkpoints.contract import CheckpointBatch, CheckpointScorer
from secateur.scorers.contract import Scores, finite
from secateur.trainers.contract import Data
from secateur.trainers.passes.folds import Folds
from secateur.trainers.tasks.missing_signals import missing_signals

Configured = tuple[CheckpointScorer[...], Mapping[str, Any]]
"""A scorer with its settings."""


def score_rows(
    runs: Sequence[Sequence[nn.Module]],
    data: Data,
    rows: Int64[np.ndarray, " b"],
    scorers: Mapping[str, Configured],
    *,
    device: torch.device,
    batch_size: int = 512,
) -> dict[str, Scores]:
    """Scores of some rows by name, float32 `[b]`, each averaged over proxy runs in float64.

    `runs` are the checkpoints of each proxy run, oldest first; each scorer reads all of them, or the last one only.
    Moves models to the device and puts them into evaluation mode. Raises ValueError that names the rows (of the data)
    with NaN or infinite scores, and for scorers whose signals the task does not provide.
    """
    missing = [text for scorer, _ in scorers.values() for text in missing_signals(scorer, data.task)]
    if missing:
        raise ValueError("; ".join(missing))
    # Scores stay on the device until the end, so that the host prepares the next batch during a computation.
    parts: dict[str, list[list[torch.Tensor]]] = {name: [[] for _ in runs] for name in scorers}
    for number, run in enumerate(runs):
        for model in run:
            model.to(device).eval()
        for start in range(0, len(rows), batch_size):
            some = data.take(rows[start : start + batch_size])
            inputs = some.network_inputs(device)
            targets = inputs if some.task.own_network else some.task.tensor(some.targets).to(device)
            batch = CheckpointBatch(run, inputs, targets, some.task)
            for name, (scorer, settings) in scorers.items():
                parts[name][number].append(scorer(batch, **settings))
    scores = {name: averaged(runs) for name, runs in parts.items()}
    for name, score in scores.items():
        if not np.isfinite(score).all():
            everywhere = np.zeros(len(data), np.float32)
            everywhere[rows] = score
            finite(everywhere, name)
    return scores


def score_folds(
    runs: Sequence[Sequence[Sequence[nn.Module]]],
    folds: Folds,
    data: Data,
    rows: Int64[np.ndarray, " b"],
    scorers: Mapping[str, Configured],
    *,
    device: torch.device,
) -> dict[str, Scores]:
    """`score_rows` by the networks of each row's fold; `runs` has the argument `runs` of `score_rows` for each fold."""
    scores = {name: np.empty(len(rows), np.float32) for name in scorers}
    for fold, own in enumerate(runs):
        places = np.flatnonzero(folds[rows] == fold)
        if len(places):
            for name, values in score_rows(own, data, rows[places], scorers, device=device).items():
                scores[name][places] = values
    return scores


def averaged(runs: Sequence[Sequence[torch.Tensor]]) -> Scores:
    """Mean over runs in float64 of one number per row, given in batches; float32 `[b]`, in main memory."""
    if not runs[0]:
        return np.empty(0, np.float32)
    total = torch.cat(list(runs[0])).double()
    for parts in runs[1:]:
        total += torch.cat(list(parts))
    return (total / len(runs)).float().cpu().numpy()
