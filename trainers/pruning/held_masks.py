"""Masks that hold pruned weights at zero during training.

They reset pruned weights to zero after every optimiser step, against momentum and weight decay: every forward pass sees
exact zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xxhash

from secateur.scorers.lazy import nn, torch
from secateur.trainers.models.identity import is_made_for, shapes_of, weights_of
from secateur.trainers.pruning.kept import Kept


@dataclass(frozen=True)
class HeldMasks:
    """Masks by parameter name, the argument `after_step` of `train`; True keeps."""

    masks: Mapping[str, torch.Tensor]

    def __call__(self, model: nn.Module, steps_done: int = 0, steps: int = 0) -> None:
        """Set the pruned weights of a model to zero."""
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, mask in self.masks.items():
                weight = parameters[name]
                # A multiplication would leave NaN, infinity and -0.
                weight.masked_fill_(~mask.to(weight.device, non_blocking=True), 0.0)

    @property
    def made_of(self) -> dict[str, str]:
        """Fingerprints of the masks, for snapshots."""
        return {
            name: xxhash.xxh3_128_hexdigest(np.packbits(mask.numpy()).tobytes()) for name, mask in self.masks.items()
        }


def apply(model: nn.Module, kept: Kept) -> HeldMasks:
    """Set a model's pruned weights to zero, in place; the result holds them there as `after_step`.

    Raises ValueError for units other than weights, for a model with other names or shapes, and, if the mask belongs to
    certain weights, for a model with others.
    """
    if kept.unit != "weight":
        raise ValueError(f"a mask of {kept.unit}s cannot be held on weights")
    parameters = dict(model.named_parameters())
    for name, mask in kept.groups.items():
        there = tuple(parameters[name].shape) if name in parameters else None
        if there != mask.shape:
            told = "has no such parameter" if there is None else f"has shape {list(there)}"
            raise ValueError(f"the mask of {name} has shape {list(mask.shape)}, the model {told}: it is another model")
    if not is_made_for(kept.made_for, model):
        raise ValueError(f"the mask was made for another model: {kept.made_for}, this one has {shapes_of(model)}")
    held = HeldMasks({name: torch.from_numpy(np.ascontiguousarray(mask)) for name, mask in kept.groups.items()})
    held(model)
    return held


def kept_weights(model: nn.Module, masks: Mapping[str, np.ndarray], *, of_these_weights: bool = False) -> Kept:
    """Masks by parameter name as kept units of this architecture, or, `of_these_weights`, of exactly this model."""
    return Kept("weight", dict(masks), weights_of(model) if of_these_weights else shapes_of(model))


def maskable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Prunable weights, by name in the model's order: those of linear and convolutional layers, but no bias,
    normalisation or embedding.
    """
    found = {}
    for prefix, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm | nn.Embedding):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim >= 2 and name.endswith("weight"):
                found[f"{prefix}.{name}" if prefix else name] = parameter
    return found
