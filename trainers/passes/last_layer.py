"""The factors of each row's gradient by the last layer, from a forward pass alone."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from secateur.scorers.checkpoints.contract import CheckpointBatch
from secateur.scorers.contract import rows_text
from secateur.scorers.target.gradient_cosines import Factors
from secateur.trainers.contract import Data


def last_layer_factors(
    model: nn.Module, data: Data, *, device: torch.device, batch_size: int = 512
) -> Iterator[tuple[slice, Factors]]:
    """Batches of rows with the factors of their gradients by the last layer, float32.

    The gradient is that of the loss behind `CheckpointBatch.error`, summed over the parts of a target. Raises
    ValueError that names rows with NaN or infinite factors, and NotImplementedError for a task without `error`.
    """
    model.to(device).eval()
    for start in range(0, len(data), batch_size):
        some = data.take(np.arange(start, min(start + batch_size, len(data))))
        targets = some.task.tensor(some.targets).to(device)
        batch = CheckpointBatch([model], some.network_inputs(device), targets, some.task)
        errors, features = batch.error, batch.features
        if batch.classifier.bias is not None:
            features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
        sound = torch.isfinite(errors).all(dim=1) & torch.isfinite(features).all(dim=1)
        if not sound.all():
            wrong = start + np.flatnonzero(~sound.cpu().numpy())
            raise ValueError(f"gradients of the last layer are NaN or infinite at {rows_text(wrong)}")
        yield slice(start, start + len(some)), Factors(errors.float().cpu().numpy(), features.cpu().numpy())
