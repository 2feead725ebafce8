"""Removal of output channels from layers: the networks get narrower layers, not zeros.

Torch-Pruning (Fang et al. 2023, DepGraph, arXiv 2301.12900; the extra `structured`) finds the dependent tensors: the
batch norm behind a layer with its running statistics, and the inputs of the layers that read it, in blocks after a
flatten.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.scorers.lazy import nn, not_installed, torch
from secateur.trainers.models.identity import is_made_for, shapes_of, weights_of
from secateur.trainers.pruning.kept import Kept

CUTS = "cuts"
"""Key of the settings of `Kept` with the cuts of each layer's channels."""


@dataclass(frozen=True)
class ChannelLayer:
    """A layer with removable output channels: their number, and the name of the batch norm behind it."""

    channels: int
    norm: str | None


def torch_pruning() -> Any:
    """The library Torch-Pruning; raises ImportError that names the extra if it is not installed."""
    try:
        import torch_pruning as library
    except ImportError as error:
        raise ImportError(not_installed("Torch-Pruning", "structured")) from error
    return library


def channel_layers(model: nn.Module, example: torch.Tensor) -> dict[str, ChannelLayer]:
    """Layers with output channels that can be removed one by one, by name in the model's order.

    They are convolutions and fully connected layers whose channels reach other such layers only through batch norm and
    functions of one value or one channel at a time. The last layer, whose channels are the outputs, is excluded, and so
    are layers whose channels are added to another's: of a residual block all but the last convolution can be pruned, as
    in the paper. `example` are inputs `[b, …]` of the model. Raises ValueError if there is no such layer.
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
        plain = all(makes_channels(module) and not out and grouped(module) == 1 for module, out in others)
        if others and plain and makes_channels(root) and grouped(root) == 1 and len(norms) <= 1:
            found[names[root]] = ChannelLayer(len(root.weight), names[norms[0]] if norms else None)
    if not found:
        raise ValueError("the model has no layer whose output channels only go to other layers: nothing can be pruned")
    return {name: found[name] for name, _ in network.named_modules() if name in found}


def kept_channels(
    model: nn.Module, masks: Mapping[str, np.ndarray], example: torch.Tensor, *, of_these_weights: bool = False
) -> Kept:
    """Masks `[channels]` by layer name as kept units of this architecture, or, `of_these_weights`, of this model.

    The settings list the tensors to cut with each layer's channels, so a checkpoint can be cut without the model.
    """
    made_for = weights_of(model) if of_these_weights else shapes_of(model)
    return Kept("channel", dict(masks), made_for, {CUTS: cuts_by_layer(model, list(masks), example)})


@dataclass(frozen=True)
class Cut:
    """A tensor that loses `entries` entries along its dimension `axis` with each channel, in the order of channels."""

    tensor: str
    axis: int
    entries: int


def cuts_by_layer(model: nn.Module, layers: Sequence[str], example: torch.Tensor) -> dict[str, list[list[Any]]]:
    """The cuts of layers that `channel_layers` names: tensor, axis and entries of each `Cut`; raises ValueError for a
    layer that reads channels in another order."""
    network = traceable(model)
    names = {module: name for name, module in network.named_modules()}
    graph, cuts = graph_of(network, example), dict[str, list[list[Any]]]()
    for layer in layers:
        producer: Any = network.get_submodule(layer)
        last = len(producer.weight) - 1
        group = graph.get_pruning_group(producer, graph.get_pruner_of_module(producer).prune_out_channels, [last])
        cuts[layer] = []
        for dep, places in group:
            module, entries = dep.target.module, len(places)
            if module not in names:
                continue
            if list(places) != list(range(last * entries, (last + 1) * entries)):
                raise ValueError(f"{names[module]!r} does not read the channels of {layer!r} in their order")
            reads = makes_channels(module) and not dep.handler.__name__.endswith("out_channels")
            # A layer that reads channels has them in axis 1 of its weight; others have them in axis 0 of all tensors.
            tensors = ["weight"] if reads else [name for name, value in module.state_dict().items() if value.ndim]
            cuts[layer] += [[f"{names[module]}.{name}", int(reads), entries] for name in tensors]
    return cuts


def cuts_of(kept: Kept, layer: str) -> list[Cut]:
    """The cuts of a layer's channels; raises ValueError for settings without them."""
    try:
        return [
            Cut(str(tensor), operator.index(axis), operator.index(entries))
            for tensor, axis, entries in kept.settings[CUTS][layer]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"it does not say which tensors lose the channels of {layer!r}") from error


def remove_channels(model: nn.Module, kept: Kept, example: torch.Tensor) -> nn.Module:
    """A smaller copy with the kept channels alone; the model itself does not change.

    It also cuts batch norm with its running statistics, and the inputs of the layers behind. `example` are inputs
    `[b, …]` of the model; their values do not matter. Raises ValueError for units other than channels, for another
    model than they were chosen for, for layers without removable channels, and if a layer would keep none.
    """
    if kept.unit != "channel":
        raise ValueError(f"the kept units are {kept.unit}s: only channels can be removed from a model")
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
    """A copy with gradients for all parameters, which Torch-Pruning needs to trace the graph."""
    return copy.deepcopy(model).requires_grad_(True).eval()


def graph_of(model: nn.Module, example: torch.Tensor) -> Any:
    """Torch-Pruning's dependency graph of a model."""
    with torch.enable_grad():
        # In a tuple: Torch-Pruning would split a lone tensor into samples.
        return torch_pruning().DependencyGraph().build_dependency(model, example_inputs=(example,), verbose=False)


def grouped(module: nn.Module) -> int:
    """Groups of a convolution; 1 for any other layer."""
    return int(getattr(module, "groups", 1))


def makes_channels(module: nn.Module) -> bool:
    """Whether each row of a module's weight computes one channel."""
    return isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
