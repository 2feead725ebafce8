"""Scale of each channel in batch norm."""

from __future__ import annotations

from collections.abc import Mapping

from secateur.scorers.contract import scorer
from secateur.scorers.lazy import nn
from secateur.scorers.networks.gradients import Groups


@scorer(
    unit="channel",
    high_means="more important",
    view="batch norm's scales as they are",
    paper="Liu et al. 2017, Network Slimming, arXiv 1708.06519, section 3",
)
def slimming(model: nn.Module, norms: Mapping[str, str]) -> Groups:
    """Absolute scale of each channel in the batch norm behind its layer.

    `norms` names that batch norm by layer. The scales tell channels apart where training has pulled them towards zero.
    """
    scales = {layer: model.get_parameter(f"{norm}.weight") for layer, norm in norms.items()}
    return {layer: scale.detach().abs().float().cpu().numpy().copy() for layer, scale in scales.items()}
