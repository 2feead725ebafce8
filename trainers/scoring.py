"""One pass of checkpoints over rows: every scorer that reads them, from shared forward passes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from secateur.scorers.checkpoints import CheckpointScorer, Glance
from secateur.scorers.contract import Scores, finite
from secateur.trainers.contract import Data

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

    `runs` are the checkpoints of each proxy run, oldest first; where one scorer alone reads several checkpoints, the
    others still see the last one only. Models are moved to the device and put into evaluation mode. Raises ValueError
    that names the rows (of the data) where a score is NaN or infinite.
    """
    totals = {name: np.zeros(len(rows), np.float64) for name in scorers}
    for run in runs:
        for model in run:
            model.to(device).eval()
        for start in range(0, len(rows), batch_size):
            part = data.take(rows[start : start + batch_size])
            glance = Glance(run, torch.as_tensor(part.inputs).to(device), torch.tensor(part.labels).to(device))
            computed = {name: scorer(glance, **settings) for name, (scorer, settings) in scorers.items()}
            for name, values in computed.items():
                totals[name][start : start + batch_size] += values.double().cpu().numpy()
    scores = {name: (total / len(runs)).astype(np.float32) for name, total in totals.items()}
    for name, found in scores.items():
        if not np.isfinite(found).all():
            everywhere = np.zeros(len(data), np.float32)
            everywhere[rows] = found
            finite(everywhere, name)
    return scores
