"""Size of the filter behind each output channel."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.scorers.contract import scorer
from secateur.scorers.lazy import nn
from secateur.scorers.networks.gradients import Groups


@scorer(
    unit="channel",
    high_means="more important",
    view="the weights as they are",
    paper="Li et al. 2017, Pruning Filters for Efficient ConvNets, arXiv 1608.08710, section 3.1",
)
def l1_filter(model: nn.Module, layers: Sequence[str]) -> Groups:
    """Sum of the absolute weights of each output filter.

    `layers` are names of modules whose `weight` is `[channels, …]`; biases do not count. Sums are float64.
    """
    weights = {name: model.get_parameter(f"{name}.weight").detach().double().cpu() for name in layers}
    return {name: weight.abs().flatten(1).sum(1).float().numpy() for name, weight in weights.items()}
