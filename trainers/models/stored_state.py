"""The stored part of a model's state: all of it, or only trained weights if frozen ones can be read again by name.

A network with `rereads_frozen = True` reads its frozen weights again, see `TokenLosses`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from secateur.scorers.lazy import nn, torch


def frozen_in(model: nn.Module) -> set[str]:
    """Names of all weights that are not stored; empty for most models."""
    found = set()
    for above, part in model.named_modules():
        if getattr(part, "rereads_frozen", False):
            begins = f"{above}." if above else ""
            found |= {begins + name for name, each in part.named_parameters() if not each.requires_grad}
    return found


def stored_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The `state_dict` without weights that are read again, for `load_stored`."""
    frozen = frozen_in(model)
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def load_stored(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load a stored state; raises RuntimeError as `load_state_dict` for that of another model."""
    here = model.state_dict()
    model.load_state_dict({**{name: here[name] for name in frozen_in(model)}, **state})


def beside(model: nn.Module) -> nn.Module:
    """A copy that shares the weights that are not stored, so several checkpoints of adapters need them once."""
    frozen = frozen_in(model)
    return copy.deepcopy(model, {id(each): each for name, each in model.named_parameters() if name in frozen})
