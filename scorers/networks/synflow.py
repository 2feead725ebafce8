"""Synaptic flow through each weight, without data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from secateur.scorers.contract import Count, scorer
from secateur.scorers.lazy import nn, torch
from secateur.scorers.networks.gradients import Groups, by_name


@scorer(
    unit="weight",
    high_means="more important",
    view="a copy in evaluation mode, an input of ones",
    paper="Tanaka et al. 2020, SynFlow, arXiv 2006.05467, equation 2 and algorithm 1",
)
def synflow(
    model: nn.Module,
    names: Sequence[str],
    entry: str,
    shape: tuple[int, ...],
    keep: float,
    choose: Callable[[Groups, float], Mapping[str, np.ndarray]],
    *,
    rounds: Count = 100,
) -> Groups:
    """|w| · ∂R/∂|w| of R, the sum of outputs for an input of ones, after the rounds of pruning that lead to `keep`.

    Round r of `rounds` prunes to a share of `keep ** (r / rounds)` by the masks that `choose` returns for scores and
    share, since one round alone cuts off layers. The result has the scores of the last round; weights pruned before it
    score -1. `entry` names the submodule that takes ones of `shape`, behind any standardisation of inputs; "" is the
    whole model.
    """
    network = copy.deepcopy(model)
    masks: Mapping[str, np.ndarray] = {}
    scores: Groups = {}
    for number in range(1, rounds + 1):
        scores = flow(network, names, entry, shape)
        if masks:
            scores = {name: np.where(masks[name], values, np.float32(-1.0)) for name, values in scores.items()}
        if number == rounds:
            break
        masks = choose(scores, keep ** (number / rounds))
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name in masks:
                    parameter.masked_fill_(~torch.from_numpy(masks[name]).to(parameter.device), 0.0)
    return scores


def flow(model: nn.Module, names: Sequence[str], entry: str, shape: tuple[int, ...]) -> Groups:
    """The scores of one round, in float64, where products over many layers do not overflow."""
    network = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.abs_()
    weights = {name: dict(network.named_parameters())[name] for name in names}
    device = next(iter(weights.values())).device
    output = network.get_submodule(entry)(torch.ones((1, *shape), dtype=torch.float64, device=device)).sum()
    gradients = torch.autograd.grad(output, list(weights.values()))
    return by_name(weights, [(w * g).abs() for w, g in zip(weights.values(), gradients, strict=True)])
