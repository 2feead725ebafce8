"""A fully connected network that can be trained from the start with most of its weights gone."""

import itertools
import math

from torch import nn

from secateur.trainers.contract import reads


@reads("numbers")
def normalised_mlp(shape: tuple[int, ...], classes: int, *, width: int = 64, layers: int = 3) -> nn.Module:
    """Hidden layers of one width, each with batch norm and ReLU.

    Batch norm is what lets a sparse network learn: without it signals die away between layers that are nearly empty.
    """
    if width < 1 or layers < 1:
        raise ValueError(f"normalised_mlp needs a width and a number of layers from 1, not {width} and {layers}")
    found: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise([math.prod(shape), *[width] * layers]):
        found += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*found, nn.Linear(width, classes))
