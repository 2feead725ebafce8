"""The mask of one weight as a network of its own, whose class needs torch when it is declared."""

import math
from collections.abc import Sequence

import torch
from torch import nn


class SoftMask(nn.Module):
    """The mask of one weight `[out, in, …]` as a parametrisation: m(w) w, of the weight's shape and type.

    Units are compared within groups: the weights of a layer, M of its inputs in a row, or its filters by their L2 norm.
    The threshold t is found anew in each forward pass. A gradient goes through it only with `through`: to the two units
    that it lies between, half of it each. None goes through τ, which is `temperature` itself where it is `absolute`,
    else so many times the layer's t² (its mean over groups). A temperature of 0, or `hard`, makes the mask 0 or 1: a
    gradient then reaches only what stays. Where t² is 0, because what is to go is 0 already, the mask is what it tends
    to: sigmoid(-1 / temperature) of zeros, 1 of the others. While nothing is to go the weight is used as is.

    What changes in a run are buffers, int64, so that states of the model hold them: `pruned` and `final` units of each
    group that go now and at the end (-1 before that is decided), and whether it is `hard` now.
    """

    pruned: torch.Tensor
    final: torch.Tensor
    hard: torch.Tensor

    def __init__(
        self, size: int, *, form: str, m: int, temperature: float, absolute: bool, through: bool = False
    ) -> None:
        super().__init__()
        self.through = through
        self.size, self.form, self.m, self.temperature, self.absolute = size, form, m, temperature, absolute
        self.register_buffer("pruned", torch.tensor(0))
        self.register_buffer("final", torch.tensor(-1))
        self.register_buffer("hard", torch.tensor(0))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight times its mask, of the same shape."""
        pruned = int(self.pruned)
        return weight * self.mask(weight, pruned) if pruned else weight

    def mask(self, weight: torch.Tensor, pruned: int) -> torch.Tensor:
        """m(w), of a shape that broadcasts over the weight, where so many units of each group are to go."""
        squares = self.grouped(weight.square())
        border = threshold(squares.detach().sqrt(), pruned).square()
        hard = (squares.detach() > border).to(weight.dtype)
        if not self.temperature or int(self.hard):
            return self.spread(hard, weight.shape)
        scale = self.temperature * border.mean()
        if self.through:
            border = threshold(self.sizes(weight), pruned).square()
        if self.absolute:
            return self.spread(torch.sigmoid((squares - border) / self.temperature), weight.shape)
        there = scale >= torch.finfo(weight.dtype).tiny
        soft = torch.sigmoid((squares - border) / torch.where(there, scale, torch.ones_like(scale)))
        limit = hard.clamp(min=1 / (1 + math.exp(min(1 / self.temperature, 700.0))))
        return self.spread(torch.where(there, soft, limit), weight.shape)

    def grouped(self, squares: torch.Tensor) -> torch.Tensor:
        """Squares of weights as those of units, `[groups, size]`."""
        if self.form == "channel":
            return squares.flatten(1).sum(1)[None]
        if self.form == "n_of_m":
            return squares.movedim(1, -1).reshape(-1, self.m)
        return squares.reshape(1, -1)

    def sizes(self, weight: torch.Tensor) -> torch.Tensor:
        """Magnitudes of units, `[groups, size]`, whose gradient is 0 at 0, where that of a square root is infinite."""
        if self.form == "channel":
            norms: torch.Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
            return norms[None]
        return self.grouped(weight.abs())

    def spread(self, units: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """A value per unit `[groups, size]` at each weight; of filters `[out, 1, …]`."""
        if self.form == "channel":
            return units.reshape(-1, *[1] * (len(shape) - 1))
        if self.form == "n_of_m":
            return units.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1)
        return units.reshape(tuple(shape))


def threshold(values: torch.Tensor, pruned: int) -> torch.Tensor:
    """Halfway between the largest value that goes and the smallest that stays of each row `[groups, size]`.

    `[groups, 1]`. Raises ValueError where not at least one goes and one stays.
    """
    if not 0 < pruned < values.shape[1]:
        raise ValueError(f"no threshold lies between {pruned} of {values.shape[1]} units and the others")
    below = values.kthvalue(pruned, dim=1, keepdim=True).values
    return (below + values.kthvalue(pruned + 1, dim=1, keepdim=True).values) / 2
