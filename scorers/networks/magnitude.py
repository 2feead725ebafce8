"""Size of weights."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.scorers.contract import scorer
from secateur.scorers.lazy import nn
from secateur.scorers.networks.gradients import Groups


@scorer(
    unit="weight",
    high_means="more important",
    view="the weights as they are",
    paper="Han et al. 2015, arXiv 1506.02626",
)
def magnitude(model: nn.Module, names: Sequence[str]) -> Groups:
    """Absolute value of each weight of the parameters `names`.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 1)
    >>> _ = torch.nn.init.constant_(layer.weight, -3.0)
    >>> magnitude(layer, ["weight"])
    {'weight': array([[3., 3.]], dtype=float32)}
    """
    parameters = dict(model.named_parameters())
    return {name: parameters[name].detach().abs().float().cpu().numpy().copy() for name in names}
