"""The mask of one weight as a module, in its own file because the class needs torch when it is declared."""

import math
from collections.abc import Sequence

import torch
from torch import nn


class SoftMask(nn.Module):
    """The mask of one weight `[out, in, …]` as a parametrisation: m(w) w, of the weight's shape and dtype.

    The threshold compares units within groups: the weights of a layer, M consecutive inputs, or filters by their L2
    norm. Each forward pass computes the threshold t anew. Only with `through` gradients go through it, half to each of
    the two units on either side. No gradient goes through τ: it is `temperature` if `absolute`, else `temperature`
    times the layer's t² (its mean over groups). With a temperature of 0, or with `hard`, the mask is 0 or 1, and
    gradients reach only kept units. If t² is 0, because the pruned units are 0 already, the mask is its limit:
    sigmoid(-1 / temperature) for zeros, 1 for the others. Without pruned units the weight does not change.

    The changing state is in int64 buffers, so that the model's state holds it: `pruned` and `final` are the numbers of
    pruned units per group now and at the end (-1 while undecided), `hard` is whether the mask is hard now.
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
        """m(w) with so many pruned units per group, of a shape that broadcasts over the weight."""
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
        """Squares of units from squares of weights, `[groups, size]`."""
        if self.form == "channel":
            return squares.flatten(1).sum(1)[None]
        if self.form == "n_of_m":
            return squares.movedim(1, -1).reshape(-1, self.m)
        return squares.reshape(1, -1)

    def sizes(self, weight: torch.Tensor) -> torch.Tensor:
        """Magnitudes of units, `[groups, size]`, with a gradient of 0 at 0, where a square root has an infinite one."""
        if self.form == "channel":
            norms: torch.Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
            return norms[None]
        return self.grouped(weight.abs())

    def spread(self, units: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """Values of units `[groups, size]` at each weight; for filters `[out, 1, …]`."""
        if self.form == "channel":
            return units.reshape(-1, *[1] * (len(shape) - 1))
        if self.form == "n_of_m":
            return units.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1)
        return units.reshape(tuple(shape))


def threshold(values: torch.Tensor, pruned: int) -> torch.Tensor:
    """The middle between the largest pruned and the smallest kept value of each row `[groups, size]`.

    `[groups, 1]`. Raises ValueError unless it prunes and keeps at least one.
    """
    if not 0 < pruned < values.shape[1]:
        raise ValueError(f"no threshold lies between {pruned} of {values.shape[1]} units and the others")
    below = values.kthvalue(pruned, dim=1, keepdim=True).values
    return (below + values.kthvalue(pruned + 1, dim=1, keepdim=True).values) / 2
