"""torch by its usual names, imported when something of it is first used: `from secateur.scorers.lazy import nn, torch`.

Reading what is declared (names, cards, settings) needs no torch, and its import takes a second. A module that imports
these names must leave annotations as text (`from __future__ import annotations`) and use torch inside functions alone.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any


class LazyModule(ModuleType):
    """Stands for the module of its name and imports it when one of its attributes is asked for."""

    def __getattr__(self, name: str) -> Any:
        """The attribute of the real module."""
        if name.startswith("__"):  # what inspection and copying look for must not cost an import
            raise AttributeError(f"{self.__name__} is imported when it is used, and has no {name} before")
        return getattr(importlib.import_module(self.__name__), name)


if TYPE_CHECKING:
    import torch as torch
    from safetensors import torch as safetensors_torch
    from torch import distributed as distributed
    from torch import nn as nn
    from torch.nn import functional as functional

    safetensors = safetensors_torch
else:
    torch, distributed, nn = map(LazyModule, ("torch", "torch.distributed", "torch.nn"))
    functional, safetensors = map(LazyModule, ("torch.nn.functional", "safetensors.torch"))
