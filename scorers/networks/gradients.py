"""Shared parts of scorers by gradient: a copy of the network whose weights have gradients, and scores by name."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np

from secateur.scorers.lazy import nn, torch

Groups = dict[str, np.ndarray]
"""A float32 array by name of a parameter, of its shape, for weights; by name of a layer, `[channels]`, for channels."""


def with_gradients(model: nn.Module, names: Sequence[str]) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """A copy in training mode, and its weights of these names, which all have gradients."""
    network = copy.deepcopy(model).train()
    parameters = dict(network.named_parameters())
    for name in names:
        parameters[name].requires_grad_(True)
    return network, {name: parameters[name] for name in names}


def by_name(weights: Mapping[str, torch.Tensor], scores: Sequence[torch.Tensor]) -> Groups:
    """Scores as float32 arrays by name."""
    return {name: score.detach().float().cpu().numpy() for name, score in zip(weights, scores, strict=True)}
