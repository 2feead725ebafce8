"""Pruned weights held at zero while the others are trained.

After every optimiser step they are set to zero again, so that neither momentum nor weight decay moves one: every
forward pass sees exact zeros.
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
    """Masks by name of their parameter, to be passed to `train` as `after_step`; True stays."""

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
        """What tells these masks from others, for snapshots."""
        return {
            name: xxhash.xxh3_128_hexdigest(np.packbits(mask.numpy()).tobytes()) for name, mask in self.masks.items()
        }


def apply(model: nn.Module, kept: Kept) -> HeldMasks:
    """Set what is not kept of a model's weights to zero, in place; the result holds it there as `after_step`.

    Raises ValueError for units other than weights, and for a model of other names or shapes, or, where the mask was
    made on trained weights, of other weights than it was made for.
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
    """Masks by parameter name as what is kept of this architecture, or, `of_these_weights`, of this very model."""
    return Kept("weight", dict(masks), weights_of(model) if of_these_weights else shapes_of(model))


def maskable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights that are pruned, by name in the model's order: of linear and convolutional layers, never a bias, a
    normalisation or an embedding.
    """
    found = {}
    for prefix, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm | nn.Embedding):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim >= 2 and name.endswith("weight"):
                found[f"{prefix}.{name}" if prefix else name] = parameter
    return found
