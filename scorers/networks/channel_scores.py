"""How much each output channel of a layer matters: the size of its filter, or of its scale in batch norm.

Scores are float32 `[channels]` by layer name, summed in float64; high means that the channel stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from secateur.scorers.lazy import nn

Scores = dict[str, np.ndarray]


def l1_filter(model: nn.Module, layers: Sequence[str]) -> Scores:
    """Sum of the absolute weights of each output filter (Li et al. 2017, arXiv 1608.08710, section 3.1).

    `layers` are names of modules whose `weight` is `[channels, …]`; biases do not count.
    """
    found = {}
    for name in layers:
        weight = model.get_parameter(f"{name}.weight").detach().double().cpu()
        found[name] = weight.abs().flatten(1).sum(1).float().numpy()
    return found


def slimming(model: nn.Module, norms: Mapping[str, str]) -> Scores:
    """Absolute scale of each channel in the batch norm behind its layer (Liu et al. 2017, arXiv 1708.06519, section 3).

    `norms` names that batch norm by layer. The scales tell channels apart where training has pulled them towards zero.
    """
    scales = {layer: model.get_parameter(f"{norm}.weight") for layer, norm in norms.items()}
    return {layer: scale.detach().abs().float().cpu().numpy().copy() for layer, scale in scales.items()}
