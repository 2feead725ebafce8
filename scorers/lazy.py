"""torch by its usual names, imported at its first use: `from secateur.scorers.lazy import nn, torch`.

Also objects outside of the project that a study names by `module:name`, and the sentence about a missing package.

Reading declarations (names, cards, settings) needs no torch, and its import takes a second. A module that imports
these names must leave annotations as text (`from __future__ import annotations`) and use torch inside functions alone.
"""

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any


class LazyModule(ModuleType):
    """Stands for the module of its name and imports it at the first access to an attribute."""

    def __getattr__(self, name: str) -> Any:
        """The attribute of the real module."""
        if name.startswith("__"):  # names for inspection and copying must not cost an import
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


def look_in_working_folder() -> None:
    """Put the working folder first on the path, as `python -m` does and an installed command does not."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)


def is_there(name: str) -> bool:
    """Whether there is the module, or the package around it, that `module:name` begins with; nothing is imported."""
    look_in_working_folder()
    module = name.partition(":")[0].partition(".")[0]
    return module in sys.modules or bool(module and find_spec(module))


def not_installed(package: str, extra: str) -> str:
    """The sentence about a missing optional package, with the command that installs its extra."""
    command = f"pip install -c constraints.txt -e '.[{extra}]'"
    return f"{package} is not installed: install the extra `{extra}` (in the clone of secateur: {command})"


def named(name: str, what: str) -> Any:
    """The object that `module:name` names; raises ValueError, behind `what`, with the reason why its import fails."""
    module, _, attribute = name.partition(":")
    look_in_working_folder()
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module of the user's may raise anything
        raise ValueError(f"{what} {name!r} cannot be imported: {error}") from error
