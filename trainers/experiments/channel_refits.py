"""Is it the inherited weights or the smaller network that counts? Asked of whole channels, which really are removed.

Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, arXiv 1810.05270, with the filters of Li et al. 2017
(arXiv 1608.08710) and network slimming of Liu et al. 2017 (arXiv 1708.06519).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from secateur.scorers.networks import channel_scores
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.masks.layer_ratios import counts_of, uniform
from secateur.selectors.masks.weight_masks import Masks, as_many_at_random, global_masks, layer_masks
from secateur.trainers.contract import Objective, Progress
from secateur.trainers.experiments.pruning_data import DataName
from secateur.trainers.experiments.random_pruning import NETWORK, BatchSize, Count, NetworkName
from secateur.trainers.experiments.refitting import MASKS, SCRATCH, TIES, Pruned, Rate, Refits, redrawn
from secateur.trainers.judging.network_costs import macs_by_layer, parameters_of
from secateur.trainers.models.registry import Model
from secateur.trainers.pruning.channels import (
    ChannelLayer,
    channel_layers,
    kept_channels,
    remove_channels,
    torch_pruning,
)
from secateur.trainers.pruning.slimming import scale_penalty


class ChannelRefits(Refits):
    """Channels removed from a trained network: fine-tuned as published, fine-tuned with the whole config, or from
    scratch at equal epochs (`scratch_e`) or equal work (`scratch_b`).

    `random` removes as many channels of each layer, drawn blindly, and has `fine_tune_tuned`'s config. Needs the extra
    `structured`.
    """

    unit = "channel"
    claim = "A pruned architecture trained from scratch at equal work does as well as with its inherited weights."

    def __init__(
        self,
        *,
        method: Annotated[
            Literal["l1_filter", "slimming"],
            Field(description="the same share of each layer by its filters, or over all layers by batch norm's scales"),
        ] = "l1_filter",
        data: DataName = "digits",
        model: NetworkName = NETWORK,
        width: Count = 64,
        epochs: Count = 24,
        batch_size: BatchSize = 64,
        learning_rate: Rate = 0.1,
        penalty: Annotated[float, Field(ge=0, description="on batch norm's scales while slimming")] = 1e-4,
    ) -> None:
        super().__init__(
            data=data, model=model, width=width, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate
        )
        self.method, self.penalty = method, penalty

    def objective(self, model: nn.Module) -> Objective | None:
        """With the penalty on batch norm's scales where these are the scores."""
        return scale_penalty(model, self.penalty) if self.method == "slimming" else None

    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        """As for any unit; raises ImportError first where Torch-Pruning is not installed."""
        torch_pruning()
        super().prepare(seed, folder, progress)

    def pruned(self, arm: str, keep: float, seed: int, big: Model, example: torch.Tensor) -> Pruned:
        """The smaller network. Where weights are inherited the choice is of these weights, else of any such network."""
        masks = self.masks(keep, seed, big, channel_layers(big, example))
        if arm == "random":
            masks = as_many_at_random(masks, seed=derive_seed(seed, MASKS))
        own = arm in self.inheriting and arm != "random"
        kept = kept_channels(big, masks, example, of_these_weights=own)
        smaller = remove_channels(big, kept, example)
        if arm not in self.inheriting:
            redrawn(smaller, derive_seed(seed, SCRATCH))
        return Pruned(smaller, kept, macs_by_layer(smaller, example)[""], parameters_of(smaller))

    def masks(self, keep: float, seed: int, big: Model, layers: Mapping[str, ChannelLayer]) -> Masks:
        """The channels that the method keeps, exactly the budget in all and one at least of each layer."""
        ties = derive_seed(seed, TIES)
        if self.method == "slimming":
            bare = [name for name, layer in layers.items() if layer.norm is None]
            if bare:
                raise ValueError(f"slimming: there is no batch norm behind layer {bare[0]!r}; set method: l1_filter")
            norms = {name: layer.norm for name, layer in layers.items() if layer.norm is not None}
            return global_masks(channel_scores.slimming(big, norms), keep, seed=ties, least=1)
        scores = channel_scores.l1_filter(big, list(layers))
        shapes = {name: values.shape for name, values in scores.items()}
        return layer_masks(scores, counts_of(shapes, uniform(shapes, keep), keep), seed=ties)
