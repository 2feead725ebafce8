"""The loss's gradient by each weight's mask."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.scorers.contract import scorer
from secateur.scorers.lazy import functional, nn, torch
from secateur.scorers.networks.gradients import Groups, by_name, with_gradients


@scorer(
    unit="weight",
    high_means="more important",
    view="a copy in training mode, one batch",
    paper="Lee et al. 2019, SNIP, arXiv 1810.02340, equation 5",
)
def snip(model: nn.Module, names: Sequence[str], batch: tuple[torch.Tensor, torch.Tensor]) -> Groups:
    """|w · ∂L/∂w|: sensitivity of the cross-entropy to a weight's mask.

    `batch` has inputs `[b, …]` as the network takes them and labels int64 `[b]`.
    """
    network, weights = with_gradients(model, names)
    inputs, labels = batch
    loss = functional.cross_entropy(network(inputs), labels)
    gradients = torch.autograd.grad(loss, list(weights.values()))
    return by_name(weights, [(w * g).abs() for w, g in zip(weights.values(), gradients, strict=True)])
