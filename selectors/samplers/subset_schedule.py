"""Train on a subset that grows or shrinks with the epochs: a curriculum (Bengio et al., ICML 2009), with pacing as in
Hacohen and Weinshall, "On The Power of Curriculum Learning in Training Deep Networks" (ICML 2019).
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from secateur.scorers.contract import Scores, finite
from secateur.selectors.contract import resolve_keep
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.draws.ranks import keep_smallest
from secateur.selectors.samplers.contract import Draw, EpochSampler, KeptShare, Shard, shuffled


class SubsetSchedule(EpochSampler):
    """Each epoch takes a number of samples from one end of a score; subsets are nested, and the same at one size.

    `keeps` are fractions or counts: `steps` holds each for an equal part of the epochs, `line` joins them by straight
    lines, from the first epoch with the first to the last with the last. `first` names the end to begin with: with
    scores that are high for hard samples, `low` goes from easy to hard. Equal scores are ordered at random by
    `seed`, so constant scores make a random subset that changes its size.

    >>> sampler = SubsetSchedule(np.float32([0.9, 0.1, 0.5, 0.3]), 2, keeps=(2, 4), first="low")
    >>> for epoch in range(2):
    ...     sampler.set_epoch(epoch)
    ...     print(sorted(sampler))
    [1, 3]
    [0, 1, 2, 3]
    """

    def __init__(
        self,
        scores: Scores,
        epochs: int,
        shard: Shard = Shard(),  # noqa: B008 - frozen
        *,
        keeps: Annotated[tuple[KeptShare, ...], Field(min_length=1)],
        pace: Literal["steps", "line"] = "steps",
        first: Literal["low", "high"] = "low",
        seed: int = 0,
    ) -> None:
        if epochs < 1 or not keeps:
            raise ValueError(f"a schedule needs epochs and keeps, got {epochs} and {keeps}")
        samples = len(scores)
        self.ranking = finite(scores, "scores") if first == "low" else -finite(scores, "scores")
        self.sizes = sizes_of([resolve_keep(keep, samples) for keep in keeps], epochs, pace)
        settings = {"keeps": keeps, "pace": pace, "first": first}
        super().__init__(samples, shard, seed, settings, {"scores": scores, "epochs": epochs})

    def planned(self, epoch: int) -> tuple[int, bool]:
        """The scheduled size; beyond the end, the last one."""
        return self.sizes[min(epoch, len(self.sizes) - 1)], True

    def draw(self, epoch: int) -> Draw:
        """The subset, shuffled."""
        size, _ = self.planned(epoch)
        rows = np.flatnonzero(keep_smallest(self.ranking, size, seed=self.seed))
        return shuffled(rows, derive_seed(self.seed, epoch, 1))


def sizes_of(targets: list[int], epochs: int, pace: str) -> list[int]:
    """Samples in each epoch."""
    if pace == "steps" or len(targets) == 1 or epochs == 1:
        return [targets[epoch * len(targets) // epochs] for epoch in range(epochs)]
    places = np.linspace(0, len(targets) - 1, epochs)
    return [int(size) for size in np.floor(np.interp(places, range(len(targets)), targets) + 0.5)]
