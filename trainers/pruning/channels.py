"""Output channels of layers, and networks that really are without some of them: narrower layers, not zeros.

Torch-Pruning (Fang et al. 2023, DepGraph, arXiv 2301.12900; the extra `structured`) finds what hangs together: the
batch norm behind a layer with its running statistics, and the inputs of the layers that read it, in blocks where a
flatten lies between.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur.trainers.models.identity import is_made_for, shapes_of, weights_of
from secateur.trainers.pruning.kept import Kept

PRODUCERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True)
class ChannelLayer:
    """A layer whose output channels can go: how many there are, and the name of the batch norm behind it."""

    channels: int
    norm: str | None


def torch_pruning() -> Any:
    """The library; raises ImportError that names the extra where it is not installed."""
    try:
        import torch_pruning as library
    except ImportError as error:
        raise ImportError("Torch-Pruning is not installed: pip install 'secateur[structured]'") from error
    return library


def channel_layers(model: nn.Module, example: torch.Tensor) -> dict[str, ChannelLayer]:
    """Layers whose output channels can be removed one by one, by name in the model's order.

    They are convolutions and fully connected layers whose channels go through nothing but batch norm, and functions of
    one value or one channel at a time, to others of them. The last layer is none, whose channels are the outputs, and
    neither is one whose channels are added to another's: of a residual block all but the last convolution can be
    pruned, as in the paper. `example` are inputs `[b, …]` as the model takes them. Raises ValueError where there is no
    such layer.
    """
    network = traceable(model)
    names = {module: name for name, module in network.named_modules()}
    found: dict[str, ChannelLayer] = {}
    for group in graph_of(network, example).get_all_groups():
        parts = [(dep.target.module, dep.handler.__name__.endswith("out_channels")) for dep, _ in group]
        parts = [(module, out) for module, out in parts if module in names or isinstance(module, nn.Parameter)]
        root = parts[0][0]
        norms = [module for module, _ in parts if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        others = [(module, out) for module, out in parts if module not in norms and module is not root]
        plain = all(isinstance(module, PRODUCERS) and not out and grouped(module) == 1 for module, out in others)
        if others and plain and isinstance(root, PRODUCERS) and grouped(root) == 1 and len(norms) <= 1:
            found[names[root]] = ChannelLayer(len(root.weight), names[norms[0]] if norms else None)
    if not found:
        raise ValueError("the model has no layer whose output channels only go to other layers: nothing can be pruned")
    return {name: found[name] for name, _ in network.named_modules() if name in found}


def kept_channels(model: nn.Module, masks: Mapping[str, np.ndarray], *, of_these_weights: bool = False) -> Kept:
    """Masks `[channels]` by layer name as what is kept of this architecture, or, `of_these_weights`, of this model."""
    return Kept("channel", dict(masks), weights_of(model) if of_these_weights else shapes_of(model))


def remove_channels(model: nn.Module, kept: Kept, example: torch.Tensor) -> nn.Module:
    """A smaller copy without the channels that are not kept; the model itself stays as it is.

    Batch norm and its running statistics, and the inputs of the layers behind, are cut with them. `example` are inputs
    `[b, …]` as the model takes them, and decide about nothing. Raises ValueError for units other than channels, for
    another model than they were chosen for, for layers whose channels cannot go, and where a layer would keep none.
    """
    if kept.unit != "channel":
        raise ValueError(f"what is kept are {kept.unit}s: only channels can be removed from a model")
    if not is_made_for(kept.made_for, model):
        raise ValueError(f"channels were chosen for another model: {kept.made_for}, this one has {shapes_of(model)}")
    layers = channel_layers(model, example)
    for name, mask in kept.groups.items():
        if name not in layers or mask.shape != (layers[name].channels,):
            there = f"has {layers[name].channels}" if name in layers else "is none whose channels can be removed"
            raise ValueError(
                f"a mask of {mask.size} channels is for layer {name!r}, which {there}: it is another model"
            )
        if not mask.any():
            raise ValueError(f"layer {name!r} would keep no channel, which cuts the network: raise keep")
    smaller = traceable(model)
    learns = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    graph = graph_of(smaller, example)
    for name, mask in kept.groups.items():
        layer = smaller.get_submodule(name)
        if not mask.all():
            cut = graph.get_pruner_of_module(layer).prune_out_channels
            graph.get_pruning_group(layer, cut, np.flatnonzero(~mask).tolist()).prune()
    for name, parameter in smaller.named_parameters():
        parameter.requires_grad_(learns[name])
    return smaller.train(model.training)


def traceable(model: nn.Module) -> nn.Module:
    """A copy whose parameters all have gradients, by which the graph is found."""
    return copy.deepcopy(model).requires_grad_(True).eval()


def graph_of(model: nn.Module, example: torch.Tensor) -> Any:
    """What hangs together in a model."""
    with torch.enable_grad():
        # In a tuple: a lone tensor would be taken apart into samples first.
        return torch_pruning().DependencyGraph().build_dependency(model, example_inputs=(example,), verbose=False)


def grouped(module: nn.Module) -> int:
    """Groups of a convolution; 1 for any other layer."""
    return int(getattr(module, "groups", 1))
