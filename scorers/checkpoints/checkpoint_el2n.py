"""Error L2 norm of checkpoints, from the Data Diet paper."""

from __future__ import annotations

from secateur.scorers.checkpoints.contract import CheckpointBatch, average, checkpoint_scorer
from secateur.scorers.lazy import torch


@checkpoint_scorer(
    high_means="harder",
    reads=("error",),
    paper="Paul et al. 2021, Deep Learning on a Data Diet, section 2.2",
    several=True,
)
def checkpoint_el2n(batch: CheckpointBatch) -> torch.Tensor:
    """Euclidean length of (softmax - one-hot label) in evaluation mode, averaged over all checkpoints given.

    The paper gives one early checkpoint of each of ten runs. `el2n` is the training-view mean of one run.
    Range [0, sqrt(2)]. For other tasks see `el2n`.

    >>> model = torch.nn.Linear(2, 2, bias=False).eval()
    >>> _ = torch.nn.init.eye_(model.weight)
    >>> batch = CheckpointBatch([model], torch.tensor([[9.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0]))
    >>> checkpoint_el2n(batch).round(decimals=3)
    tensor([0.0000, 0.7070])
    """
    return average([one.error_length for one in batch.each])
