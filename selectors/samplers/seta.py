"""SeTa: leave some samples out at random, then slide a window over clusters of the losses (Zhou, Gao and Wang, "Scale
Efficient Training for Large Datasets", CVPR 2025, arXiv 2503.13385).
"""

import math
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float32
from pydantic import Field

from secateur.selectors.contract import resolve_keep
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.draws.one_dimensional_k_means import cluster_limits
from secateur.selectors.draws.ranks import keep_between
from secateur.selectors.samplers.contract import Draw, EpochSampler, KeptShare, Shard, shuffled
from secateur.selectors.samplers.info_batch import part
from secateur.selectors.samplers.observed_losses import ObservedLosses


class Seta(EpochSampler):
    """Each epoch draws the share 1 - `prune` of all samples, and keeps those in a window of loss clusters.

    Losses form `groups` clusters from easy to hard, by k-means or, with `clusters="quantile"`, of equal size (k-means
    clusters of training losses differ in size a hundredfold, and so do the epochs; squared residuals, of which a few
    are far larger than all others, need `quantile`). There are no more clusters than distinct losses. The window is
    `window` of the clusters wide, rounded half to even as in the published code, or up as in the paper; it moves one
    cluster per epoch and starts over. Epoch 0 keeps all. Samples not seen yet are in every window.

    `floor` (a fraction, or a count) is the least that an epoch holds: samples from outside the window fill it up.
    `keep` sets the exact number of samples in every epoch: a random draw then adds or removes the difference, and
    `prune` is not used.

    From epoch `anneal_from` · epochs on, it keeps the random share alone. Weights are always 1.

    >>> import torch
    >>> sampler = Seta(8, epochs=10, prune=0.0, groups=2, window=0.5)
    >>> sampler.set_epoch(0)
    >>> sampler.observe(torch.arange(8), torch.tensor([0.1, 0.1, 0.1, 0.1, 2.0, 2.0, 2.0, 2.0]))
    >>> sampler.set_epoch(1)
    >>> sorted(sampler)
    [4, 5, 6, 7]
    """

    def __init__(
        self,
        samples: int,
        epochs: int,
        shard: Shard = Shard(),  # noqa: B008 - frozen
        *,
        prune: Annotated[float, Field(ge=0, le=0.9)] = 0.1,
        groups: Annotated[int, Field(ge=1, le=256)] = 5,
        window: Annotated[float, Field(gt=0, le=1)] = 0.9,
        anneal_from: Annotated[float, Field(ge=0, le=1)] = 0.875,
        clusters: Literal["k-means", "quantile"] = "k-means",
        rounding: Literal["half to even", "up"] = "half to even",
        floor: KeptShare | None = None,
        keep: KeptShare | None = None,
        seed: int = 0,
    ) -> None:
        self.budget = None if keep is None else resolve_keep(keep, samples)
        self.size = self.budget or max(1, int((1 - prune) * samples + 1e-9))
        self.floor = 1 if floor is None else resolve_keep(floor, samples)
        self.groups, self.window, self.clusters, self.rounding = groups, window, clusters, rounding
        self.pruned_epochs = int(anneal_from * epochs + 1e-9)
        self.observed = ObservedLosses(samples)
        super().__init__(
            samples, shard, seed, {
                "prune": prune, "groups": groups, "window": window, "anneal_from": anneal_from, "clusters": clusters,
                "rounding": rounding, "floor": floor, "keep": keep,
            }, {"epochs": epochs},
        )  # fmt: skip

    @classmethod
    def refuse(cls, settings: Any, samples: int | None = None) -> None:
        """See `EpochSampler.refuse`."""
        if settings.floor is None:
            return
        if settings.keep is not None:
            raise ValueError("floor is the least and keep the exact number of samples: give one of them")
        if samples is not None:
            left, floor = max(1, int((1 - settings.prune) * samples + 1e-9)), resolve_keep(settings.floor, samples)
            if floor > left:
                raise ValueError(
                    f"a floor of {floor} samples is more than the {left} that prune={settings.prune} leaves"
                )

    def planned(self, epoch: int) -> tuple[int, bool]:
        """Exact with a budget and while annealing; else at most the number that random pruning leaves."""
        return self.size, self.budget is not None or epoch >= self.pruned_epochs

    def draw(self, epoch: int) -> Draw:
        """The window of this epoch, filled up or thinned to a floor or a budget."""
        seed = derive_seed(self.seed, epoch, 1)
        everyone = np.arange(self.samples)
        if epoch >= self.pruned_epochs:
            return shuffled(part(everyone, self.size, derive_seed(seed, 1)), seed)
        pool = everyone if self.budget else part(everyone, self.size, derive_seed(seed, 1))
        inside = self.inside(self.observed.losses.numpy()[pool], epoch, derive_seed(seed, 2))  # type: ignore[union-attr]
        rows, least = pool[inside], self.budget or self.floor
        if len(rows) < least:
            rows = np.concatenate((rows, part(pool[~inside], least - len(rows), derive_seed(seed, 3))))
        elif self.budget:
            rows = part(rows, self.budget, derive_seed(seed, 3))
        return shuffled(rows, seed)

    def inside(self, losses: Float32[np.ndarray, " n"], epoch: int, seed: int) -> Bool[np.ndarray, " n"]:
        """Mask of the samples in the window of a pruned epoch."""
        unseen = np.isnan(losses)
        some = bool(unseen.any())
        known = losses[~unseen] if some else losses
        if epoch == 0 or not len(known):
            return np.ones(len(losses), dtype=np.bool_)
        chosen = self.by_rank(known, epoch, seed) if self.clusters == "quantile" else self.by_distance(known, epoch)
        if not some:
            return chosen
        unseen[~unseen] = chosen
        return np.asarray(unseen, dtype=np.bool_)

    def by_distance(self, losses: Float32[np.ndarray, " n"], epoch: int) -> Bool[np.ndarray, " n"]:
        """The window over k-means clusters."""
        limits = cluster_limits(losses, self.groups)
        first, beyond = window_of(epoch, len(limits) + 1, self.window, self.rounding)
        inside = np.ones(len(losses), dtype=np.bool_)
        if first:
            inside &= losses > limits[first - 1]
        if beyond <= len(limits):
            inside &= losses <= limits[beyond - 1]
        return inside

    def by_rank(self, losses: Float32[np.ndarray, " n"], epoch: int, seed: int) -> Bool[np.ndarray, " n"]:
        """The window over groups of equal size, with equal losses in random order."""
        groups = min(self.groups, len(losses))
        first, beyond = window_of(epoch, groups, self.window, self.rounding)
        low, high = first * len(losses) // groups, beyond * len(losses) // groups
        return keep_between(losses, low, high - low, seed=seed)


def window_of(epoch: int, groups: int, window: float, rounding: str) -> tuple[int, int]:
    """First cluster of the window of a pruned epoch, and the one beyond its last.

    >>> [window_of(epoch, 5, 0.6, "half to even") for epoch in range(5)]
    [(0, 5), (1, 4), (2, 5), (0, 3), (1, 4)]
    """
    if epoch == 0:
        return 0, groups
    wide = round(groups * window) if rounding == "half to even" else math.ceil(groups * window - 1e-9)
    wide = min(groups, max(1, wide))
    first = epoch % (groups - wide + 1)
    return first, first + wide
