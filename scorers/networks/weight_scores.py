"""How much each weight of a network matters, before it is trained: magnitude, SNIP, GraSP and SynFlow.

Scores are float32 arrays of the weights' shapes by parameter name, and high means that the weight stays. All but the
magnitude work on a copy of the model, in training mode, with batches that are given; none draws anything.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from secateur.scorers.lazy import functional, nn, torch

Scores = dict[str, np.ndarray]


def magnitude(model: nn.Module, names: Sequence[str]) -> Scores:
    """Absolute value of each weight (Han et al. 2015, arXiv 1506.02626)."""
    parameters = dict(model.named_parameters())
    return {name: parameters[name].detach().abs().float().cpu().numpy().copy() for name in names}


def snip(model: nn.Module, names: Sequence[str], batch: tuple[torch.Tensor, torch.Tensor]) -> Scores:
    """|w · ∂L/∂w|: how much the loss feels a weight's mask (Lee et al. 2019, arXiv 1810.02340, equation 5)."""
    network, weights = copied(model, names)
    inputs, labels = batch
    loss = functional.cross_entropy(network(inputs), labels)
    gradients = torch.autograd.grad(loss, list(weights.values()))
    return told(weights, [(w * g).abs() for w, g in zip(weights.values(), gradients, strict=True)])


def grasp(model: nn.Module, names: Sequence[str], batches: Iterable[tuple[torch.Tensor, torch.Tensor]], *, temperature: float = 200.0) -> Scores:
    """w · (H g): what removing a weight does to the gradient's norm (Wang et al. 2020, arXiv 2002.07376, equation 8).

    g is the gradient of the mean cross-entropy of logits over `temperature`, summed over the batches, H g the product
    with their Hessian. The paper drops the weights whose score, the negative of this one, is largest.
    """
    network, weights = copied(model, names)
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
    return told(weights, [w * p for w, p in zip(values, product, strict=True)])


def synflow(model: nn.Module, names: Sequence[str], shape: tuple[int, ...]) -> Scores:
    """|w| · ∂R/∂|w| of R, the sum of outputs for an input of ones through a network of absolute values, without data
    (Tanaka et al. 2020, arXiv 2006.05467, equation 2).

    `shape` is that of one input as the network takes it. In evaluation mode and float64, where products over many
    layers do not overflow; what standardises inputs must not come before the network.
    """
    network = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.abs_()
    weights = {name: dict(network.named_parameters())[name] for name in names}
    device = next(iter(weights.values())).device
    output = network(torch.ones((1, *shape), dtype=torch.float64, device=device)).sum()
    gradients = torch.autograd.grad(output, list(weights.values()))
    return told(weights, [(w * g).abs() for w, g in zip(weights.values(), gradients, strict=True)])


def synflow_masks(
    model: nn.Module,
    names: Sequence[str],
    shape: tuple[int, ...],
    choose: Callable[[Scores, float], Mapping[str, np.ndarray]],
    density: float,
    *,
    rounds: int = 100,
) -> Mapping[str, np.ndarray]:
    """SynFlow's masks, in `rounds` that prune to `density ** (round / rounds)` each: one round alone cuts off layers.

    `choose` turns scores and a density into masks; pruned weights score 0, and after them nothing is left to choose.
    """
    network = copy.deepcopy(model)
    masks: Mapping[str, np.ndarray] = {}
    for number in range(1, rounds + 1):
        scores = synflow(network, names, shape)
        kept = {name: np.where(masks[name], scores[name], -1.0) if masks else scores[name] for name in names}
        masks = choose(kept, density ** (number / rounds))
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name in masks:
                    parameter.masked_fill_(~torch.from_numpy(masks[name]).to(parameter.device), 0.0)
    return masks


def copied(model: nn.Module, names: Sequence[str]) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """A copy in training mode, and its weights of these names, which all have gradients."""
    network = copy.deepcopy(model).train()
    parameters = dict(network.named_parameters())
    for name in names:
        parameters[name].requires_grad_(True)
    return network, {name: parameters[name] for name in names}


def told(weights: Mapping[str, torch.Tensor], scores: Sequence[torch.Tensor]) -> Scores:
    """Scores as float32 arrays by name."""
    return {name: score.detach().float().cpu().numpy() for name, score in zip(weights, scores, strict=True)}
