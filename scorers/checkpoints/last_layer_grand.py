"""Gradient norm of the last layer, in closed form."""

from __future__ import annotations

from secateur.scorers.checkpoints.contract import CheckpointBatch, average, checkpoint_scorer
from secateur.scorers.lazy import torch


@checkpoint_scorer(
    high_means="harder",
    reads=(("error", "head_gradient"), ("features", "head_gradient")),
    paper="Paul et al. 2021, Deep Learning on a Data Diet, section 2.1, for the classifier's parameters alone",
    several=True,
)
def last_layer_grand(batch: CheckpointBatch) -> torch.Tensor:
    """Length of the loss gradient by the classifier's weight and bias, averaged over all checkpoints given.

    With the classifier's input h, the gradient is the outer product of (softmax - one-hot) and [h, 1], so its length is
    the product of two lengths, and the forward pass suffices. `grand` is the score of all layers. For numbers the
    residual, for several labels (sigmoid - label) takes the place of the first factor: the gradient of the loss summed
    over targets or labels, where `grand` has that of the mean (our derivation). For completions it is the sum over
    their tokens of such products, divided by their number: exact, in slices of the vocabulary, at the cost of three
    products with the head in place of one (our derivation).
    """
    if "head_gradient" in batch.task.provides:
        return average([one.head_gradient for one in batch.each])
    norms = []
    for one in batch.each:
        # float32 is within 2e-7 and three times as fast; these lengths need no wider range.
        fed = torch.linalg.vector_norm(one.features, dim=1).double()
        if one.classifier.bias is not None:
            fed = torch.hypot(fed, torch.ones_like(fed))
        norms.append(one.error_length * fed)
    return average(norms)
