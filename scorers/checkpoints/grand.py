"""Gradient norm, by all parameters."""

from __future__ import annotations

from secateur.scorers.checkpoints.contract import CheckpointBatch, checkpoint_scorer
from secateur.scorers.checkpoints.ghost_norms import squared_gradient_norms
from secateur.scorers.lazy import nn, torch


@checkpoint_scorer(
    high_means="harder",
    reads=("losses", "inputs"),
    paper="Paul et al. 2021, Deep Learning on a Data Diet, section 2.1",
    several=True,
)
def grand(batch: CheckpointBatch) -> torch.Tensor:
    """Length of the gradient of a sample's own loss by all parameters, averaged over all checkpoints given.

    Evaluation mode, so that batch norm uses its running statistics and samples stay apart. The paper gives one early
    checkpoint of each of ten runs. `last_layer_grand` is the cheaper score of the classifier alone. Raises ValueError
    for layers whose norms are not known, see `ghost_norms`.
    """
    lengths = [gradient_lengths(model, batch) for model in batch.models]
    return torch.stack(lengths).mean(dim=0).float()


def gradient_lengths(model: nn.Module, batch: CheckpointBatch) -> torch.Tensor:
    """Length of each sample's gradient of the task's loss by all parameters, float64 `[b]`."""

    def loss(outputs: torch.Tensor) -> torch.Tensor:
        return batch.task.losses(outputs, batch.targets).sum()

    return squared_gradient_norms(model, batch.inputs, loss).sqrt()
