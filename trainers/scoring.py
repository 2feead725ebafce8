"""One pass of checkpoints over rows: every scorer that reads them, from shared forward passes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int64
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
    features: Float16[np.ndarray, "b d"] | Float32[np.ndarray, "b d"] | None = None,
) -> dict[str, Scores]:
    """Scores of some rows by name, float32 `[b]`, each averaged over proxy runs in float64.

    `runs` are the checkpoints of each proxy run, oldest first; where one scorer alone reads several checkpoints, the
    others still see the last one only. Models are moved to the device and put into evaluation mode. Into `features`,
    where given, goes what the classifier of the first run's last checkpoint is fed with, from the same forward pass.
    Raises ValueError that names the rows (of the data) where a score is NaN or infinite.
    """
    # Sums stay on the device until the end, so that the host can prepare the next batch while one is computed.
    totals = {name: torch.zeros(len(rows), dtype=torch.float64, device=device) for name in scorers}
    for number, run in enumerate(runs):
        for model in run:
            model.to(device).eval()
        for start in range(0, len(rows), batch_size):
            part = data.take(rows[start : start + batch_size])
            glance = Glance(run, torch.as_tensor(part.inputs).to(device), torch.tensor(part.labels).to(device))
            for name, (scorer, settings) in scorers.items():
                totals[name][start : start + batch_size] += scorer(glance, **settings)
            if features is not None and number == 0:
                # NumPy's own conversion to float16 takes as long as a small network's forward pass.
                halved = glance.features.half() if features.dtype == np.float16 else glance.features
                features[start : start + batch_size] = halved.cpu().numpy()
    scores = {name: (total / len(runs)).float().cpu().numpy() for name, total in totals.items()}
    for name, found in scores.items():
        if not np.isfinite(found).all():
            everywhere = np.zeros(len(data), np.float32)
            everywhere[rows] = found
            finite(everywhere, name)
    return scores
