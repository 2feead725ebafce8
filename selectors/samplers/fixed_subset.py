"""Train on one subset throughout: the rows of a one-shot selector, in a new order each epoch."""

import numpy as np

from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.draws.ranks import Keep
from secateur.selectors.samplers.contract import Draw, EpochSampler, Shard, shuffled


class FixedSubset(EpochSampler):
    """The rows where `keep`, bool `[samples]`, is True; in a new random order each epoch, or in data-set order.

    Raises ValueError where nothing is kept.

    >>> sampler = FixedSubset(np.array([True, False, True, True]))
    >>> sampler.set_epoch(0)
    >>> sorted(sampler)
    [0, 2, 3]
    """

    def __init__(
        self,
        keep: Keep,
        shard: Shard = Shard(),  # noqa: B008 - frozen
        *,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        self.rows = np.flatnonzero(keep)
        if not len(self.rows):
            raise ValueError(f"the subset keeps none of {len(keep)} samples")
        self.shuffle = shuffle
        super().__init__(len(keep), shard, seed, {"shuffle": shuffle}, {"keep": keep})
        self._counted = not shuffle  # epochs in data-set order are all alike

    def planned(self, epoch: int) -> tuple[int, bool]:
        """Always the same rows."""
        return len(self.rows), True

    def draw(self, epoch: int) -> Draw:
        """The rows."""
        return (
            shuffled(self.rows, derive_seed(self.seed, epoch, 1))
            if self.shuffle
            else Draw(len(self.rows), self.rows.take)
        )
