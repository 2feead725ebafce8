"""Do the inherited weights count, or the smaller network? The experiment removes whole channels.

Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, arXiv 1810.05270, with the filters of Li et al. 2017
(arXiv 1608.08710) and network slimming of Liu et al. 2017 (arXiv 1708.06519).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from secateur.scorers.contract import Count
from secateur.scorers.lazy import nn
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.trainers.contract import Objective, Progress
from secateur.trainers.experiments.contract import Arm, Arms, ArmTrial
from secateur.trainers.experiments.pruning_data import DataName
from secateur.trainers.experiments.random_pruning import NETWORK, BatchSize, NetworkName
from secateur.trainers.experiments.refitting import SCRATCH, BigNetwork, Pruned, Rate, Refits, arms_of, redrawn
from secateur.trainers.judging.network_costs import macs_by_layer, parameters_of
from secateur.trainers.pruning.channels import (
    ChannelLayer,
    channel_layers,
    kept_channels,
    remove_channels,
    torch_pruning,
)
from secateur.trainers.pruning.slimming import scale_penalty

LEAST = {"least": 1}
METHODS = {
    "l1_filter": arms_of(Arm("l1_filter", "layer_mask", LEAST), Arm("", "random_mask", LEAST)),
    # Network slimming selects over all layers together.
    "slimming": arms_of(Arm("slimming", "global_mask", LEAST), Arm("slimming", "shuffled_mask", LEAST)),
}


class NarrowedNetwork(BigNetwork):
    """The big network with its removable channels."""

    @cached_property
    def channels(self) -> Mapping[str, ChannelLayer]:
        """The layers with removable channels, by name."""
        return channel_layers(self.model, self.example)

    @property
    def layers(self) -> list[str]:
        """Names of the layers with removable channels."""
        return list(self.channels)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """`(channels,)` of each layer."""
        return {name: (len(self.model.get_parameter(f"{name}.weight")),) for name in self.channels}

    @property
    def norms(self) -> dict[str, str]:
        """The batch norm behind each layer; raises ValueError for a layer without one."""
        bare = [name for name, layer in self.channels.items() if layer.norm is None]
        if bare:
            raise ValueError(f"slimming: there is no batch norm behind layer {bare[0]!r}; set method: l1_filter")
        return {name: layer.norm for name, layer in self.channels.items() if layer.norm is not None}


class ChannelRefits(Refits):
    """Removes channels of a trained network, then fine-tunes it as published or with the whole config, or trains it
    from scratch for equal epochs (`scratch_e`) or equal work (`scratch_b`).

    `random` removes as many channels of each layer at random, with the config of `fine_tune_tuned`. Needs the extra
    `structured`.
    """

    unit = "channel"
    claim = "A pruned architecture trained from scratch at equal work does as well as with its inherited weights."
    arms: ClassVar[Arms] = METHODS["l1_filter"]
    network = NarrowedNetwork

    def __init__(
        self,
        *,
        method: Annotated[
            Literal["l1_filter", "slimming"],
            Field(description="l1_filter: the same share of each layer; slimming: all layers by batch norm's scales"),
        ] = "l1_filter",
        data: DataName = "digits",
        model: NetworkName = NETWORK,
        width: Count = 64,
        epochs: Count = 24,
        batch_size: BatchSize = 64,
        learning_rate: Rate = 0.1,
        penalty: Annotated[float, Field(ge=0, description="l1 penalty on batch norm's scales with slimming")] = 1e-4,
    ) -> None:
        super().__init__(
            data=data, model=model, width=width, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate
        )
        self.method, self.penalty = method, penalty

    def objective(self, model: nn.Module) -> Objective | None:
        """The penalty on batch norm's scales with slimming, else None."""
        return scale_penalty(model, self.penalty) if self.method == "slimming" else None

    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        """As `Refits.prepare`; raises ImportError if Torch-Pruning is not installed."""
        torch_pruning()
        super().prepare(seed, folder, progress)

    def arm(self, name: str) -> Arm:
        """The arm of that name under the setting `method`."""
        return METHODS[self.method].get(name) or super().arm(name)

    def pruned(self, trial: ArmTrial, units: BigNetwork, masks: Mapping[str, np.ndarray]) -> Pruned:
        """The smaller network; without inherited weights it is drawn anew from the trial's seed."""
        inherit = trial.setting("inherit")
        kept = kept_channels(
            units.model, masks, units.example, of_these_weights=inherit and not self.draws_units(trial)
        )
        smaller = remove_channels(units.model, kept, units.example)
        if not inherit:
            redrawn(smaller, derive_seed(trial.seed, SCRATCH))
        return Pruned(smaller, kept, macs_by_layer(smaller, units.example)[""], parameters_of(smaller))
