"""The attributes that scorers of weights read of a grokking network at a moment of its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from secateur.scorers.lazy import safetensors, torch
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.masks.global_mask import global_mask
from secateur.selectors.masks.groups import Masks, Scores
from secateur.trainers.contract import Data
from secateur.trainers.experiments.contract import TIES
from secateur.trainers.models.registry import networks
from secateur.trainers.pruning.held_masks import maskable


@dataclass(frozen=True)
class Tickets:
    """The dense network at a moment of its run, and the training data as one batch, for scorers of weights."""

    network: Callable[[Data, int], networks.Model]
    """Makes the untrained network of a seed."""
    data: Mapping[str, Data]
    seed: int
    prepared: Path
    moment: str
    keep: float
    entry: ClassVar[str] = "1"
    """Name of the submodule behind the one that passes the ids on."""

    def weights(self, moment: str) -> networks.Model:
        """The dense network at a moment of its run."""
        model = self.network(self.data["train"], self.seed)
        model.load_state_dict(safetensors.load_file(self.prepared / f"{moment}.safetensors"))
        return model

    @cached_property
    def model(self) -> networks.Model:
        """The network with the weights to score."""
        return self.weights(self.moment)

    @property
    def names(self) -> list[str]:
        """Names of the parameters with prunable weights."""
        return list(maskable(self.model))

    @property
    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All training samples."""
        return torch.tensor(self.data["train"].inputs), torch.tensor(self.data["train"].targets)

    @property
    def batches(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The one batch as a list, for GraSP."""
        return [self.batch]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of SynFlow's input of ones, `(vocabulary,)`: counts of tokens, so that each occurs once."""
        return (dict(self.model.named_modules())[self.entry].input_table().shape[0],)  # type: ignore[operator]

    def choose(self, scores: Scores, share: float) -> Masks:
        """Masks of the highest scores over all layers, for SynFlow's rounds."""
        return global_mask(scores, share, seed=derive_seed(self.seed, TIES))
