"""What of a model's state is stored: all of it, or what is learned where the rest is read again by its name.

A network whose frozen weights are read again says so by `rereads_frozen = True`, see `TokenLosses`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from secateur.scorers.lazy import nn, torch


def frozen_in(model: nn.Module) -> set[str]:
    """Names of the weights of the whole model that are not stored; none of most models."""
    found = set()
    for above, part in model.named_modules():
        if getattr(part, "rereads_frozen", False):
            begins = f"{above}." if above else ""
            found |= {begins + name for name, each in part.named_parameters() if not each.requires_grad}
    return found


def stored_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """What `load_stored` puts back: `state_dict` without what is read again."""
    frozen = frozen_in(model)
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def load_stored(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Put back a stored state; raises RuntimeError as `load_state_dict` where it is of another model."""
    here = model.state_dict()
    model.load_state_dict({**{name: here[name] for name in frozen_in(model)}, **state})


def beside(model: nn.Module) -> nn.Module:
    """A copy that shares what is never stored: several checkpoints of adapters need the weights below them once."""
    frozen = frozen_in(model)
    return copy.deepcopy(model, {id(each): each for name, each in model.named_parameters() if name in frozen})
