"""What scorers of weights read of a network that groks, at a moment of its run."""

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
    """What scorers of weights read: the dense network at a moment of its run, and the training data as one batch."""

    network: Callable[[Data, int], networks.Model]
    """Makes the untrained network of a seed."""
    data: Mapping[str, Data]
    seed: int
    prepared: Path
    moment: str
    keep: float
    entry: ClassVar[str] = "1"
    """The submodule behind what passes the ids on."""

    def weights(self, moment: str) -> networks.Model:
        """The dense network at a moment of its run."""
        model = self.network(self.data["train"], self.seed)
        model.load_state_dict(safetensors.load_file(self.prepared / f"{moment}.safetensors"))
        return model

    @cached_property
    def model(self) -> networks.Model:
        """The network whose weights are scored."""
        return self.weights(self.moment)

    @property
    def names(self) -> list[str]:
        """Parameters whose weights are pruned."""
        return list(maskable(self.model))

    @property
    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All training samples."""
        return torch.tensor(self.data["train"].inputs), torch.tensor(self.data["train"].targets)

    @property
    def batches(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The same, for GraSP."""
        return [self.batch]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what SynFlow puts ones into: how often each token occurs, once each."""
        return (dict(self.model.named_modules())[self.entry].input_table().shape[0],)  # type: ignore[operator]

    def choose(self, scores: Scores, share: float) -> Masks:
        """The highest scores over all layers, for SynFlow's rounds."""
        return global_mask(scores, share, seed=derive_seed(self.seed, TIES))
