"""The effect of removing a weight on the flow of gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from secateur.scorers.contract import Positive, scorer
from secateur.scorers.lazy import functional, nn, torch
from secateur.scorers.networks.gradients import Groups, by_name, with_gradients


@scorer(
    unit="weight",
    high_means="more important",
    view="a copy in training mode, several batches",
    paper="Wang et al. 2020, GraSP, arXiv 2002.07376, equation 8",
)
def grasp(
    model: nn.Module,
    names: Sequence[str],
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    *,
    temperature: Positive = 200.0,
) -> Groups:
    """w · (H g): the effect of removing a weight on the gradient's norm.

    g is the gradient of the mean cross-entropy of logits over `temperature`, summed over the batches, H g the product
    with their Hessian. The paper drops the weights whose score, the negative of this one, is largest.
    """
    network, weights = with_gradients(model, names)
    listed, values = list(batches), list(weights.values())

    def loss_of(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return functional.cross_entropy(network(batch[0]) / temperature, batch[1])

    total = [torch.zeros_like(value) for value in values]
    for batch in listed:
        for held, part in zip(total, torch.autograd.grad(loss_of(batch), values), strict=True):
            held += part
    product = [torch.zeros_like(value) for value in values]
    for batch in listed:
        here = torch.autograd.grad(loss_of(batch), values, create_graph=True)
        along = torch.stack([(h * g).sum() for h, g in zip(here, total, strict=True)]).sum()
        for held, part in zip(product, torch.autograd.grad(along, values), strict=True):
            held += part
    return by_name(weights, [w * p for w, p in zip(values, product, strict=True)])
