"""Units of a network that a mask keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secateur.scorers.contract import Unit


@dataclass(frozen=True)
class Kept:
    """The kept units: a bool array per group (layer, tensor, prompt), of the shape of the masked units; True keeps.

    `made_for` is the fingerprint of the weights, shapes or tokens of the mask, against use elsewhere. `settings` are
    further arguments for applying it, such as a rescaling factor.
    """

    unit: Unit
    groups: Mapping[str, np.ndarray]
    made_for: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of kept units."""
        return sum(int(np.count_nonzero(mask)) for mask in self.groups.values())

    @property
    def of(self) -> int:
        """Number of all units."""
        return sum(mask.size for mask in self.groups.values())
