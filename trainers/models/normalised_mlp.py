"""A fully connected network that trains from initialisation without most of its weights."""

import itertools
import math

from torch import nn

from secateur.trainers.contract import reads


@reads("numbers")
def normalised_mlp(shape: tuple[int, ...], classes: int, *, width: int = 64, layers: int = 3) -> nn.Module:
    """Hidden layers of one width, each with batch norm and ReLU.

    A sparse network needs batch norm to learn: without it signals vanish in nearly empty layers. Raises ValueError for
    `width` or `layers` below 1.
    """
    if width < 1 or layers < 1:
        raise ValueError(f"normalised_mlp needs a width and a number of layers from 1, not {width} and {layers}")
    found: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise([math.prod(shape), *[width] * layers]):
        found += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*found, nn.Linear(width, classes))
