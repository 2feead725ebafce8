"""Units of a network that a mask keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secateur.scorers.contract import Unit


@dataclass(frozen=True)
class Kept:
    """Which units stay: a bool array per group (layer, tensor, prompt), of the shape of what it masks; True stays.

    `made_for` tells what the mask belongs to, so that it is refused elsewhere: the fingerprint of the weights, the
    shapes or the tokens that it was made on. `settings` is what applying it needs besides, such as a rescaling factor.
    """

    unit: Unit
    groups: Mapping[str, np.ndarray]
    made_for: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Units that stay."""
        return sum(int(np.count_nonzero(mask)) for mask in self.groups.values())

    @property
    def of(self) -> int:
        """Units in all."""
        return sum(mask.size for mask in self.groups.values())
